"""Pictures that cannot be read: left out, counted and named, or with ``--strict`` an error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run, one_line

MODEL = ("networks.py:convolutions", "--input-size", "3x16x16")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "7.png").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("analyze", *MODEL, "--json", "-"),
        ("prune", *MODEL, "--macs", "0.7", "--no-joint", "-o", "left.pt", "--json", "-"),
        ("compare", "networks.py:convolutions", "networks.py:convolutions", *MODEL[1:], "--json", "-"),
    ],
    ids=["analyze", "prune", "compare"],
)
def test_one_bad_picture_is_left_out_counted_and_named(
    fork: Run, pictures: Path, work: Path, arguments: tuple[str, ...]
) -> None:
    done = fork(*arguments, "--data", str(pictures))
    (work / "left.pt").unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr
    notes = [note for note in json.loads(done.stdout)["notes"] if "could not be read" in note]
    assert notes, done.stdout[:500]
    assert all(note.startswith("1 of ") and "7.png" in note for note in notes)
    one_line(fork(*arguments, "--data", str(pictures), "--strict"), "7.png")
