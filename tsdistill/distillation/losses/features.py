"""Features that losses read: kept by forward hooks while a block runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from tsdistill.distillation.losses.loss_protocol import INPUT
from tsdistill.errors import TsdistillError


class Features:
    """Hooks on the named places of a model, there only inside ``with``.

    The hooks sit on the modules themselves, so it does not matter what devices or processes have wrapped
    around the model. A module that runs several times leaves what it saw last. Use::

        with features:
            output = wrapped(x)
        seen = features.seen

    Args:
        model: the bare model.
        taps: places, as in ``Loss.student_taps``.
        role: ``"student"`` or ``"teacher"``, for messages.

    Raises:
        TsdistillError: the model has no such module.
    """

    def __init__(self, model: nn.Module, taps: Iterable[str], role: str = "student") -> None:
        modules = dict(model.named_modules())
        self._places: list[tuple[str, nn.Module, bool]] = []
        self._role = role
        for tap in dict.fromkeys(taps):
            name = tap.removesuffix(INPUT)
            if name not in modules:
                raise TsdistillError(f"the {role} has no module {name!r}, which a loss asks for")
            self._places.append((tap, modules[name], tap.endswith(INPUT)))
        self._seen: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    @property
    def taps(self) -> tuple[str, ...]:
        """The places, each once."""
        return tuple(tap for tap, _, _ in self._places)

    @property
    def passed(self) -> Mapping[str, Tensor]:
        """What was seen in the last block, at the places that were passed; held until the next one begins."""
        return self._seen

    @property
    def seen(self) -> Mapping[str, Tensor]:
        """`passed`, once it has every place.

        Raises:
            TsdistillError: a place was not passed.
        """
        missing = [tap for tap, _, _ in self._places if tap not in self._seen]
        if missing:
            raise TsdistillError(
                f"the {self._role}'s forward does not pass {missing[0]}, which a loss asks for; leave that "
                "loss out, or pair other groups"
            )
        return self._seen

    def __enter__(self) -> Features:
        self._seen = {}
        for tap, module, inputs in self._places:
            if inputs:
                self._handles.append(module.register_forward_pre_hook(self._before(tap), with_kwargs=True))
            else:
                self._handles.append(module.register_forward_hook(self._after(tap)))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _before(self, tap: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs.get("input")
            if isinstance(x, Tensor):
                self._seen[tap] = x

        return hook

    def _after(self, tap: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                self._seen[tap] = output

        return hook
