import json
import os
import subprocess
from pathlib import Path

import pytest

from tsdistill.cli.analyze_command import natural

from .conftest import Run, one_line

NARROW = ("--teacher", "networks.py:narrow")
MODEL = ("networks.py:vectors", "--input-size", "12", "--data", "vectors.npz")


@pytest.fixture(scope="module")
def shown(run: Run, work: Path) -> subprocess.CompletedProcess[str]:
    return run(
        "analyze",
        *MODEL,
        "--teacher",
        "networks.py:narrow",
        "--metric",
        "cka",
        "--metric",
        "correlation",
        "--metric",
        "gates",
        "--nodes",
        "0",
        "--curve",
        "curve.png",
        "--json",
        "report.json",
    )


def test_tables_for_people(shown: subprocess.CompletedProcess[str]) -> None:
    assert shown.returncode == 0, shown.stderr
    assert "tsdistill:" not in shown.stderr
    assert "200 samples of vectors.npz" in shown.stdout
    for words in (
        "Groups beside the teacher's",
        "of 8",
        "one to",
        "cka: of the groups as a whole",
        "What may go",
        "candidates",
        "L-shaped curve of 0",
        "Nodes of 0",
        "best teacher node",
        "time    tracing",
    ):
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
    assert report["metrics"] == ["cka", "correlation", "gates"]
    assert report["metric"] == "correlation"
    assert list(report["groups"][0]["matches"]) == ["correlation", "gates"]
    assert 0 < report["groups"][0]["scores"]["cka"] < 1
    assert (work / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert not [file for file in work.iterdir() if file.name.endswith(".tmp")]


def test_json_to_stdout_is_nothing_but_json(fork: Run) -> None:
    done = fork(
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


def test_options_reach_the_analysis(fork: Run) -> None:
    given = ["--teacher", "networks.py:narrow", "--pair", "0=0", "--positions", "all", "--samples", "900"]
    limits = ["--aligned", "0.5", "--weak", "0", "--redundant", "0.75"]
    done = fork("analyze", *MODEL, *given, *limits, "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["thresholds"] == {"aligned": 0.5, "weak": 0.0, "redundant": 0.75}
    assert report["matching"]["pairs"] == {"0": "0"}
    assert report["matching"]["how"] == "as given"
    assert report["notes"][-1] == "--samples 900: the data have no more than 200"


def test_several_models_are_a_training(fork: Run) -> None:
    models = ["networks.py:vectors", "networks.py:narrow"]
    done = fork("analyze", *models, "--input-size", "12", "--data", "vectors.npz", "--json", "history.json")
    assert done.returncode == 0, done.stderr
    assert "2 checkpoints in this order: networks.py:narrow, networks.py:vectors" in done.stdout
    assert "the last checkpoint, networks.py:vectors, is the teacher of all" in done.stdout
    assert "Over training" in done.stdout
    assert "by group" not in done.stdout


def test_names_sort_as_people_sort_them() -> None:
    names = ["ckpt-10.pt", "ckpt-2.pt", "ckpt-1.pt", "a/ckpt-3.pt", "7.pt", "last.pt"]
    expected = ["7.pt", "a/ckpt-3.pt", "ckpt-1.pt", "ckpt-2.pt", "ckpt-10.pt", "last.pt"]
    assert sorted(names, key=natural) == expected


def test_a_page_and_plots(fork: Run, work: Path) -> None:
    done = fork("analyze", *MODEL, "--report", "report.html", "--plots", "figures")
    assert done.returncode == 0, done.stderr
    assert (work / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert {file.suffix for file in (work / "figures").iterdir()} == {".png", ".svg"}


PLUGIN = """
from tsdistill import hookimpl


class Broken:
    name = "broken"
    wants = "moments"

    def from_moments(self, moments):
        raise ArithmeticError("no figure\\ntoday")


@hookimpl
def register_alignment_metrics(register):
    register("broken", Broken())
"""


def test_a_metric_that_raises_is_named_and_the_others_are_shown(run: Run, work: Path, tmp_path: Path) -> None:
    info = tmp_path / "faulty-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[tsdistill]\nfaulty = faulty_metrics\n")
    (tmp_path / "faulty_metrics.py").write_text(PLUGIN)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    asked = ["--metric", "broken", "--metric", "cosine", "--json", "beside.json"]
    done = run("analyze", *MODEL, *asked, TSDISTILL_PLUGINS="faulty", PYTHONPATH=paths)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("tsdistill:")] == [
        "tsdistill: the metric broken (plugin 'faulty' of faulty 1.2) failed and is left out: "
        "ArithmeticError: no figure today"
    ]
    assert "All candidates together" in done.stdout
    report = json.loads((work / "beside.json").read_text())
    assert report["metric"] == "cosine"
    assert list(report["failed"]) == ["broken"]


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
        ([*MODEL, "--metric", "correlation", "--metric", "cak"], ["cak", "cka"]),
        ([*MODEL, "--augment", "nonsense"], ["nonsense"]),
        ([*MODEL, "--pair", "0=0"], ["--pair", "--teacher"]),
        ([*MODEL, *NARROW, "--pair", "0"], ["--pair", "'0' is not a pair"]),
        ([*MODEL, *NARROW, "--pair", "9=0"], ["'9'"]),
        ([*MODEL, *NARROW, "--pair", "0=9"], ["'9'"]),
        ([*MODEL, "--positions", "some"], ["--positions", "'some'"]),
        ([*MODEL, "--aligned", "2"], ["--aligned"]),
        ([*MODEL, "--report", "missing/report.html"], ["missing", "create it first"]),
        ([*MODEL, "--report", "-"], ["--report", "a file"]),
        ([*MODEL, "--plots", "networks.py"], ["networks.py is a file"]),
        ([*MODEL, "--curve", "curve.docx"], ["curve.docx", ".svg"]),
        ([*MODEL, "--teacher", "networks.py:convolutions"], ["teacher"]),
        (
            ["networks.py:overflowing", "--input-size", "12", "--data", "large.npz"],
            ["layer '1'", "not finite"],
        ),
        (["networks.py:narrow", "nowhere.pt", *MODEL[1:]], ["nowhere.pt"]),
        (["networks.py:convolutions", *MODEL], ["convolutions"]),
        ([], ["MODEL..."]),
        ([*MODEL, "--nodes", "9"], ["--nodes 9"]),
        ([*MODEL, "--teacher-arch", "timm:resnet18"], ["--teacher-arch", "--teacher"]),
        ([*MODEL, "--device", "tpu9"], ["tpu9"]),
    ],
)
def test_bad_input_is_one_line(fork: Run, arguments: list[str], words: list[str]) -> None:
    one_line(fork("analyze", *arguments), *words)
