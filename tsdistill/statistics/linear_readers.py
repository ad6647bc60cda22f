"""Which reading layers can compensate for removed nodes: those that are linear in a weight of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.models.layers.effective_weights import (
    effective_weight,
    parameters_behind,
    shared_parameters,
)
from tsdistill.models.layers.layer_kind import (
    LayerKind,
    batch_norms,
    from_blocks,
    groups_of,
    is_plain,
    kind_of,
    weight_blocks,
)
from tsdistill.runtime.calls import Calls, RecordedCall, recorded_calls
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import tensors
from tsdistill.runtime.quantisers import without_rounding
from tsdistill.tracing.graph import Reader
from tsdistill.tracing.model_copy import deepcopy_model

_EQUAL = 1e-3
"""How far outputs that have to be equal may be apart, in parts of what a change of the input makes."""


@dataclass(frozen=True)
class ReaderCapacity:
    """How the weight of a reading layer can compensate for removed nodes.

    Attributes:
        channels: what some input channels gave, where they follow from others.
        constants: what a constant channel gave, as one constant of each output.
    """

    channels: bool
    constants: bool


NOTHING = ReaderCapacity(channels=False, constants=False)


def capacities(
    model: nn.Module, readers: Mapping[str, Reader], names: Collection[str], example: Any
) -> dict[str, ReaderCapacity]:
    """How each of some reading layers can compensate for removed nodes.

    PyTorch's own layers are known. Others (subclasses with a forward of their own) are tried out on what they
    are called with when the model runs on ``example``, their weights changed in a copy.

    Args:
        model: the model; it is left as it was.
        readers: by any key, a reader.
        names: the keys in question.
        example: an input of batch 1.
    """
    asked = {key: readers[key] for key in names}
    own = {r.module for r in asked.values() if r.module and not is_plain(model.get_submodule(r.module))}
    calls = recorded_calls(model, own, example)
    return {key: capacity(model, reader, calls.get(reader.module or "")) for key, reader in asked.items()}


def capacity(model: nn.Module, reader: Reader, call: RecordedCall | None) -> ReaderCapacity:
    """How one reading layer can compensate for removed nodes: `NOTHING` where another layer shares its
    weight, the weight cannot be written, or the layer does not multiply the channels of its input with it."""
    if reader.module is None:
        return NOTHING
    module = model.get_submodule(reader.module)
    weight, kind = effective_weight(module), kind_of(module)
    if weight is None or kind is None or reader.param not in parameters_behind(reader.module, module):
        return NOTHING
    if _shared(model, module, weight.sources) or not weight.mixable():
        return NOTHING
    if is_plain(module):
        return ReaderCapacity(channels=True, constants=not pads_with_zeros(module))
    return NOTHING if call is None else _capacity_by_trial(module, kind, call)


def pads_with_zeros(module: nn.Module) -> bool:
    """Whether one of PyTorch's layers sees a constant input channel as something else at the border."""
    kind = kind_of(module)
    if kind is None or not kind.sides:
        return False
    if kind.output_dim:
        return True
    padding = getattr(module, "padding", 0)
    if getattr(module, "padding_mode", "zeros") != "zeros":
        return False
    if isinstance(padding, tuple):
        return any(padding)
    return padding == "same" and any(side != 1 for side in getattr(module, "kernel_size", ()))


def _shared(model: nn.Module, module: nn.Module, sources: Collection[str]) -> bool:
    shared = shared_parameters(model)
    return any(id(module.get_parameter(source)) in shared for source in sources)


def _capacity_by_trial(module: nn.Module, kind: LayerKind, call: RecordedCall) -> ReaderCapacity:
    """Whether to mix the channels of the input gives what it gives to mix the weight's inputs, and whether to
    add a constant to each channel gives a constant of each output."""
    x = call.input
    trial = _CapacityTrial(module)
    if x is None or x.ndim < 2 or x.shape[kind.channel_dim] != trial.width:
        return NOTHING
    mix, shift = trial.mixes(), torch.randn(trial.width, generator=torch.Generator().manual_seed(1))
    mixed = torch.einsum("ij,...j->...i", mix.to(x), x.movedim(kind.channel_dim, -1))
    plain = trial.run(call)
    wanted = trial.run(call.on(mixed.movedim(-1, kind.channel_dim)))
    if not _alike(trial.run(call, weight=trial.mixed(mix)), wanted, plain):
        return NOTHING
    shape = [-1 if d == kind.channel_dim % x.ndim else 1 for d in range(x.ndim)]
    wanted = trial.run(call.on(x + shift.to(x).reshape(shape)))
    constant = trial.constant(shift)
    if trial.has_bias:
        outputs = trial.run(call, bias=constant)
    elif len(plain) == 1 and plain[0].shape[kind.channel_dim] == len(constant):
        shape = [-1 if d == kind.channel_dim % plain[0].ndim else 1 for d in range(plain[0].ndim)]
        outputs = [plain[0] + constant.to(plain[0]).reshape(shape)]
    else:
        return ReaderCapacity(channels=True, constants=False)
    return ReaderCapacity(channels=True, constants=_alike(outputs, wanted, plain))


