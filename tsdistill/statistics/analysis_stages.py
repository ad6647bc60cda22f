"""The stages of an analysis and what they cost, for an estimate of how long it will take."""

from __future__ import annotations

CHECK, TRACE, MATCH = "checking the model", "tracing", "matching groups"
OBSERVE, STRENGTH = "observing samples", "strength on samples"
STRENGTH_OF_TEACHER = "strength of the teacher on samples"
DESCRIBE = "describing nodes"
PREDICT = "predicting what cuts cost"

# Costs in forward passes of one sample, measured on ResNet-18 and ResNet-50 at 224x224 on one core.
_OBSERVE = 1.3
"""Of each sample: its forward pass with the moments of all sites, and reading the sample."""
_BACKWARD = 0.9
"""Of each sample for strength, in addition: a backward pass with a hook at every site."""
_FAN_OUT = 0.1
"""Of each sample for strength, in addition, where a plan is to be made: E[β] of the layers' outputs."""
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
    stages = {TRACE: 0.0}
    if teacher:
        stages[MATCH] = _MATCH
    derived = min(samples, strength_samples)
    backward = _BACKWARD * (1 + teacher) * derived + _FAN_OUT * choosing * derived
    stages[OBSERVE] = _OBSERVE * (1 + teacher) * samples + backward
    stages[DESCRIBE] = _DESCRIBE
    return stages
