"""The built-in alignment metrics, registered through the hook that plugins use."""

from __future__ import annotations

from collections.abc import Callable

from tsdistill.alignment.metrics.correlation import Correlation, Cosine
from tsdistill.alignment.metrics.fan_in_weights import WeightCosine
from tsdistill.alignment.metrics.gates import GateAgreement
from tsdistill.alignment.metrics.metric_protocols import AlignmentMetric
from tsdistill.alignment.metrics.subspaces import CCA, SVCCA, LinearCKA
from tsdistill.plugins import hookimpl


@hookimpl
def register_alignment_metrics(register: Callable[[str, AlignmentMetric], None]) -> None:
    """Register the built-in metrics."""
    metrics: tuple[AlignmentMetric, ...] = (
        Correlation(),
        Cosine(),
        GateAgreement(),
        WeightCosine(),
        LinearCKA(),
        CCA(),
        SVCCA(),
    )
    for metric in metrics:
        register(metric.name, metric)
