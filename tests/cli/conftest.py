"""Real subprocesses of the command line, and small files for them to work on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

STAGE = re.compile(r"[^:].*: (\d+\.\d s|\d+:[\d:]+)(; about .* left)?")

Run = Callable[..., subprocess.CompletedProcess[str]]

NETWORKS = """
import torch
from torch import nn


def _filled(model):
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def convolutions():
    return _filled(nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5),
    ))


def maps():
    return _filled(nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 4, 1),
    ))


def vectors():
    return _filled(nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 4)))


def narrow():
    return _filled(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)))


def failing():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(12, 12)

        def forward(self, x):
            raise ValueError("no forward today")

    return Failing()


def overflowing():
    class Exp(nn.Module):
        def forward(self, x):
            return torch.exp(x)

    return _filled(nn.Sequential(nn.Linear(12, 30), Exp(), nn.Linear(30, 4)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        return x + self.conv(torch.relu(self.norm(x)))


def residual():
    return _filled(nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), Block(), Block(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ))


def not_finite():
    model = vectors()
    model[0].weight.data[3, 3] = float("nan")
    return model
"""


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``networks.py``, labelled data for both networks, bare weights and a truncated file."""
    import torch

    folder = tmp_path_factory.mktemp("cli")
    (folder / "networks.py").write_text(NETWORKS)
    rng = np.random.default_rng(0)
    np.savez(folder / "vectors.npz", x=rng.normal(size=(200, 12)).astype("f4"), y=rng.integers(0, 4, 200))
    np.savez(folder / "large.npz", x=1e4 * rng.normal(size=(9, 12)).astype("f4"))
    np.savez(folder / "images.npz", x=rng.random((60, 3, 16, 16), dtype="f4"), y=rng.integers(0, 5, 60))
    np.savez(folder / "far.npz", x=rng.random((60, 3, 16, 16), dtype="f4"), y=rng.integers(5, 9, 60))
    weights = {
        "0.weight": torch.randn(30, 12),
        "0.bias": torch.randn(30),
        "2.weight": torch.randn(4, 30),
        "2.bias": torch.randn(4),
    }
    torch.save(weights, folder / "bare.pt")
    (folder / "cut_off.pt").write_bytes((folder / "bare.pt").read_bytes()[:700])
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="session")
def run(work: Path) -> Run:
    """Run ``tsdistill`` with the given arguments in the folder ``work``; keywords become its environment."""

    def run(*arguments: str, cwd: Path = work, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tsdistill", *arguments],
            cwd=cwd,
            env={**os.environ, "TSDISTILL_PLUGINS": "", "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def fork(work: Path) -> Run:
    """Like ``run``, in a process forked from this one: what is imported here need not be imported again."""
    import torch

    torch.set_num_threads(1)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if child == 0:
                _run_and_leave(arguments, work, out.fileno(), err.fileno())
            _, status = os.waitpid(child, 0)
            for stream in (out, err):
                stream.seek(0)
            code = os.waitstatus_to_exitcode(status)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    return run


def _run_and_leave(arguments: tuple[str, ...], folder: Path, out: int, err: int) -> NoReturn:
    from tsdistill.cli.main import main

    code: object = 70
    try:
        signal.alarm(120)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 70)


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that a run ended with exit code 2 and one line on stderr, behind those of stages that had ended,
    that has all ``words``, no more."""
    lines = [line for line in done.stderr.splitlines() if not STAGE.fullmatch(line)]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tsdistill: ")
    assert done.stdout == ""
    for word in words:
        assert word in lines[0], lines[0]
