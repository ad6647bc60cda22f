"""Accuracy, agreement, operations and latency of models side by side."""

from tsdistill.evaluation.comparison import Comparison, compare
from tsdistill.evaluation.cost import file_size, macs, parameters
from tsdistill.evaluation.evaluating import default_metrics, evaluate
from tsdistill.evaluation.latency import latency

__all__ = [
    "Comparison",
    "compare",
    "default_metrics",
    "evaluate",
    "file_size",
    "latency",
    "macs",
    "parameters",
]
