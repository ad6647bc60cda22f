"""Which modules of a model are replaced by ones without work, as plain data; and the replacement itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.constant_modules import Constant, PassThrough, put

FORMS = ("tensor", "tuple", "list")
"""What a `Constant` may give."""

_NAMED = 6
"""Modules that a note names at most."""

SizeRule = tuple[int, ...]
"""The size of one dimension of a `Constant`'s output: ``(size,)`` or ``(dim, times, parts, up)``."""


@dataclass(frozen=True)
class Replacement:
    """A module that was replaced.

    Attributes:
        module: its dotted name.
        source: position or keyword of the argument that counts.
        passes: whether that argument goes on as it is (`PassThrough`); otherwise a `Constant` is there, whose
            arguments the other fields are.
        form: what it gives.
        sizes: of every output, dimension by dimension.
        rank: number of dimensions of the output that holds values.
        place: which output holds values.
        axis: its dimension of channels.
        channels: number of values; 0 for zeros.
        writable: whether outputs are memory of their own.
    """

    module: str
    source: int | str
    passes: bool = False
    form: str = "tensor"
    sizes: tuple[tuple[SizeRule, ...] | None, ...] = ()
    rank: int = 0
    place: int = 0
    axis: int = 0
    channels: int = 0
    writable: bool = False

    def build(self) -> nn.Module:
        """The module that takes the place."""
        if self.passes:
            return PassThrough(self.source)
        return Constant(
            self.source,
            self.form,
            self.sizes,
            rank=self.rank,
            place=self.place,
            axis=self.axis,
            channels=self.channels,
            writable=self.writable,
        )


def replacements_of(model: nn.Module) -> Iterator[Replacement]:
    """The replacements that ``model`` holds."""
    for name, module in model.named_modules():
        if isinstance(module, PassThrough):
            yield Replacement(name, module.source, passes=True)
        elif isinstance(module, Constant):
            yield Replacement(
                name,
                module.source,
                form=module.form,
                sizes=module.sizes,
                rank=module.rank,
                place=module.place,
                axis=module.axis,
                channels=0 if module.bias is None else len(module.bias),
                writable=module.writable,
            )


def without_words(model: nn.Module) -> str | None:
    """Which modules of ``model`` are gone with their branches, in words; ``None`` where none are."""
    names = [each.module for each in replacements_of(model)]
    if not names:
        return None
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"gone with removed branches: {', '.join(names[:_NAMED])}{more}"


def replace_modules(model: nn.Module, replacements: Iterable[Replacement]) -> None:
    """Replace modules of ``model``, in place, under every name that they have.

    Raises:
        TsdistillError: there is no module of a name.
    """
    new: dict[str, nn.Module] = {}
    for each in replacements:
        try:
            old = model.get_submodule(each.module)
        except AttributeError as error:
            raise TsdistillError(f"there is no module {each.module!r} to replace") from error
        new[each.module] = _like(each.build(), old)
    put(model, new)


def _like(new: nn.Module, old: nn.Module) -> nn.Module:
    """``new`` in the mode, on the device and of the type of ``old``."""
    parameter = next((p for p in old.parameters() if p.is_floating_point()), None)
    if parameter is not None:
        new.to(parameter.device, parameter.dtype)
    return new.train(old.training)
