"""Two fresh processes write the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WRITE = """
import sys
from pathlib import Path

import torch
from torch import nn

import tsdistill as tsd
from tsdistill.report.curve_figure import save_l_curve

folder, network = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(network.parent))
from network import make

model, x = make(), torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
data = [x[:32], x[32:]]
report = tsd.analyze(model, data=data, example_input=x[:1])
result = tsd.prune_result(model, nodes="0.5", data=data, example_input=x[:1])
result.plan.to_json(folder / "plan.json")
for suffix in ("safetensors", "pt"):
    tsd.save(result.model, folder / f"model.{suffix}", arch=f"{network}:make")
for suffix in ("svg", "pdf", "png"):
    save_l_curve(report, folder / f"curve.{suffix}")
for suffix in ("ts", "py"):
    tsd.export(result.model, folder / f"out.{suffix}", example_input=x[:1], arch=f"{network}:make")
"""
NETWORK = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    network = tmp_path / "network.py"
    network.write_text(NETWORK)
    written = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        variables = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-c", WRITE, str(folder), str(network)],
            env={**os.environ, **variables},
            check=True,
        )
        written.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    one, other = written
    assert [name for name in one if one[name] != other.get(name)] == []
    assert len(one) == len(other) == 9
    assert list(one) == sorted(other)
