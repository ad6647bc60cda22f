"""Score, budget, selection, absorbing, and the plan object."""

from tsdistill.pruning.choosing.planning import plan
from tsdistill.pruning.pruner import PruneResult, prune, prune_result
from tsdistill.pruning.pruning_plan import PrunedGroup, PruningPlan

__all__ = ["PruneResult", "PrunedGroup", "PruningPlan", "plan", "prune", "prune_result"]
