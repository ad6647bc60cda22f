"""Running the model of a user: forward passes, modes, hooks, recorded calls, memory, latency, progress."""
