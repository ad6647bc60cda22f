"""Killed at any moment, a command leaves every file whole or as it was, and nothing is lost."""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tests.cli.conftest import Run
from tsdistill.cli.main import main
from tsdistill.interrupts import INTERRUPTED

KILLS = int(os.environ.get("TSDISTILL_KILLS", "200"))
SEED = 0
GRACE = 120.0
"""Seconds that a process gets to end after Ctrl-C."""

IMAGES = ("--input-size", "3x16x16", "--data", "images.npz")
NETWORK = "networks.py:convolutions"
FEW = ("--samples", "32", "--batch-size", "16")
TRAINED = ("--epochs", "2", "--batch-size", "16", "--checkpoint-steps", "1", "--resume")
COMMANDS = (
    ("analyze", NETWORK, *IMAGES, *FEW, "--json", "a.json", "--report", "a.html", "--plots", "plots"),
    ("prune", NETWORK, *IMAGES, *FEW, "--macs", "0.5", "-o", "p.safetensors", "--save-plan", "plan.json"),
    ("prune", NETWORK, *IMAGES, *FEW, "--macs", "0.5", "-o", "p.pt", "--json", "p.json"),
    ("prune", NETWORK, *IMAGES, *FEW, "--sweep", "0.8,0.5", "-o", "swept"),
    ("train", NETWORK, *IMAGES, *TRAINED, "-o", "run", "--json", "t.json"),
    ("distill", NETWORK, "--teacher", NETWORK, *IMAGES, *TRAINED, "--cache-teacher", "-o", "run"),
    ("export", NETWORK, *IMAGES[:2], "-o", "e.py", "--json", "e.json"),
    ("export", NETWORK, *IMAGES[:2], "-o", "e.ts"),
    ("compare", NETWORK, NETWORK, *IMAGES, *FEW, "--json", "c.json", "--plot", "c.svg"),
    ("lab", "check", NETWORK, "--teacher", NETWORK, *IMAGES, *FEW, "--json", "l.json"),
    ("lab", "gradient-rule", "--quick", "-o", "lab", "--json", "l.json"),
)
SCRATCH = ".tsdistill-"
LOADED = (
    *(
        f"tsdistill.cli.{name}_command"
        for name in ("analyze", "prune", "train", "distill", "export", "compare")
    ),
    *("tsdistill.distillation.run_setup", "tsdistill.exporting.exporter", "tsdistill.report.page"),
    *(
        "tsdistill.pruning.pruner",
        "tsdistill.pruning.budget_sweep",
        "tsdistill.report.plots",
        "plotly.offline",
    ),
    *(
        "tsdistill.lab.figures",
        "tsdistill.lab.cli.lab_command",
        "tsdistill.lab.cli.check_command",
        "timm",
        "accelerate",
        "rich.table",
    ),
    *("matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "matplotlib.figure"),
)
"""Imported once, so that kills meet the work of a command and not its imports."""


@pytest.mark.slow
def test_nothing_is_half_written_or_lost(
    work: Path, fork: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fork` is asked for because it readies this process for forks. The counts are printed."""
    for module in LOADED:
        importlib.import_module(module)
    draw = random.Random(SEED)
    total: Counter[str] = Counter()
    for number, command in enumerate(COMMANDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("networks.py", "images.npz"):
            shutil.copy(work / name, folder / name)
        started = time.monotonic()
        assert end(begin(command, folder)) == 0, command
        seconds = time.monotonic() - started
        kept = contents(folder)
        outputs = set(kept) - {"networks.py", "images.npz"}
        counts: Counter[str] = Counter()
        for _ in range(len(range(number, KILLS, len(COMMANDS)))):
            lay(folder, kept if draw.random() < 0.5 else {n: kept[n] for n in ("networks.py", "images.npz")})
            before = contents(folder)
            killer = draw.choice((signal.SIGKILL, signal.SIGINT))
            child = begin(command, folder)
            time.sleep(draw.uniform(0, seconds))
            os.kill(child, killer)
            code = end(child)
            assert code in (0, -killer, 128 + killer), (command, code)
            counts.update(verdict(folder, name, before) for name in outputs | set(before))
        lay(folder, {n: kept[n] for n in ("networks.py", "images.npz")})
        assert end(begin(command, folder)) == 0, command
        counts["litter"] = sum(1 for path in folder.rglob(f"{SCRATCH}*"))
        with capsys.disabled():
            print(f"\n{' '.join(command[:2])}, {seconds:.1f} s: {dict(counts)}", end="", flush=True)
        total += counts
    with capsys.disabled():
        print(f"\n{KILLS} kills: {dict(total)}")
    assert not total["half"]
    assert not total["destroyed"]
    assert not total["litter"]
    assert total["whole"]
    assert total["absent"]


def begin(command: tuple[str, ...], folder: Path) -> int:
    """A process that runs the command; its number. Ctrl-C waits until the command has begun."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child = os.fork()
        if child == 0:
            _run(command, folder)
        return child
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _run(command: tuple[str, ...], folder: Path) -> NoReturn:
    code: object = 70
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(sink, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        main(command)
    except SystemExit as leaving:
        code = leaving.code
    except KeyboardInterrupt:  # before the command has begun, or after it has ended
        code = INTERRUPTED
    finally:
        os._exit(code if isinstance(code, int) else 70)


def end(child: int) -> int:
    """Wait for a process; its exit code, negative for the signal that ended it."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("a process does not end")


def lay(folder: Path, files: dict[str, bytes]) -> None:
    """Make ``files`` the outputs that are there, and leave what killed processes have left."""
    for name in contents(folder).keys() - files.keys():
        (folder / name).unlink()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder and those below it, but for what is under way."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(SCRATCH) or part == "__pycache__" for part in parts):
            yield path


def verdict(folder: Path, name: str, before: dict[str, bytes]) -> str:
    """``whole``, ``absent``, ``half`` or ``destroyed``: gone, or an input that was changed."""
    path = folder / name
    if name in before and (not path.exists() or (name == "images.npz" and path.read_bytes() != before[name])):
        return "destroyed"
    if not path.exists():
        return "absent"
    try:
        check_whole(path.suffix, path.read_bytes())
    except Exception:
        return "half"
    return "whole"


def check_whole(suffix: str, data: bytes) -> None:
    """Raise where ``data`` are no whole file of that kind."""
    import safetensors.torch
    import torch

    if suffix == ".json":
        json.loads(data)
    elif suffix == ".jsonl":
        assert data.endswith(b"\n")
        for line in data.splitlines():
            json.loads(line)
    elif suffix == ".safetensors":
        safetensors.torch.load(data)
    elif suffix == ".pt":
        torch.load(io.BytesIO(data), weights_only=True)
    elif suffix in (".ts", ".npz"):
        assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    elif suffix == ".npy":
        np.load(io.BytesIO(data))
    elif suffix == ".py":
        compile(data, "written", "exec")
    else:
        ends = {".html": b"</html>", ".svg": b"</svg>", ".png": b"IEND\xaeB`\x82", ".gif": b";"}
        assert data.rstrip().endswith(ends[suffix])
