"""Operators that work element by element: what meets goes together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tsdistill.runtime.nests import tensors

Rule = Callable[[Any, tuple, dict, Any], None]
"""``rule(tracer, args, kwargs, out)`` of one operator."""


def elementwise(tracer: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """Unite, dimension by dimension, the labels of all operands that are broadcast together (one that was
    expanded is the same all along, whether it was expanded before or is here).

    A weight that is computed (masked, scaled) has the labels of the parameter with most dimensions in it.
    """
    results = tensors(out)
    operands = [t for t in tensors((args, kwargs)) if t.ndim]
    if not results:
        for operand in operands:
            for labels in tracer.labels(operand):
                tracer.freeze(labels, "its values leave the graph")
        return
    rank = max(t.ndim for t in operands)
    if not any(tracer.is_data(t) for t in operands):
        operands.sort(key=tracer.precedence)
    merged = [None] * rank
    for dim in range(-rank, 0):
        meeting = [
            tracer.labels(t)[dim] for t in operands if t.ndim >= -dim and t.shape[dim] > 1 and t.stride(dim)
        ]
        labelled = [labels for labels in meeting if labels is not None]
        if not labelled:
            continue
        merged[dim] = labelled[0] if len(labelled) == len(meeting) else None
        for labels in meeting:
            if labels is not labelled[0]:
                tracer.unite(labelled[0], labels)
    for result in results:
        if result.ndim == rank:
            tracer.give(result, merged)
        else:
            for labels in merged:
                tracer.freeze(labels, "an operator whose structure is not known")


def copy(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """Every result (a tensor and its mask, say) has the labels of the first operand."""
    for result in tensors(out):
        tracer.give(result, tracer.labels(args[0]))


def glu(tracer: Any, args: tuple, _kwargs: dict, out: Any) -> None:
    """``glu``: the first half of a dimension, gated by the second, node by node."""
    fields = list(tracer.labels(args[0]))
    dim = (args[1] if len(args) > 1 else -1) % out.ndim
    if fields[dim] is not None:
        first, gates = fields[dim][: out.shape[dim]], fields[dim][out.shape[dim] :]
        tracer.unite(first, gates)
        fields[dim] = first
    tracer.give(out, fields)


_COPIES = (
    *("clone", "contiguous", "_to_copy", "detach", "alias", "lift_fresh", "lift_fresh_copy"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
    *("fill", "zero", "bernoulli", "dropout", "native_dropout"),
    *("_conj", "_neg_view", "resolve_conj", "resolve_neg"),
)
RULES = {**dict.fromkeys(_COPIES, copy), "glu": glu}
UNTAGGED = frozenset(
    {
        *("complex", "polar"),
        *("copy", "where", "masked_fill", "prelu", "_prelu_kernel", "rrelu", "rrelu_with_noise", "lerp"),
        *("hardswish", "hardtanh", "relu6", "hardsigmoid", "log_sigmoid_forward", "glu_jvp", "threshold"),
        *("normal", "uniform", "exponential", "log_normal", "cauchy", "geometric", "random"),
        *("addcmul", "addcdiv", "clamp", "nan_to_num", "celu", "elu", "selu", "softplus", "softshrink"),
    }
)
