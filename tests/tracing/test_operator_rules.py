"""Rules of operators that a plugin brings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tsdistill.plugins import Registry, manager
from tsdistill.tracing import cut, trace

PLUGIN = """
from tsdistill.plugin_api import elementwise_rule, hookimpl

@hookimpl
def register_operator_rules(register):
    register("tsdistill_tests::softcap", elementwise_rule)
"""


@torch.library.custom_op("tsdistill_tests::softcap", mutates_args=())
def softcap(x: Tensor) -> Tensor:
    return 3 * torch.tanh(x / 3)


class Capped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(softcap(self.first(x)))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry()
    monkeypatch.setattr(manager, "registry", lambda: registry)
    return registry


def test_an_operator_is_known_when_a_plugin_has_a_rule(registered: Registry, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Capped().eval(), torch.randn(1, 5)
    assert not trace(model, x).groups
    (tmp_path / "capping.py").write_text(PLUGIN)
    assert registered.load(str(tmp_path / "capping.py")).names == {
        "operator rule": ("tsdistill_tests::softcap",)
    }
    graph = trace(model, x)
    assert graph.widths == {"first": 8}
    with torch.no_grad():
        model.second.weight[:, :2] = 0
        small = cut(model, graph, {"first": [0, 1]}, x).model
        torch.testing.assert_close(small(x), model(x))
