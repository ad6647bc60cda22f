"""Which nodes leave: scores, budgets, the walk over all groups at once, and the plan that comes of it."""
