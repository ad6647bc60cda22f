"""What docs/integrations.md says is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import tsdistill as tsd

PAGE = Path(__file__).parents[1] / "docs" / "integrations.md"


def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    model = tsd.load("timm:test_resnet,pretrained=false,num_classes=4", inputs={"input_size": (3, 32, 32)})
    x, y = torch.randn(24, 3, 32, 32), torch.arange(24) % 4
    small = tsd.prune(model, data=x, macs=0.6, realignment={"realign": False})
    monkeypatch.chdir(tmp_path)
    tsd.save(small, "half.safetensors")
    tsd.save(model, "dense.safetensors")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, Any] = {"loader": DataLoader(TensorDataset(x, y), batch_size=8)}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    assert names["student"] is not names["model"]
    trained, again = names["model"].eval(), tsd.load("trained.safetensors")
    with torch.no_grad():
        assert torch.equal(again(x), trained(x))
        assert not torch.equal(again(x), small(x))
