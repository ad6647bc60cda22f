"""The stages of an analysis and what they cost, for an estimate of how long it will take."""

from __future__ import annotations

CHECK, TRACE, MATCH = "checking the model", "tracing", "matching groups"
OBSERVE, STRENGTH = "observing samples", "strength on samples"
STRENGTH_OF_TEACHER = "strength of the teacher on samples"
DESCRIBE = "describing nodes"
PREDICT = "predicting what cuts cost"

# Costs in forward passes of one sample, measured on ResNet-18 and ResNet-50 at 224x224 on one core.
_OBSERVE = 1.7
"""Of each sample: its forward pass with the moments of all sites, and reading the sample."""
_STRENGTH = 3.9
"""Of each sample: forward and backward pass with a hook at every site."""
_KERNELS = 0.7
"""Of each observed sample, in addition, where a plan is to be made: covariances of what kernels see."""
_TURNS = 2
"""Turns over the samples for strength, as a rule: its stated error is reached in 1 to 4."""
_DESCRIBE, _MATCH = 14.0, 40.0
"""Of the whole, whatever the number of samples."""


def analysis_stages(
    samples: int | None, strength_samples: int = 256, *, teacher: bool = False, choosing: bool = True
) -> dict[str, float]:
    """Stage -> cost in forward passes of one sample, in order; empty where the samples cannot be counted.

    Args:
        samples: how many are observed.
        strength_samples: how many run backwards.
        teacher: whether another model lies beside.
        choosing: whether the statistics for a plan are gathered.
    """
    if samples is None:
        return {}
    backward = min(samples, strength_samples)
    stages = {TRACE: 0.0}
    if teacher:
        stages[MATCH] = _MATCH
    stages[OBSERVE] = (_OBSERVE * (1 + teacher) + _KERNELS * choosing) * samples
    stages[STRENGTH] = _TURNS * _STRENGTH * backward
    if teacher:
        stages[STRENGTH_OF_TEACHER] = _TURNS * _STRENGTH * backward
    stages[DESCRIBE] = _DESCRIBE
    return stages
