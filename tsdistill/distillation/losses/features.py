"""Features that losses read: kept by forward hooks while a block runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from torch import Tensor, nn

from tsdistill.distillation.losses.loss_protocol import INPUT
from tsdistill.errors import TsdistillError
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import plain_attention


class Features:
    """Hooks on the named places of a model, there only inside ``with``.

    The hooks sit on the modules themselves, so it does not matter what devices or processes have wrapped
    around the model; the fused path of attention, which calls no hooks, is off. A module that runs several
    times leaves what it saw last. Use::

        with features:
            output = wrapped(x)
        seen = features.seen

    Args:
        model: the bare model.
        taps: places, as in ``Loss.student_taps``.
        role: ``"student"`` or ``"teacher"``, for messages.

    Attributes:
        taps: the places, each once.

    Raises:
        TsdistillError: the model has no such module.
    """

    def __init__(self, model: nn.Module, taps: Iterable[str], role: str = "student") -> None:
        modules = dict(model.named_modules())
        self.taps = tuple(dict.fromkeys(taps))
        self._role = role
        for name in (tap.removesuffix(INPUT) for tap in self.taps):
            if name not in modules:
                raise TsdistillError(f"the {role} has no module {name!r}, which a loss asks for")
        places = {tap: modules[tap.removesuffix(INPUT)] for tap in self.taps}
        self._hooks = (
            ModuleHooks({t: m for t, m in places.items() if t.endswith(INPUT)}, before=self._before),
            ModuleHooks({t: m for t, m in places.items() if not t.endswith(INPUT)}, after=self._after),
        )
        self._entered = ExitStack()
        self._seen: dict[str, Tensor] = {}

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
        missing = [tap for tap in self.taps if tap not in self._seen]
        if missing:
            raise TsdistillError(
                f"the {self._role}'s forward does not pass {missing[0]}, which a loss asks for; leave that "
                "loss out, or pair other groups"
            )
        return self._seen

    def __enter__(self) -> Features:
        self._entered.enter_context(plain_attention())
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Put the hooks on, until `close`. The fused path of attention is not taken while gradients are
        wanted, so that a training loop needs no ``with``."""
        self._seen = {}
        for hooks in self._hooks:
            self._entered.enter_context(hooks)

    def close(self) -> None:
        """Take the hooks off."""
        self._entered.close()

    def _before(self, call: ModuleCall) -> None:
        if isinstance(call.first, Tensor):
            self._seen[call.name] = call.first

    def _after(self, call: ModuleCall) -> None:
        if isinstance(call.output, Tensor):
            self._seen[call.name] = call.output
