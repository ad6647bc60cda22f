import json
import subprocess
from pathlib import Path

import pytest

from .conftest import Run, one_line

MODEL = ("networks.py:vectors", "--input-size", "12", "--data", "vectors.npz")


@pytest.fixture(scope="module")
def shown(run: Run, work: Path) -> subprocess.CompletedProcess[str]:
    return run(
        "analyze",
        *MODEL,
        "--teacher",
        "networks.py:narrow",
        "--nodes",
        "0",
        "--curve",
        "curve.png",
        "--json",
        "report.json",
    )


def test_tables_for_people(shown: subprocess.CompletedProcess[str]) -> None:
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    assert "200 samples of vectors.npz" in shown.stdout
    for words in ("of 8", "candidates", "L-shaped curve of 0", "Nodes of 0", "best teacher node"):
        assert words in shown.stdout
    rows = shown.stdout[shown.stdout.index("Nodes of 0") :].splitlines()
    assert sorted(int(row.split()[0]) for row in rows if row.split() and row.split()[0].isdigit()) == [
        *range(30)
    ]


def test_pipes_carry_no_colours(shown: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in shown.stdout


def test_files_are_written_whole(shown: subprocess.CompletedProcess[str], work: Path) -> None:
    report = json.loads((work / "report.json").read_text())
    assert report["kind"] == "alignment"
    assert [group["size"] for group in report["groups"]] == [30]
    assert (work / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert not [file for file in work.iterdir() if file.name.endswith(".tmp")]


def test_json_to_stdout_is_nothing_but_json(run: Run) -> None:
    done = run(
        "analyze", *MODEL, "--samples", "50", "--metric", "cosine", "--augment", "directions", "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["samples"] == 50
    assert report["metric"] == "cosine"
    assert report["has_teacher"] is False


def test_synthetic_data_is_said_to_be_synthetic(fork: Run) -> None:
    done = fork("analyze", "networks.py:convolutions", "--input-size", "3x16x16", "--samples", "20")
    assert done.returncode == 0, done.stderr
    assert "synthetic dead-leaves" in done.stdout
    assert "no data were given" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.pt"], ["nowhere.pt"]),
        (["cut_off.pt"], ["cut_off.pt"]),
        (["bare.pt", "--arch", "timm:no_such_network"], ["no_such_network"]),
        (["bare.pt", "--arch", "networks.py:narrow", "--input-size", "12"], ["bare.pt"]),
        (["timm:resnet1888"], ["resnet1888"]),
        (["networks.py:missing", "--input-size", "12"], ["missing"]),
        (["networks.py:vectors"], ["--input-size"]),
        (["networks.py:vectors", "--input-size", "12", "--data", "empty"], ["empty"]),
        (["networks.py:vectors", "--input-size", "12", "--data", "nowhere"], ["nowhere"]),
        (["networks.py:vectors", "--input-size", "13", "--data", "vectors.npz"], ["vectors.npz"]),
        (["networks.py:failing", "--input-size", "12"], ["no forward today"]),
        (["networks.py:not_finite", "--input-size", "12"], ["NaN"]),
        ([*MODEL, "--metric", "corelation"], ["corelation", "correlation"]),
        ([*MODEL, "--augment", "nonsense"], ["nonsense"]),
        ([*MODEL, "--nodes", "9"], ["--nodes 9"]),
        ([*MODEL, "--teacher-arch", "timm:resnet18"], ["--teacher-arch", "--teacher"]),
        ([*MODEL, "--device", "tpu9"], ["--device tpu9"]),
    ],
)
def test_bad_input_is_one_line(fork: Run, arguments: list[str], words: list[str]) -> None:
    one_line(fork("analyze", *arguments), *words)
