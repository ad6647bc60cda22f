"""What an alignment metric has to offer, by what it wants to be given.

A metric is an object with a ``name``, by which it is asked for, and ``wants``, one of

=================  ============================  =========================================================
``wants``          called                        with
=================  ============================  =========================================================
``"moments"``      ``from_moments(moments)``     means, variances and the covariances of student with teacher
                                                 nodes; streamed once for all metrics of a run
``"covariances"``  ``from_moments(moments)``     those, and the covariances of each side with itself
``"batches"``      ``start``, then ``update``    the activations themselves, batch by batch
                   and ``finish``
``"weights"``      ``from_weights(student,       fan-in weights of groups that read the raw input; no data
                   teacher)``
=================  ============================  =========================================================

The result is a table ``[S, T]`` (a figure for every student node beside every teacher node, larger is more
alike; from it come the matches) or a 0-dim tensor (one figure for the groups as a whole). NaN says that the
data cannot tell (the report leaves such a figure out; in a table it counts as 0). Metrics keep no state
between calls: what a pass over the data collects is in the accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from tsdistill.statistics.moments import Moments

WANTS = ("moments", "covariances", "batches", "weights")
"""What a metric may want to be given."""


@dataclass(frozen=True, eq=False)
class FanIn:
    """Fan-in of a group that reads the raw input; node k's boundary is ``weight[k] · x + bias[k] = 0``.

    Attributes:
        weight: float64 ``[nodes, inputs…]`` on the CPU; the dimensions after the first are those of the
            layer's weight (input channels and kernel).
        bias: float64 ``[nodes]``; zeros for a layer without bias.
        described: where it comes from, such as ``"conv1.weight, with the batch norm bn1"``.
    """

    weight: Tensor
    bias: Tensor
    described: str


@runtime_checkable
class MomentMetric(Protocol):
    """A metric that is computed from streamed moments."""

    name: str
    wants: str
    """``"moments"``, or ``"covariances"`` when ``moments.cov_s()`` and ``cov_t()`` are needed."""

    def from_moments(self, moments: Moments) -> Tensor:
        """A table ``[S, T]`` or a 0-dim tensor."""
        ...


class Accumulator(Protocol):
    """What a batch metric collects over one pass. It is picklable, so that it can come from another process.

    It may also offer ``merge(other)``, which takes in what another accumulator of its kind has seen; without
    it the metric cannot be used by several processes at once.
    """

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Take in ``student [rows, S]`` and ``teacher [rows, T]``: the same samples (positions counted), as
        the nodes' readers see them, in float32 or float64, on the device of the model. They are not to be
        changed."""
        ...

    def finish(self) -> Tensor:
        """A table ``[S, T]`` or a 0-dim tensor, from at least one batch."""
        ...


@runtime_checkable
class BatchMetric(Protocol):
    """A metric that has to see the activations themselves; ``wants`` is ``"batches"``."""

    name: str
    wants: str

    def start(self, students: int, teachers: int) -> Accumulator:
        """A new accumulator for a pair of groups of so many nodes."""
        ...


@runtime_checkable
class WeightMetric(Protocol):
    """A metric of weights, without data; ``wants`` is ``"weights"``."""

    name: str
    wants: str

    def from_weights(self, student: FanIn, teacher: FanIn) -> Tensor | None:
        """A table ``[S, T]`` or a 0-dim tensor; ``None`` when the two cannot be compared."""
        ...


AlignmentMetric: TypeAlias = MomentMetric | BatchMetric | WeightMetric

MetricChoice: TypeAlias = str | AlignmentMetric
"""A metric, or the name of one that is registered."""
