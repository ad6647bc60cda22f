"""Whether a cut model runs on all calibration data, whatever path each sample takes through its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.runtime.forward import forward
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.statistics.prepared_data import PreparedData
from tsdistill.tracing import Cut, cut
from tsdistill.tracing.graph import Frozen, NodeGraph


def groups_that_fail(done: Cut, model: nn.Module, graph: NodeGraph, prepared: PreparedData) -> list[Frozen]:
    """The groups without which ``done`` would run on every batch that ``model`` runs on.

    A cut is checked against the trace of a few inputs; other samples may take another path, on which code
    relies on a width. Of the groups that were cut, those that fail by themselves are found by halving.

    Args:
        done: a cut of ``model``.
        model: what was cut; run on a batch only where ``done`` fails.
        graph: its node graph.
        prepared: the calibration data.

    Returns:
        nothing where it runs on all of them.
    """
    for x, _ in prepared:
        cause = _failure(done.model, x)
        if cause is not None and _failure(model, x) is None:
            return _search(model, graph, done.removed, x, prepared.example, cause)
    return []


def _failure(model: nn.Module, x: Any) -> str | None:
    """Why a forward fails, None where it does not."""
    with evaluation_mode(model), torch.no_grad():
        try:
            forward(model, x)
        except TsdistillError as error:
            return cause_of(error.__cause__ or error)
    return None


def _search(
    model: nn.Module, graph: NodeGraph, removed: Mapping[str, np.ndarray], x: Any, example: Any, cause: str
) -> list[Frozen]:
    """Halve the set of groups until the ones that fail by themselves are found."""
    names = list(removed)
    if len(names) == 1:
        return [
            Frozen(names[0], f"the cut model fails on calibration data that the whole one takes: {cause}")
        ]
    failing: list[Frozen] = []
    for half in (names[: len(names) // 2], names[len(names) // 2 :]):
        part = {name: removed[name] for name in half}
        small = cut(model, graph, part, example).model
        why = _failure(small, x)
        if why is not None:
            failing += _search(model, graph, part, x, example, why)
    together = f"the cut model fails on calibration data, only together with other groups: {cause}"
    return failing or [Frozen(name, together) for name in names]
