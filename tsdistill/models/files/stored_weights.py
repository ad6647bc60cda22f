"""Stored tensors in a module, and their differences from those of an architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written
from tsdistill.torch_private import buffers_of, parameters_of

Shapes = Mapping[str, tuple[int, ...]]

_FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Difference:
    """How the tensors of a file and those of an architecture differ (counters of batch norms aside).

    Attributes:
        missing: names that the architecture has and the file has not.
        unexpected: names that only the file has.
        reshaped: names of both whose shapes differ.
        text: one clause for people, with the first difference and the counts.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    text: str

    @property
    def count(self) -> int:
        """How many names differ."""
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, without the counters of batch norms, which some files leave out."""
    return {name: tuple(t.shape) for name, t in tensors.items() if not is_counter(name)}


def is_counter(name: str) -> bool:
    """Whether ``name`` is a batch norm's count of batches, which no output depends on."""
    return name.rpartition(".")[2] == _COUNTER


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of ``model.state_dict()``, tied ones under each of their names."""
    return {name: t for name, t in model.state_dict(keep_vars=True).items() if isinstance(t, torch.Tensor)}


def difference(file: Shapes, arch: Shapes, arch_name: str) -> Difference:
    """Compare the shapes in a file with those of the architecture ``arch_name``.

    Args:
        file: shapes in the file, by name.
        arch: shapes of the architecture, by name.
        arch_name: what the message calls the architecture.
    """
    missing = tuple(name for name in arch if name not in file)
    unexpected = tuple(name for name in file if name not in arch)
    reshaped = tuple(name for name in arch if name in file and file[name] != arch[name])
    if reshaped:
        first = reshaped[0]
        text = f"{first} is {list(file[first])} in the file and {list(arch[first])} in {arch_name}"
    elif missing:
        text = f"the file has no {missing[0]} {list(arch[missing[0]])}"
    elif unexpected:
        text = f"{arch_name} has no {unexpected[0]} {list(file[unexpected[0]])}"
    else:
        return Difference((), (), (), "nothing differs")
    counts = ((missing, "missing"), (unexpected, "unexpected"), (reshaped, "of another shape"))
    tally = ", ".join(f"{len(names)} {what}" for names, what in counts if names)
    return Difference(missing, unexpected, reshaped, f"{text} ({tally}, of {len(arch)} tensors)")


def place(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], tied: Mapping[str, str] | None = None
) -> None:
    """Replace parameters and buffers of ``model`` by ``tensors``, whatever their shapes and types.

    Names that are not in ``tensors`` are left alone; the tensors are used as they are, not copied.

    Args:
        model: the module to change.
        tensors: values by name.
        tied: which names share the parameter of another name. ``None``: those that share one in ``model``.
    """
    slots = [(owner, leaf, name, id(old), old.requires_grad) for owner, leaf, name, old in _slots(model)]
    keys = {name: str(old) if tied is None else tied.get(name, name) for _, _, name, old, _ in slots}
    shared: dict[str, nn.Parameter] = {}
    for _, _, name, _, wanted in slots:
        if name in tensors and keys[name] not in shared:
            tensor = tensors[name]
            grad = wanted and (tensor.is_floating_point() or tensor.is_complex())
            shared[keys[name]] = nn.Parameter(tensor.detach(), requires_grad=grad)
    for owner, leaf, name, _, _ in slots:
        if keys[name] in shared:
            parameters_of(owner)[leaf] = shared[keys[name]]
    for prefix, module in model.named_modules(remove_duplicate=False):
        for leaf in list(buffers_of(module).keys()):  # a scripted module's table can only be asked
            name = f"{prefix}.{leaf}" if prefix else leaf
            if name in tensors:
                buffers_of(module)[leaf] = tensors[name].detach()


def fill(model: nn.Module, choices: Iterable[Mapping[str, torch.Tensor]], arch: str, path: object) -> None:
    """Put the weights of a file into ``model``: of several spellings of their names the one that fits.

    Args:
        model: the module to change; it uses the tensors as they are.
        choices: the same tensors, with and without the prefixes of wrappers.
        arch: what the message calls the model.
        path: the file, for messages.

    Raises:
        TsdistillError: the weights are not those of this model, or are of another type; says what differs.
    """
    own = state(model)
    expected = shapes_of(own)
    off, best = min(
        ((difference(shapes_of(names), expected, arch), names) for names in choices),
        key=lambda item: item[0].count,
    )
    if off.count:
        raise TsdistillError(f"{path} does not fit {arch}: {off.text}; give another {written('arch')}")
    check_types(own, best, path)
    place(model, best)


def check_types(arch: Mapping[str, torch.Tensor], file: Mapping[str, torch.Tensor], where: object) -> None:
    """Refuse tensors of another kind of number than the architecture's: whole, floating or complex numbers.

    Args:
        arch: tensors of the architecture, by name.
        file: tensors of the file, by name.
        where: begins the message of an error.

    Raises:
        TsdistillError: names the first such tensor; ``where`` begins the message.
    """
    for name, tensor in file.items():
        old = arch.get(name)
        if old is None or (_kind(tensor) == _kind(old) and tensor.layout == torch.strided):
            continue
        raise TsdistillError(
            f"{where}: {name} is stored as {str(tensor.dtype).removeprefix('torch.')}, the architecture "
            f"computes in {str(old.dtype).removeprefix('torch.')}; save the weights before they are quantised"
        )


def unify(model: nn.Module) -> nn.Module:
    """Bring floating-point tensors to one type: that of the parameters, the widest where they differ."""
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if not types:
        return model
    widest = reduce(torch.promote_types, types)
    return change_tensors(model, lambda t: t.to(widest) if t.is_floating_point() else t)


def change_tensors(model: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """Put ``change(tensor)`` in place of every parameter's values, once, and of every buffer."""
    for parameter in model.parameters():
        parameter.data = change(parameter.data)
    for module in model.modules():
        for name, buffer in buffers_of(module).items():
            if buffer is not None:
                buffers_of(module)[name] = change(buffer)
    return model


def check_finite(model: nn.Module, where: str) -> None:
    """Refuse NaN or infinite parameters and running statistics.

    Raises:
        TsdistillError: names the first such tensor and how many there are.
    """
    bad: list[str] = []
    statistics = (
        (n, b) for n, b in model.named_buffers() if n.rpartition(".")[2] in ("running_mean", "running_var")
    )
    for name, tensor in (*model.named_parameters(), *statistics):
        if not tensor.is_meta and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad.append(name)
    if bad:
        more = f" (and {len(bad) - 1} more tensors)" if len(bad) > 1 else ""
        raise TsdistillError(
            f"{where}: {bad[0]} holds NaN or infinite values{more}; take a checkpoint from before it diverged"
        )


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_floating_point():
        return "floating" if tensor.dtype in _FLOATING else str(tensor.dtype)
    return "complex" if tensor.is_complex() else "bool" if tensor.dtype == torch.bool else "whole"


def _slots(model: nn.Module) -> Iterator[tuple[nn.Module, str, str, nn.Parameter]]:
    for prefix, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in parameters_of(module).items():
            if parameter is not None:
                yield module, leaf, f"{prefix}.{leaf}" if prefix else leaf, parameter
