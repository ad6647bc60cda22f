"""A command refuses, before it starts, to write over what it reads or to write two outputs to one place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, one_line

MODEL = ("--arch", "networks.py:vectors", "--input-size", "12")
DATA = ("--data", "vectors.npz")


@pytest.mark.parametrize(
    "arguments",
    [
        ("analyze", "bare.pt", *MODEL, "--json", "bare.pt"),
        ("analyze", "bare.pt", *MODEL, "--report", "./bare.pt"),
        ("analyze", "bare.pt", *MODEL, *DATA, "--json", "vectors.npz"),
        ("analyze", "bare.pt", *MODEL, "--json", "networks.py"),
        ("analyze", "bare.pt", *MODEL, "--curve", "a.png", "--json", "a.png"),
        ("prune", "bare.pt", *MODEL, "--macs", "0.5", "-o", "bare.pt"),
        ("prune", "bare.pt", *MODEL, "--macs", "0.5", "-o", "out.pt", "--save-plan", "bare.pt"),
        ("prune", "bare.pt", *MODEL, "--macs", "0.5", "-o", "out.pt", "--save-plan", "out.pt"),
        ("prune", "bare.pt", *MODEL, "--macs", "0.5", "-o", "out.pt", "--json", "hard.pt"),
        ("prune", "bare.pt", *MODEL, "--sweep", "0.8,0.5", "-o", "placed", "--json", "placed/sweep.json"),
        ("prune", "placed/macs-0.5.safetensors", *MODEL, "--sweep", "0.8,0.5", "-o", "placed"),
        ("train", "bare.pt", "--arch", "networks.py:vectors", *DATA, "-o", "out", "--json", "soft.pt"),
        ("train", "run/model.safetensors", *DATA, "-o", "run", "--resume"),
        ("distill", "bare.pt", "--teacher", "run/best.safetensors", *DATA, "-o", "run", "--resume"),
        ("distill", "bare.pt", "--teacher", "run/best.safetensors", *DATA, "-o", "new", "--json", "bare.pt"),
        ("export", "bare.pt", *MODEL, "-o", "out.ts", "--json", "out.ts"),
        ("export", "bare.safetensors", *MODEL, "-o", "bare.py"),
        ("export", "networks.py:vectors", "--input-size", "12", "-o", "networks.py"),
        ("export", "bare.pt", *MODEL, "-o", "out.py", "--json", "out.safetensors"),
        ("compare", "bare.pt", "soft.pt", *MODEL, "--json", "hard.pt"),
        ("compare", "bare.pt", *MODEL, *DATA, "--plot", "a.png", "--json", "a.png"),
        ("lab", "gradient-rule", "--quick", "--out", "placed", "--json", "placed/outcome.json"),
        ("lab", "check", "bare.pt", "--teacher", "bare.safetensors", *MODEL, "--json", "bare.pt"),
        ("prune", "bare.pt", *MODEL, "--macs", "0.5", "--save-plan", "-", "--json", "-"),
    ],
)
def test_nothing_is_destroyed(fork: Run, work: Path, arguments: tuple[str, ...]) -> None:
    _lay(work)
    before = _contents(work)
    one_line(fork(*arguments), "name ")
    assert _contents(work) == before


def _lay(work: Path) -> None:
    for name in (
        "bare.safetensors",
        "run/model.safetensors",
        "run/best.safetensors",
        "placed/macs-0.5.safetensors",
    ):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_bytes((work / "bare.pt").read_bytes())
    for name, make in (("hard.pt", os.link), ("soft.pt", os.symlink)):
        if not (work / name).exists():
            make(work / "bare.pt", work / name)


def _contents(work: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in work.rglob("*") if path.is_file()}


def test_where_stdout_goes_is_no_other_output(run: Run, work: Path) -> None:
    (work / "stdout").symlink_to("/proc/self/fd/1")
    done = run("plugins", "--json", "stdout")
    assert done.returncode == 0, done.stderr
    assert '"alignment metric": {' in done.stdout
    with (work / "said.json").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "tsdistill", "plugins", "--json", "said.json"],
            cwd=work,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert "stdout goes" in done.stderr
