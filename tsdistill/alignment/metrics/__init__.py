"""How alike a student's nodes and a teacher's are: what a metric has to offer, and the built-in ones."""

from tsdistill.alignment.metrics.metric_protocols import (
    WANTS,
    Accumulator,
    AlignmentMetric,
    BatchMetric,
    FanIn,
    MomentMetric,
    WeightMetric,
)

__all__ = [
    "WANTS",
    "Accumulator",
    "AlignmentMetric",
    "BatchMetric",
    "FanIn",
    "MomentMetric",
    "WeightMetric",
]
