"""How long work says how far it is: its stages, what each costs, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Progress = Callable[[str, int, int | None], None]
"""Is called with the stage, how much of it is done, and of how much (``None`` when that is not known).

A stage begins with the first call that names it and ends with the first call that names another. A callable
that has a method ``expect`` also receives the stages that will come (see `Forecast.expect`). One that has a
method ``training`` receives the `TrainingStatus` of a training in place of a call."""


@dataclass(frozen=True)
class TrainingStatus:
    """The state of a training in the middle of an epoch.

    Attributes:
        epoch: the present one, from 0.
        epochs: how many there will be.
        batch: batches of it that are done.
        batches: how many it has, ``None`` when that is not known.
        updates: steps of the optimizer so far.
        loss: mean of the epoch so far, ``None`` before it has been looked at.
        rate: samples in a second, over all processes.
        left: seconds until the end, ``None`` when that is not known.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int | None
    updates: int
    loss: float | None
    rate: float
    left: float | None

    @property
    def stage(self) -> str:
        """The epoch as a stage: ``"epoch 2/5"``."""
        return f"epoch {self.epoch + 1}/{self.epochs}"


def tell_training(progress: Progress, status: TrainingStatus) -> None:
    """Hand ``progress`` the state of a training, or the epoch and its batches where it takes only these."""
    listener = getattr(progress, "training", None)
    if listener is None:
        progress(status.stage, status.batch, status.batches)
    else:
        listener(status)


def tell(progress: Progress | None, stage: str, done: int = 0, total: int | None = None) -> None:
    """Call ``progress``, if there is one; without further arguments: ``stage`` begins.

    Args:
        progress: what is called, or ``None``.
        stage: name of the stage.
        done: how much of it is done.
        total: of how much; ``None`` when that is not known.
    """
    if progress is not None:
        progress(stage, done, total)


def expect(progress: Progress | None, stages: Mapping[str, float]) -> None:
    """Tell a ``progress`` that makes forecasts which stages will come and what they cost.

    Args:
        progress: a callable without a method ``expect`` is left alone.
        stages: stage -> its cost in forward passes of one sample, in the order in which they will run.
    """
    listener = getattr(progress, "expect", None)
    if listener is not None:
        listener(stages)


def prefixed(progress: Progress | None, prefix: str) -> Progress | None:
    """``progress`` with ``prefix`` before the names of stages; ``None`` without it."""
    return None if progress is None else _Prefixed(progress, prefix)


class _Prefixed:
    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress, self._prefix = progress, prefix

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self._progress(self._prefix + stage, done, total)

    def training(self, status: TrainingStatus) -> None:
        tell_training(self._progress, status)

    def expect(self, stages: Mapping[str, float]) -> None:
        expect(self._progress, {self._prefix + name: cost for name, cost in stages.items()})


@dataclass
class _Stage:
    """Seconds it took so far, the part of it that is done (0 to 1), and its cost where that is known."""

    cost: float | None = None
    seconds: float = 0.0
    part: float = 0.0
    begun: bool = False


class Forecast:
    """Keeps the time of every stage and estimates how long the rest of the work will take.

    Costs are in forward passes of one sample. How many seconds such a pass takes is learnt from all stages of
    known cost so far, the present one included; stages that have begun go by their own pace.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._since = self._start
        self._stages: dict[str, _Stage] = {}
        self._order: list[str] = []
        self.stage: str | None = None
        self._planned = False
        self._past_seconds = self._past_cost = 0.0

    def expect(self, stages: Mapping[str, float]) -> None:
        """Take note of stages that will come, in this order; one that has ended will come again.

        Args:
            stages: stage -> its cost in forward passes of one sample, 0 for what takes next to no time;
                without any, the stages that run are all that there will be.
        """
        self._planned = True
        place = 0 if self.stage is None else self._order.index(self.stage) + 1
        for name, cost in stages.items():
            if name in self._stages and name != self.stage and self._stages[name].begun:
                place -= self._order.index(name) < place
                self._file(name)
            if name in self._stages:
                place = max(place, self._order.index(name) + 1)
                self._stages[name].cost = float(cost)
                continue
            self._stages[name] = _Stage(float(cost))
            self._order.insert(place, name)
            place += 1

    def _file(self, name: str) -> None:
        """Take a stage that has ended out of the order; its time still says how long a pass takes."""
        entry = self._stages.pop(name)
        self._order.remove(name)
        if entry.cost:
            self._past_seconds += entry.seconds
            self._past_cost += entry.cost

    def update(self, stage: str, done: int, total: int | None) -> None:
        """The present stage is ``stage``, and ``done`` of ``total`` of it is done.

        Args:
            stage: name of the stage.
            done: how much of it is done.
            total: of how much; ``None`` when that is not known.
        """
        if stage != self.stage:
            self.end()
            self._begin(stage)
        entry = self._stages[stage]
        entry.part = min(1.0, done / total) if total else 0.0

    def _begin(self, stage: str) -> None:
        if stage in self._stages and self._stages[stage].begun:
            cost = self._stages[stage].cost
            self.expect({stage: cost}) if cost else self._file(stage)
        if stage not in self._stages:
            self._stages[stage] = _Stage()
            self._order.insert(0 if self.stage is None else self._order.index(self.stage) + 1, stage)
        for name in self._order[: self._order.index(stage)]:
            if not self._stages[name].begun:
                self._order.remove(name)
                del self._stages[name]
        self._stages[stage].begun = True
        self.stage, self._since = stage, self._clock()

    def end(self) -> float:
        """The present stage has ended; the seconds it took."""
        if self.stage is None:
            return 0.0
        entry, now = self._stages[self.stage], self._clock()
        entry.seconds, entry.part, self._since = entry.seconds + now - self._since, 1.0, now
        return entry.seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return self._clock() - self._start

    @property
    def spent(self) -> float:
        """Seconds that the present stage has taken so far."""
        if self.stage is None:
            return 0.0
        return self._stages[self.stage].seconds + self._clock() - self._since

    def left(self) -> float | None:
        """Seconds until the end of all stages that are expected, ``None`` while it is not known."""
        if not self._planned or self.stage is None:
            return None
        current, spent = self._stages[self.stage], self.spent
        pace = self._pace(current, spent)
        rest = self._rest(current, spent, pace)
        coming = [entry.cost or 0.0 for entry in self._stages.values() if not entry.begun]
        if rest is None or (pace is None and current.part == 0) or (pace is None and any(coming)):
            return None
        return rest + (pace or 0.0) * sum(coming)

    def _pace(self, current: _Stage, spent: float) -> float | None:
        """Seconds of a forward pass of one sample, by all stages of known cost."""
        seconds, cost = self._past_seconds, self._past_cost
        for entry in self._stages.values():
            if entry.cost and entry.part > 0:
                seconds += spent if entry is current else entry.seconds
                cost += entry.cost * entry.part
        return seconds / cost if cost else None

    @staticmethod
    def _rest(current: _Stage, spent: float, pace: float | None) -> float | None:
        """Seconds that are left of the present stage."""
        if current.part > 0:
            return spent * (1 - current.part) / current.part
        if current.cost is None:
            return 0.0
        return None if pace is None else max(0.0, current.cost * pace - spent)
