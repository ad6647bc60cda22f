"""Which nodes are removed: scores, budgets, the greedy selection over all groups, and the resulting plan."""
