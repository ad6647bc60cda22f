"""``torchrun`` with two processes writes what one process writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ANALYZE = ["analyze", "networks.py:convolutions", "--trust", "--input-size", "3x16x16", "--samples", "90"]


def _found(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text())
    return {group["name"]: group for group in report["groups"]}


def test_two_processes_write_one_report(work: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TSDISTILL_PLUGINS": ""}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tsdistill"]
    ways = {"one": ["-m", "tsdistill"], "two": torchrun}
    outputs = {}
    for name, way in ways.items():
        done = subprocess.run(
            [sys.executable, *way, *ANALYZE, "--json", str(tmp_path / f"{name}.json")],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        outputs[name] = done.stdout
    one, two = (_found(tmp_path / f"{name}.json") for name in ways)
    assert outputs["two"].count("\ndata ") == outputs["one"].count("\ndata ") == 1
    assert set(one) == set(two)
    for name, group in one.items():
        assert two[name]["samples"] == group["samples"]
        for figure in ("strength", "similarity", "r2", "on"):
            np.testing.assert_allclose(
                two[name]["nodes"][figure], group["nodes"][figure], rtol=1e-4, atol=1e-5
            )
