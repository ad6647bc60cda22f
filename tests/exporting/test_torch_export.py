"""A model may name what it holds as it likes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tsdistill.exporting.torch_export import PrefixedModule, with_prefix


class Named(nn.Module):
    """A layer and a buffer under given names."""

    def __init__(self, layer: str, buffer: str) -> None:
        super().__init__()
        self._names = layer, buffer
        self.add_module(layer, nn.Linear(4, 8))
        self.register_buffer(buffer, torch.ones(8))
        self.last = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer, buffer = (getattr(self, name) for name in self._names)
        return self.last(torch.relu(layer(x)) * buffer)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("names", [("code", "scale"), ("first", "graph"), ("recompile", "meta")])
def test_a_name_of_a_graph_module(tmp_path: Path, names: tuple[str, str], suffix: str) -> None:
    done = tsd.export(Named(*names), tmp_path / f"out{suffix}", example_input=torch.randn(1, 4))
    assert done.check.difference < 1e-5
    assert done.dynamic_batch


def test_other_names_are_kept() -> None:
    model = Named("first", "scale")
    assert with_prefix(model) is model
    assert isinstance(with_prefix(Named("code", "scale")), PrefixedModule)
