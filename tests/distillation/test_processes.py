"""Two processes (gloo) end where one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

import tsdistill as tsd
from tests.data.webdataset_files import timm_webdataset
from tests.distillation.processes import ROOT, in_processes
from tests.distillation.small import ARCH, digits, grouped
from tsdistill.distillation.training_log import TrainResult
from tsdistill.errors import TsdistillError

TOLERANCE = 1e-5
"""Gradients of halves of a batch are added in another order than those of the whole."""


def plain(width: int, seed: int) -> nn.Module:
    """Without batch norm, whose statistics are each process's own."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def keep(out: Path, result: TrainResult) -> None:
    """Write down where this process has ended, under its number; ``one`` when it is the only one."""
    rank = os.environ.get("RANK", "one")
    torch.save(result.model.state_dict(), out / f"weights.{rank}.pt")
    (out / f"log.{rank}.json").write_text(json.dumps(result.log))


def logs(out: Path, *who: str) -> list[Any]:
    """The logs that processes have kept."""
    return [json.loads((out / f"log.{each}.json").read_text()) for each in who]


def assert_two_end_where_one_does(out: Path) -> None:
    one, first, second = (torch.load(out / f"weights.{who}.pt") for who in ("one", "0", "1"))
    for name, value in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=TOLERANCE, atol=TOLERANCE)


def distill(out: Path, **more: Any) -> None:
    how: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 75,
        "accumulate": 2,
        "lr": 0.01,
        "clip": 1.0,
        "loss": "soft-targets:T=2 + 0.3*cross-entropy",
        "device": "cpu",
        **more,
    }
    result = tsd.distill(plain(24, 1), plain(48, 2), data=digits(), held_out=digits(), options=how)
    keep(out, result)


@pytest.mark.parametrize("more", [{}, {"loss": "soft-targets + 0.2*hints", "batch_size": 64}])
def test_two_processes_end_where_one_does(tmp_path: Path, more: dict[str, Any]) -> None:
    """Batches of 75 are dealt as 38 and 37; hints have parameters of their own to keep together."""
    for number in (1, 2):
        in_processes(number, lambda: distill(tmp_path, **more))
    assert_two_end_where_one_does(tmp_path)
    for mine, theirs in zip(*logs(tmp_path, "one", "0"), strict=True):
        assert mine.get("samples") == theirs.get("samples")
        for figure in ("val/top1", "val/kl", *(("loss", "alignment") if mine["epoch"] else ())):
            np.testing.assert_allclose(theirs[figure], mine[figure], rtol=1e-3)


def spread(out: Path, shard: bool) -> None:
    torch.manual_seed(2)
    teacher = nn.Sequential(
        nn.Linear(64, 1100), nn.ReLU(), nn.Linear(1100, 1100), nn.ReLU(), nn.Linear(1100, 10)
    )
    result = tsd.distill(
        plain(24, 1),
        teacher,
        data=digits(),
        held_out=digits(),
        options={
            "epochs": 1,
            "batch_size": 64,
            "lr": 0.01,
            "device": "cpu",
            "track": not shard,
            "shard_teacher": shard,
        },
    )
    if shard:
        held = sum(p.to_local().numel() for p in teacher.parameters())  # type: ignore[attr-defined]
        whole = sum(p.numel() for p in teacher.parameters())
        assert 0.49 < held / whole < 0.51
    keep(out, result)


