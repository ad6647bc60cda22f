"""What is looked at after every epoch: figures on held-out data, alignment, and who else is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from tsdistill.data import Stream
from tsdistill.distillation.checkpoints import Position
from tsdistill.distillation.tracking import Tracker
from tsdistill.errors import TsdistillError
from tsdistill.evaluation import evaluate
from tsdistill.evaluation.positions import IGNORED

if TYPE_CHECKING:
    from accelerate import Accelerator

JUDGED = {"top1": 1, "agreement": 1, "kl": -1, "mse": -1, "mae": -1, "output_mse": -1}
"""Figures that say which epoch is best, the first that there is, and whether more is better. Those over all
outputs come before those of one (``kl@scores``)."""


class Following:
    """Looks at the student after every epoch.

    Args:
        accelerator: where it runs.
        held_out: samples to judge on, ``None`` for none.
        reference: the teacher, to compare with.
        tracker: follows the alignment.
        told: whether accelerate's trackers are told.
        together: whether all processes run the held-out samples, as a teacher has to whose weights are spread
            over them; otherwise the first does.
        outputs: what the user says of the outputs, by name.
        ignore_index: the label that counts for nothing.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        held_out: Stream | None = None,
        reference: nn.Module | None = None,
        tracker: Tracker | None = None,
        told: bool = False,
        together: bool = False,
        outputs: Mapping[str, str] | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        self._accelerator, self._held_out, self._reference = accelerator, held_out, reference
        self.tracker, self._told = tracker, told
        self._outputs, self._ignore_index = outputs, ignore_index
        self._judges = together or accelerator.is_main_process

    def look(self, model: nn.Module, position: Position) -> dict[str, Any]:
        """``val/...`` and ``alignment/...`` figures of ``model``; processes wait for each other."""
        line: dict[str, Any] = {}
        if self._held_out is not None and self._judges:
            figures = evaluate(
                model,
                self._held_out,
                reference=self._reference,
                outputs=self._outputs,
                ignore_index=self._ignore_index,
            )
            line.update({f"val/{name}": value for name, value in figures.items()})
        if self.tracker is not None:
            line.update(self.tracker.look(f"epoch {position.epoch}"))
        if self._accelerator.num_processes > 1:
            self._accelerator.wait_for_everyone()
        return line

    def track(self, line: Mapping[str, Any], updates: int) -> None:
        """Hand an epoch's figures to accelerate's trackers."""
        if self._told:
            numbers = {
                name: value
                for name, value in line.items()
                if isinstance(value, (int, float)) and not isinstance(value, bool)
            }
            self._accelerator.log(numbers, step=updates)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {} if self.tracker is None else self.tracker.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        if self.tracker is not None and state:
            self.tracker.load_state_dict(state)


def figure_of(line: Mapping[str, Any]) -> tuple[str, float] | None:
    """The name and value that an epoch is judged by, more being better; ``None`` without held-out data."""
    figures = {name.removeprefix("val/"): value for name, value in line.items() if name.startswith("val/")}
    whole = [name for name in JUDGED if name in figures]
    parts = [name for metric in JUDGED for name in figures if name.partition("@")[0] == metric]
    for name in (*whole, *parts):
        if figures[name] is not None:
            return name, JUDGED[name.partition("@")[0]] * float(figures[name])
    return None


def is_best(log: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last epoch of a log is better than all before it."""
    return bool(log) and (best := best_of(log)) is not None and best[0] == log[-1]["epoch"]


def best_of(log: Sequence[Mapping[str, Any]]) -> tuple[int, float] | None:
    """The first epoch (from 1) with the best figure, and that figure as it was measured."""
    judged = [(line, found) for line in log if (found := figure_of(line)) is not None]
    if not judged:
        return None
    line, (name, _) = max(judged, key=lambda pair: (pair[1][1], -pair[0]["epoch"]))
    return int(line["epoch"]), float(line[f"val/{name}"])


def check_tracker(name: str | None) -> None:
    """Refuse a tracker that accelerate does not know or that is not installed.

    Raises:
        TsdistillError: it says which there are.
    """
    if name is None:
        return
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import LoggerType

    there = [str(each.value) for each in get_available_trackers()]
    if name not in there:
        known = name in [str(each.value) for each in LoggerType]
        way = "install its package" if known else f"there are {', '.join(there) or 'none'}"
        raise TsdistillError(f"the tracker {name!r} is not there; {way}")
