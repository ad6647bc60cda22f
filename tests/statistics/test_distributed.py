"""Several processes (gloo) end with the numbers of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from tests.free_port import free_port
from tsdistill.statistics.distributed import gather, shared_batches, total

SCRIPT = """
import os, sys
import numpy as np, torch, torch.distributed as dist
import tsdistill as tsd
from tests.networks import images, residual

out = sys.argv[1]
if "RANK" in os.environ:
    dist.init_process_group("gloo")
torch.set_num_threads(1)
x = images(70)
report = tsd.analyze(
    residual(1), residual(2), [part for part in x.split(10)], example_input=x[:1],
    metric=["correlation", "cka", "gates"], positions=20, strength_samples=45,
)
alone = tsd.analyze(residual(1), residual(2), data=[x[:16]], example_input=x[:1])
found = {"samples": np.array([report.samples, alone.samples])}
for group in report.groups:
    found[group.name] = group.matches["correlation"].table
    found[group.name + ".gates"] = group.matches["gates"].table
    found[group.name + ".cka"] = np.array(group.scores["cka"])
    found[group.name + ".strength"] = group.strength
    found[group.name + ".teacher_strength"] = group.teacher_strength
    found[group.name + ".r2"] = group.r2
    found[group.name + ".on"] = group.on
    found[group.name + ".alone"] = alone.by_name[group.name].strength
np.savez(f"{out}.{os.environ.get('RANK', 'one')}.npz", **found)
"""


ROOT = str(Path(__file__).parents[2])


def _run(out: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """Seven batches for two processes; in the second analysis the second process gets none at all."""
    store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    running = [
        _run(tmp_path / "found"),
        _run(tmp_path / "found", RANK="0", **store),
        _run(tmp_path / "found", RANK="1", **store),
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    one, first, second = (np.load(tmp_path / f"found.{who}.npz") for who in ("one", "0", "1"))
    assert set(one) == set(first)
    assert one["samples"].tolist() == [70, 16]
    for name, value in one.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_one_process_takes_everything() -> None:
    batches = [(torch.zeros(3, 2), None), (torch.zeros(1, 2), None)]
    assert [(index, first) for index, first, _ in shared_batches(batches)] == [(0, 0), (1, 3)]
    assert gather("x") == ["x"]
    assert total(3) == 3