def test_a_teacher_spread_over_processes_teaches_as_a_whole_one_does(tmp_path: Path) -> None:
    """Each process keeps half of every weight."""
    in_processes(1, lambda: spread(tmp_path, False))
    in_processes(2, lambda: spread(tmp_path, True))
    assert_two_end_where_one_does(tmp_path)
    last = [log[-1] for log in logs(tmp_path, "one", "0", "1")]
    for figure in ("loss", "val/top1", "val/kl"):
        np.testing.assert_allclose([line[figure] for line in last], last[0][figure], rtol=1e-3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"loss": "node-alignment"}, "node-alignment"),
        ({"augment": "teacher-aware"}, "teacher-aware"),
        ({"cache_teacher": True, "out": "run"}, "cannot be kept"),
    ],
)
def test_what_looks_into_a_spread_teacher_is_refused(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    if "out" in more:
        more = {**more, "out": tmp_path / "run", "arch": ARCH}

    def work() -> None:
        with pytest.raises(TsdistillError, match=said):
            tsd.distill(
                plain(24, 1),
                plain(48, 2),
                data=digits(),
                **grouped(device="cpu", shard_teacher=True, **more),
            )

    in_processes(2, work)


class Endless(IterableDataset):
    """Digits in their order, over and over; workers and processes share what it gives."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        x, y = digits().tensors
        for place in range(4 * len(x)):
            yield x[place % len(x)], int(y[place % len(x)])


def streamed(out: Path, data: Any, **more: Any) -> None:
    how: dict[str, Any] = {"epochs": 2, "batch_size": 64, "lr": 0.01, "device": "cpu", "workers": 2, **more}
    result = tsd.train(plain(24, 1), data=data, options=how)
    keep(out, result)


def hf_stream() -> Any:
    datasets = pytest.importorskip("datasets")
    x, y = digits().tensors
    table = datasets.Dataset.from_dict({"input": x.numpy(), "label": y.numpy()}).with_format("torch")
    return table.to_iterable_dataset(num_shards=8)


@pytest.mark.parametrize("kind", ["datasets", "any"])
def test_streams_are_dealt_to_processes_and_their_workers(tmp_path: Path, kind: str) -> None:
    """Two processes of two workers each: every sample once an epoch, and the same weights in both."""
    data, more = (hf_stream(), {}) if kind == "datasets" else (Endless(), {"samples": 1024})
    in_processes(2, lambda: streamed(tmp_path, data, **more))
    first, second = (torch.load(tmp_path / f"weights.{who}.pt") for who in ("0", "1"))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    (log,) = logs(tmp_path, "0")
    assert log[1]["loss"] < log[0]["loss"]
    samples = 1024 if kind == "any" else len(digits().tensors[0])
    assert all(samples - 4 * 64 <= line["samples"] <= samples for line in log)


def test_timm_s_webdataset_is_dealt_to_processes(tmp_path: Path) -> None:
    """Four shards of ten for two processes of two workers; timm says the length of each process's part."""
    pytest.importorskip("webdataset")
    name = timm_webdataset(tmp_path)

    def work() -> None:
        torch.manual_seed(0)
        model = tsd.load("timm:test_resnet,num_classes=4,pretrained=false")
        result = tsd.train(
            model, data=name, options={"epochs": 1, "batch_size": 8, "workers": 2, "device": "cpu"}
        )
        keep(tmp_path, result)

    in_processes(2, work)
    found = logs(tmp_path, "0", "1")
    assert [log[0]["samples"] for log in found] == [32, 32]
    assert [log[0]["updates"] for log in found] == [4, 4]


def test_each_process_reads_only_its_part(tmp_path: Path) -> None:
    from tsdistill.data.training_batch import Share
    from tsdistill.data.training_data import open_training

    whole = open_training(digits(), None, batch_size=75, seed=3)
    parts = [open_training(digits(), None, batch_size=75, seed=3, share=Share(n, 2)) for n in (0, 1)]
    for batch, *pieces in zip(whole.batches(1), *(part.batches(1) for part in parts), strict=True):
        assert [len(piece.x) for piece in pieces] == [38, 37]
        assert sum(piece.weight for piece in pieces) == pytest.approx(2)
        together = torch.cat([piece.index for piece in pieces])
        assert sorted(together.tolist()) == sorted(batch.index.tolist())


@pytest.mark.parametrize(
    "launcher",
    [
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        pytest.param(
            ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["torchrun", "accelerate"],
)
def test_launchers(tmp_path: Path, launcher: list[str]) -> None:
    np.savez(tmp_path / "digits.npz", x=digits().tensors[0].numpy(), y=digits().tensors[1].numpy())
    arguments = ["train", ARCH, "--trust", "--input-size", "64", "--data", str(tmp_path / "digits.npz")]
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tsdistill", *arguments, "-o", str(out), "--epochs", "1"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TSDISTILL_PLUGINS": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1/1: loss") == 1, done.stderr
    assert (out / "model.safetensors").exists()
    assert json.loads((out / "log.jsonl").read_text())["samples"] == 1792
