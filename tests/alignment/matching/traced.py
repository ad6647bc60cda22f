"""Models with what matching reads of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.alignment.matching.coarse_activations import (
    CoarseActivations,
    TracedModel,
)
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import trace


def side(model: nn.Module, example: Tensor) -> TracedModel:
    graph = trace(model, example[:1], check=False)
    return TracedModel(model, graph, find_sites(model, graph))


def look(model: nn.Module, *batches: Tensor) -> tuple[CoarseActivations, Any]:
    seen = CoarseActivations(side(model, batches[0]), "student")
    with evaluation_mode(model), torch.no_grad():
        for x in batches:
            seen.collect(x)
    return seen, seen.finish()
