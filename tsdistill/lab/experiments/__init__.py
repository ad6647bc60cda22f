"""The experiments: one module for each, named as on the command line."""

EXPERIMENTS = {
    "population-gradient": "The analytic gradient for Gaussian input, its basins and critical points.",
    "gradient-rule": "Lemma 1: the gradient as a combination of teacher and student activations.",
    "boundaries": "Student boundaries that move onto the teacher's, in two dimensions.",
    "two-layer": "L-shaped curves and recovery over strength decay and over-realisation.",
    "deep": "The L-shaped curve in every layer of a deep student.",
    "specialization": "At small gradient: who is aligned with whom, and what can be pruned.",
    "strong-first": "Strong teacher nodes are learnt first and gather more student nodes.",
    "augmentation": "Few samples: teacher-aware against teacher-agnostic against none.",
    "connectivity": "Two students joined by a polyline of low error.",
    "cifar10": "A pruned ConvNet teacher and over-realised students, on images.",
    "generalisation": "Does alignment on the training inputs predict what happens elsewhere?",
}
"""Name on the command line -> what the experiment shows; its module has the name with underscores."""
