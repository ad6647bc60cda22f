"""Names that a graph module of PyTorch keeps for itself, so that a model's own ``code`` can be exported."""

from __future__ import annotations

import functools
from typing import Any

from torch import fx, nn

from tsdistill.torch_private import buffers_of, children_of, parameters_of


class PrefixedModule(nn.Module):
    """A module inside another, so that all its names begin with ``model.``; its signature is the same."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

        @functools.wraps(model.forward)
        def forward(*args: Any, **kwargs: Any) -> Any:
            return model(*args, **kwargs)

        self.forward = forward
        self.train(model.training)


def with_prefix(model: nn.Module) -> nn.Module:
    """``model`` itself, or inside of an `PrefixedModule` where it has a name that exporters cannot keep.

    ``torch.export`` and the ONNX exporter put what a model holds under its names into a
    ``torch.fx.GraphModule``, whose own attributes (``code``, ``graph``, ``meta``, ``recompile``, ...) win
    over them: the program is written and does not run.
    """
    taken, free = fx.GraphModule(nn.Module(), fx.Graph()), nn.Module()
    names = (*children_of(model), *parameters_of(model), *buffers_of(model))
    reserved = any(hasattr(taken, name) and not hasattr(free, name) for name in names)
    return PrefixedModule(model) if reserved else model