def _alike(outputs: list[Tensor], wanted: list[Tensor], plain: list[Tensor]) -> bool:
    """Whether two results are equal, measured by how far they are from that of the plain call."""
    if not len(outputs) == len(wanted) == len(plain) > 0:
        return False
    apart, moved = 0.0, 0.0
    for one, other, before in zip(outputs, wanted, plain, strict=True):
        if not one.shape == other.shape == before.shape:
            return False
        apart = max(apart, float((one - other).abs().max()))
        moved = max(moved, float((other - before).abs().max()))
    return moved > 0 and apart <= _EQUAL * moved


class _CapacityTrial:
    """A layer's call with other weights, in a copy."""

    def __init__(self, module: nn.Module) -> None:
        weight, bias = effective_weight(module), effective_weight(module, "bias")
        assert weight is not None
        self._module, self._groups = module, groups_of(module)
        self._weight, self._bias = weight.read(), bias.read() if bias is not None else None
        self._blocks = weight_blocks(module, self._weight)
        self._inputs = self._blocks.shape[2]
        self.width = self._inputs * self._groups
        self.has_bias = self._bias is not None

    def mixes(self) -> Tensor:
        """A matrix ``[width, width]`` close to no change, each group of channels by itself."""
        generator = torch.Generator().manual_seed(0)
        blocks = [
            torch.eye(self._inputs) + torch.randn(self._inputs, self._inputs, generator=generator)
            for _ in range(self._groups)
        ]
        return torch.block_diag(*blocks)

    def mixed(self, mix: Tensor) -> Tensor:
        """The weight that gives for an input what the present one gives for the mixed input."""
        each = [
            mix[n * self._inputs : (n + 1) * self._inputs, n * self._inputs : (n + 1) * self._inputs]
            for n in range(self._groups)
        ]
        blocks = torch.einsum("goit,gik->gokt", self._blocks, torch.stack(each).to(self._weight))
        return from_blocks(self._module, blocks, self._weight.shape)

    def constant(self, shift: Tensor) -> Tensor:
        """What a constant of each channel gives, ``[outputs]``."""
        by_group = shift.to(self._weight).reshape(self._groups, -1)
        return torch.einsum("goit,gi->go", self._blocks, by_group).reshape(-1)

    def run(
        self, call: RecordedCall, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> list[Tensor]:
        """The results of a call with this weight and with this added to the bias."""
        twin = deepcopy_model(self._module).eval()
        for name, value in (("weight", weight), ("bias", bias)):
            place = effective_weight(twin, name)
            if value is not None and place is not None:
                place.write(value if name == "weight" else place.read() + value)
        devices = {p.device for p in twin.parameters() if p.device.type == "cuda"}
        with torch.no_grad(), torch.random.fork_rng(list(devices)), without_rounding(twin.modules()):
            torch.manual_seed(0)
            return [t.double() for t in tensors(twin(*call.args, **call.kwargs)) if t.is_floating_point()]


def batchnorm_after(model: nn.Module, names: Collection[str], example: Any) -> dict[str, str]:
    """Layers whose output goes to one batch norm and nowhere else, found by running the model once.

    Args:
        model: the model.
        names: dotted names of the layers in question.
        example: an input of batch 1.

    Returns:
        layer name -> name of its batch norm, which keeps running statistics and has no other input.
    """
    modules = dict(model.named_modules())
    norms = batch_norms(model)
    outputs: dict[str, list[Tensor]] = {}
    inputs: dict[str, list[Tensor]] = {}
    calls = Calls()

    def record_output(call: ModuleCall) -> None:
        if isinstance(call.output, Tensor):
            outputs.setdefault(call.name, []).append(call.output)

    def record_input(call: ModuleCall) -> None:
        inputs.setdefault(call.name, []).append(call.args[0])

    layers = ModuleHooks({name: modules[name] for name in names if name in modules}, after=record_output)
    with layers, ModuleHooks(norms, before=record_input), evaluation_mode(model), torch.no_grad(), calls:
        forward(model, example)
    source = {id(own[0]): name for name, own in outputs.items() if len(own) == 1}
    result = {}
    for name, took in inputs.items():
        layer = source.get(id(took[0]))
        users = [call for call in calls.calls if any(tensor is took[0] for tensor in call.tensors())]
        if len(took) == 1 and layer is not None and len(users) == 1:
            result[layer] = name
    return result
