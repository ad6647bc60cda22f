"""Asking every metric about every pair of groups; one that raises is left out, and the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsdistill import plugins
from tsdistill.alignment.metrics.metric_protocols import WANTS
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.options.analysis_options import METRIC
from tsdistill.statistics import distributed
from tsdistill.statistics.moments import Moments
from tsdistill.statistics.pairing import Listener

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """What was seen of a pair of groups.

    Attributes:
        group: the student's group.
        moments: those of the pair.
        weights: gives the fan-in of both sides, ``None`` where there is none.
        shape: number of student nodes, and of teacher nodes.
    """

    group: str
    moments: Moments
    weights: Callable[[], tuple[Any, Any]]
    shape: tuple[int, int]


class MetricRunner:
    """The metrics of one analysis.

    Args:
        names: of the metrics, or the metrics themselves, in the order in which they were asked for: one,
            or several.

    Attributes:
        names: likewise, each once.
        failed: metrics that raised, with what they said.

    Raises:
        TsdistillError: there is no metric of such a name, or it does not say what it wants.
    """

    def __init__(self, names: Any) -> None:
        self.names = plugins.names_of(names) or (METRIC,)
        self.failed: dict[str, str] = {}
        self._metrics = {name: plugins.get("alignment metric", name) for name in self.names}
        for name, metric in self._metrics.items():
            if getattr(metric, "wants", None) not in WANTS:
                raise TsdistillError(
                    f"alignment metric {name!r} does not say what it wants; its attribute 'wants' must be "
                    f"one of {', '.join(WANTS)}"
                )
        self._running: dict[str, dict[str, Any]] = {}

    def wants(self, what: str) -> bool:
        """Whether any metric wants ``moments``, ``covariances``, ``batches`` or ``weights``."""
        return any(metric.wants == what for metric in self._metrics.values())

    def listeners(self, group: str, students: int, teachers: int) -> list[Listener]:
        """What is to be handed the rows of a pair of groups of so many nodes."""
        listeners = []
        for name, metric in self._metrics.items():
            if metric.wants == "batches":
                running = self._try(name, partial(metric.start, students, teachers))
                if running is not None:
                    self._running.setdefault(name, {})[group] = running
                    listeners.append(self._listener(name, running))
        return listeners

    def _listener(self, name: str, running: Any) -> Listener:
        def listen(student: Tensor, teacher: Tensor) -> None:
            if name not in self.failed:
                self._try(name, partial(running.update, student, teacher))

        return listen

    def results(self, seen: PairStatistics) -> dict[str, np.ndarray]:
        """What every metric that has not failed says of a pair: a table ``[S, T]``, or a single figure."""
        results = {}
        for name, metric in self._metrics.items():
            if name not in self.failed:
                value = self._try(name, partial(self._ask, name, metric, seen))
                if value is not None:
                    results[name] = value
        return results

    def _ask(self, name: str, metric: Any, seen: PairStatistics) -> np.ndarray | None:
        if metric.wants == "weights":
            student, teacher = seen.weights()
            value = None if student is None or teacher is None else metric.from_weights(student, teacher)
        elif metric.wants == "batches":
            value = self._combined(name, seen.group).finish()
        else:
            value = metric.from_moments(seen.moments)
        if value is None:
            return None
        array = torch.as_tensor(value).detach().double().cpu().numpy()
        if array.ndim and array.shape != seen.shape:
            raise ValueError(f"it gave a result of shape {array.shape} where {seen.shape} was due")
        return array

    def _combined(self, name: str, group: str) -> Any:
        parts = distributed.gather(self._running[name][group])
        if len(parts) > 1 and not hasattr(parts[0], "merge"):
            raise TypeError("what it starts has no merge(), which a job of several processes needs")
        for other in parts[1:]:
            parts[0].merge(other)
        return parts[0]

    def _try(self, name: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as error:  # a plugin may raise anything
            _log.debug("the metric %s fails", name, exc_info=True)
            self.failed[name] = cause_of(error)
            return None


def first_of_nodes(names: Iterable[str], results: Mapping[str, Mapping[str, np.ndarray]]) -> str | None:
    """The first metric that compares nodes and has something to say of every pair of groups; ``None``
    without."""
    for name in names:
        if results and all(name in tables and tables[name].ndim == 2 for tables in results.values()):
            return name
    return None
