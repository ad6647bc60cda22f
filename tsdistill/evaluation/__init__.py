"""Accuracy, agreement, operations, speed and memory of models side by side."""

from tsdistill.evaluation.comparing import compare
from tsdistill.evaluation.comparison import COSTS, Comparison
from tsdistill.evaluation.cost import file_size, macs, parameters
from tsdistill.evaluation.defaults import default_metrics
from tsdistill.evaluation.evaluating import evaluate
from tsdistill.evaluation.latency import Timing, latency, timings
from tsdistill.evaluation.memory import peak_memory
from tsdistill.evaluation.metric import Metric, Traits, traits_of

__all__ = [
    "COSTS",
    "Comparison",
    "Metric",
    "Timing",
    "Traits",
    "compare",
    "default_metrics",
    "evaluate",
    "file_size",
    "latency",
    "macs",
    "parameters",
    "peak_memory",
    "timings",
    "traits_of",
]
