"""Score, budget, selection, absorbing, and the plan object."""

from tsdistill.pruning.accuracy_search import DropResult, prune_to_drop
from tsdistill.pruning.budget_sweep import Sweep, sweep
from tsdistill.pruning.cut_prediction import predict_cuts
from tsdistill.pruning.plan_file import PrunedGroup, PruningPlan
from tsdistill.pruning.pruner import PruneResult, prune, prune_result
from tsdistill.pruning.selection.planner import plan

__all__ = [
    "DropResult",
    "PruneResult",
    "PrunedGroup",
    "PruningPlan",
    "Sweep",
    "plan",
    "predict_cuts",
    "prune",
    "prune_result",
    "prune_to_drop",
    "sweep",
]
