"""Accuracy, agreement, operations, speed and memory of models side by side."""

from tsdistill.evaluation.comparison import COSTS, Comparison
from tsdistill.evaluation.default_metrics import default_metrics
from tsdistill.evaluation.evaluator import evaluate
from tsdistill.evaluation.metric import Metric, Traits, traits_of
from tsdistill.evaluation.model_comparison import compare
from tsdistill.evaluation.model_cost import file_size, macs, parameters
from tsdistill.runtime.latency import Timing, latency, timings
from tsdistill.runtime.memory import peak_memory

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
