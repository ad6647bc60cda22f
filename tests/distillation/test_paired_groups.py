"""Student beside teacher: the same in two processes as in one; pairs of groups of two architectures."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.digits import digits
from tests.distillation.networks import batches
from tests.free_port import free_port
from tests.networks import convnet
from tsdistill.distillation.paired_groups import PairedGroups, Samples
from tsdistill.errors import TsdistillError

ROOT = str(Path(__file__).parents[2])

SCRIPT = """
import os, sys
import numpy as np, torch, torch.distributed as dist
from tests.distillation.networks import batches, generator
from tests.networks import convnet
from tsdistill.distillation.losses import parse
from tsdistill.distillation.alignment_tracker import AlignmentTracker

if "RANK" in os.environ:
    dist.init_process_group("gloo")
torch.set_num_threads(1)
teacher, student = convnet(6, 8), convnet(5, 9, seed=5)
loss = parse("node-alignment")
loss.attach(student, teacher, batches(5), generator())
loss.renew(batches(5))
state = loss.state_dict()["node-alignment"]
found = {f"match {name}": match.numpy() for name, match in state["matches"].items()}
found.update({f"weight {name}": weight.numpy() for name, weight in state["weights"].items()})
figures = AlignmentTracker(student, teacher, batches(5)).measure("start")
found["figures"] = np.array(list(figures.values()))
np.savez(f"{sys.argv[1]}.{os.environ.get('RANK', 'one')}.npz", **found)
"""


def start(out: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    out = tmp_path / "found"
    running = [start(out), *(start(out, RANK=rank, **store) for rank in ("0", "1"))]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    one, *both = (np.load(f"{out}.{name}.npz") for name in ("one", "0", "1"))
    for other in both:
        assert set(other.files) == set(one.files)
        for name in one.files:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-5, atol=1e-6)


def test_other_architectures_are_paired_in_depth_order() -> None:
    beside = PairedGroups(convnet(5, 9, seed=5), convnet(6, 8, 7), batches())
    assert 1 <= len(beside.pairs) <= 2
    order = [["0", "3", "6"].index(other) for other in beside.pairs.values()]
    assert order == sorted(order)
    assert any("two architectures" in note for note in beside.notes)
    given = PairedGroups(convnet(5, 9, seed=5), convnet(6, 8, 7), batches(), {"0": "6"})
    assert given.pairs["0"] == "6"


def test_maps_meet_at_the_coarser_resolution() -> None:
    teacher, student = convnet(6, 8), convnet(6, 8, seed=5)
    student[0] = nn.Conv2d(1, 6, 3, stride=2, padding=1)
    first = PairedGroups(student, teacher, batches()).shared_pairs[0]
    assert first.meeting.size == (4, 4)
    assert first.sizes == (6, 6)
    assert first.mapped


def test_samples_stop_at_the_limit() -> None:
    some = Samples(batches(4, 32), 50)
    assert some.samples == 50
    assert [len(x) for x, _ in some] == [32, 18]
    assert torch.equal(torch.cat([x for x, _ in some]), digits()[0][:50])
    assert Samples(batches(4, 32)).samples == 128
    with pytest.raises(TsdistillError, match="samples"):
        PairedGroups(convnet(4), convnet(4), [])
