"""``tsdistill lab``: the experiments and the check as commands."""
