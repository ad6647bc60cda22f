"""One pass over the data beside the models' forward: what is kept of their activations."""
