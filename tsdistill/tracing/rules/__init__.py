"""What each family of operators does to labels: one file a family, one function an operator.

A rule has the signature ``rule(tracer, args, kwargs, out)``: it reads the labels of the tensors that went in,
reports to the tracer which coordinates are removed together, which cannot be removed and which form blocks,
and labels what came out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import torch

from tsdistill import plugins
from tsdistill.runtime.nests import tensors
from tsdistill.tracing.rules import elementwise, factories
from tsdistill.tracing.rules.elementwise import Rule

KIND = "operator rule"


def load() -> None:
    """Import the rules; not while operators are watched, as plugins may run some when they are imported."""
    plugins.items(KIND)


@cache
def _rule(func: Any, _generation: int) -> Rule | None:
    """The rule of an operator: by its whole name (``"library::name"``), or by what is behind the ``::``, also
    without the underscore of operators that work in place; element-wise operators need none.

    Args:
        func: the operator.
        _generation: of the registered plugins; part of the key of the cache only.
    """
    whole = func._schema.name
    name = whole.split("::")[-1]
    rules: dict[str, Rule] = plugins.items(KIND)
    rule = next((rules[key] for key in (whole, name, name.rstrip("_")) if key in rules), None)
    if rule is None and (torch.Tag.pointwise in func.tags or name.rstrip("_") in elementwise.UNTAGGED):
        return elementwise.elementwise
    return rule


@cache
def _maker(func: Any) -> Callable[[Any, tuple, Any], None] | None:
    return factories.RULES.get(func._schema.name.split("::")[-1])


def apply(tracer: Any, func: Any, args: tuple, kwargs: dict, out: Any) -> None:
    """Apply the rule of operator ``func``; one without a rule, or whose rule does not fit its arguments,
    freezes every label that reaches it.
    """
    rule = _rule(func, plugins.generation())
    if rule is not None:
        with suppress(AssertionError, LookupError, ValueError, TypeError, RuntimeError):
            rule(tracer, args, kwargs, out)
            return
    tracer.unknown[str(func)] = tracer.unknown.get(str(func), 0) + 1
    for tensor in tensors((args, kwargs)):
        for labels in tracer.labels(tensor):
            tracer.freeze(labels, "an operator whose structure is not known")
    for result in tensors(out):
        tracer.give(result, [None] * result.ndim)


def make(tracer: Any, func: Any, args: tuple, out: Any) -> bool:
    """Label a tensor that the model makes from sizes alone; was it one?"""
    rule = _maker(func)
    if rule is None or not isinstance(out, torch.Tensor):
        return False
    rule(tracer, args, out)
    return True
