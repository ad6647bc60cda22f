"""Find which nodes of a network carry what it has learnt, cut the rest, keep a model that loads again.

The public names are handed on when they are first asked for, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tsdistill.alignment import AlignmentHistory as AlignmentHistory
    from tsdistill.alignment import AlignmentReport as AlignmentReport
    from tsdistill.alignment import Thresholds as Thresholds
    from tsdistill.alignment import analyze as analyze
    from tsdistill.alignment import analyze_training as analyze_training
    from tsdistill.data import open_data as open_data
    from tsdistill.distillation import TrainResult as TrainResult
    from tsdistill.distillation import distill as distill
    from tsdistill.distillation import train as train
    from tsdistill.errors import TsdistillError as TsdistillError
    from tsdistill.evaluation import Comparison as Comparison
    from tsdistill.evaluation import compare as compare
    from tsdistill.evaluation import evaluate as evaluate
    from tsdistill.exporting import Exported as Exported
    from tsdistill.exporting import export as export
    from tsdistill.models import example_input as example_input
    from tsdistill.models import info_of as info_of
    from tsdistill.models import load as load
    from tsdistill.models import save as save
    from tsdistill.plugins import hookimpl as hookimpl
    from tsdistill.pruning import PruneResult as PruneResult
    from tsdistill.pruning import PruningPlan as PruningPlan
    from tsdistill.pruning import plan as plan
    from tsdistill.pruning import predict_cuts as predict_cuts
    from tsdistill.pruning import prune as prune
    from tsdistill.pruning import prune_result as prune_result
    from tsdistill.pruning import prune_to_drop as prune_to_drop
    from tsdistill.pruning import sweep as sweep
    from tsdistill.theory import Outcome as Outcome
    from tsdistill.theory import lab as lab
    from tsdistill.theory import lab_check as lab_check
    from tsdistill.tracing import NodeGraph as NodeGraph
    from tsdistill.tracing import cut as cut
    from tsdistill.tracing import trace as trace

__version__ = "0.1.0"

_HOME = {
    "AlignmentHistory": "tsdistill.alignment",
    "AlignmentReport": "tsdistill.alignment",
    "Comparison": "tsdistill.evaluation",
    "Exported": "tsdistill.exporting",
    "NodeGraph": "tsdistill.tracing",
    "Outcome": "tsdistill.theory",
    "PruneResult": "tsdistill.pruning",
    "PruningPlan": "tsdistill.pruning",
    "Thresholds": "tsdistill.alignment",
    "TrainResult": "tsdistill.distillation",
    "TsdistillError": "tsdistill.errors",
    "analyze": "tsdistill.alignment",
    "analyze_training": "tsdistill.alignment",
    "compare": "tsdistill.evaluation",
    "cut": "tsdistill.tracing",
    "distill": "tsdistill.distillation",
    "evaluate": "tsdistill.evaluation",
    "example_input": "tsdistill.models",
    "export": "tsdistill.exporting",
    "hookimpl": "tsdistill.plugins",
    "info_of": "tsdistill.models",
    "lab": "tsdistill.theory",
    "lab_check": "tsdistill.theory",
    "load": "tsdistill.models",
    "open_data": "tsdistill.data",
    "plan": "tsdistill.pruning",
    "predict_cuts": "tsdistill.pruning",
    "prune": "tsdistill.pruning",
    "prune_result": "tsdistill.pruning",
    "prune_to_drop": "tsdistill.pruning",
    "save": "tsdistill.models",
    "sweep": "tsdistill.pruning",
    "trace": "tsdistill.tracing",
    "train": "tsdistill.distillation",
}

__all__ = [
    "AlignmentHistory",
    "AlignmentReport",
    "Comparison",
    "Exported",
    "NodeGraph",
    "Outcome",
    "PruneResult",
    "PruningPlan",
    "Thresholds",
    "TrainResult",
    "TsdistillError",
    "__version__",
    "analyze",
    "analyze_training",
    "compare",
    "cut",
    "distill",
    "evaluate",
    "example_input",
    "export",
    "hookimpl",
    "info_of",
    "lab",
    "lab_check",
    "load",
    "open_data",
    "plan",
    "predict_cuts",
    "prune",
    "prune_result",
    "prune_to_drop",
    "save",
    "sweep",
    "trace",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
