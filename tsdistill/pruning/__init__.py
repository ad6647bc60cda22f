"""Score, budget, selection, absorbing, and the plan object."""

from tsdistill.pruning.choosing.planning import plan
from tsdistill.pruning.cut_prediction import predict_cuts
from tsdistill.pruning.pruner import PruneResult, prune, prune_result
from tsdistill.pruning.pruning_plan import PrunedGroup, PruningPlan
from tsdistill.pruning.searching import DropResult, prune_to_drop
from tsdistill.pruning.sweeping import Sweep, sweep

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
