"""``tsdistill lab``: experiments listed, run, kept, refused; and ``lab check``."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.conftest import Run, one_line
from tsdistill.cli.command import options
from tsdistill.cli.main import main
from tsdistill.lab import EXPERIMENTS, Experiment, Outcome, Settings
from tsdistill.lab.cli.setting_options import settings_options
from tsdistill.options.option_fields import known_fields, option

SMALL = (
    "--counts", "12,30", "--over", "1,2", "--seeds", "2", "--inputs", "12", "--outputs", "4", "--nodes", "3",
    "--steps", "100",
)  # fmt: skip


def test_the_list_of_experiments_is_quick_and_imports_little(run: Run) -> None:
    code = (
        "import sys, tsdistill.cli.main as m\n"
        "try:\n    m.main(['lab', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    for name in (*EXPERIMENTS, "check"):
        assert f"\n  {name} " in done.stdout
    alone = run("lab")
    assert alone.returncode == 0
    assert alone.stdout == run("lab", "--help").stdout


def test_an_experiment_runs_is_written_and_goes_on_from_what_is_kept(fork: Run, tmp_path: Path) -> None:
    out = tmp_path / "few"
    first = fork("lab", "augmentation", *SMALL, "--seed", "3", "--out", str(out))
    assert first.returncode == 0, first.stderr
    assert "tsdistill:" not in first.stderr
    assert {file.name for file in out.iterdir()} == {"cells", "outcome.json", "loss.png", "loss.svg"}
    assert "Evaluation loss" in first.stdout
    assert "claims held" in first.stdout
    written = json.loads((out / "outcome.json").read_text())
    assert (written["format"], written["kind"], written["name"]) == (1, "lab", "augmentation")
    assert written["settings"]["counts"] == [12, 30]
    assert written["settings"]["seed"] == 3
    before = {file: file.stat().st_mtime_ns for file in (out / "cells").iterdir()}
    assert len(before) == 2
    again = fork("lab", "augmentation", *SMALL, "--seed", "3", "--out", str(out), "--json", "-")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["data"] == written["data"]
    assert {file: file.stat().st_mtime_ns for file in (out / "cells").iterdir()} == before


def test_quick_is_a_start_that_options_change(fork: Run, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "quick"), "--json", "-")
    done = fork("lab", "augmentation", "--quick", *SMALL[:2], *SMALL[4:], *out)
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)["settings"]
    assert settings["over"] == [1, 10]
    assert settings["counts"] == [12, 30]
    assert settings["steps"] == 100


def test_without_out_there_is_a_folder_of_its_own(work: Path, fork: Run) -> None:
    done = fork("lab", "augmentation", "--quick", *SMALL)
    assert done.returncode == 0, done.stderr
    assert (work / "lab" / "augmentation-quick" / "outcome.json").exists()
    assert not (work / "lab" / "augmentation").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["twolayer"], ["twolayer", "two-layer"]),
        (["augmentation", "--inputs", "0"], ["--inputs", "above 0"]),
        (["augmentation", "--decay", "-1"], ["--decay", "-1"]),
        (["augmentation", "--counts", "30,many"], ["--counts", "many"]),
        (["augmentation", "--counts", ","], ["--counts"]),
        (["augmentation", "--seeds", "100000000"], ["GB", "reduce --seeds"]),
        (["augmentation", "--dtype", "half"], ["--dtype", "float32", "float64"]),
        (["augmentation", "--device", "cuda:99"], ["cuda:99"]),
        (["augmentation", "--out", "networks.py"], ["is a file"]),
        (["augmentation", "--json", "none/x.json"], ["create it first"]),
        (["check", "networks.py:vectors"], ["--teacher"]),
        (["check", "networks.py:vectors", "--teacher", "networks.py:nothing", "--trust"], ["nothing"]),
    ],
)
def test_bad_input_is_one_line(fork: Run, arguments: list[str], words: list[str]) -> None:
    one_line(fork("lab", *arguments), *words)


def test_an_interrupted_run_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr("tsdistill.lab.cli.lab_command.run", stopped)
    with pytest.raises(SystemExit) as left:
        main(["lab", "augmentation", "--out", str(tmp_path)])
    assert left.value.code == 130
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [f"tsdistill: interrupted (the same command resumes from {tmp_path}/cells)"]


def test_check_of_a_pair(fork: Run, tmp_path: Path) -> None:
    pair = ("networks.py:vectors", "--teacher", "networks.py:narrow", "--trust", "--input-size", "12")
    data = ("--data", "vectors.npz", "--samples", "64")
    done = fork("lab", "check", *pair, *data)
    assert done.returncode == 0, done.stderr
    for words in ("Rectified layers of the student", "gradient", "held", "advice"):
        assert words in done.stdout
    file = tmp_path / "check.json"
    assert fork("lab", "check", *pair, *data, "--json", str(file)).returncode == 0
    found = json.loads(file.read_text())
    assert (found["format"], found["kind"], found["samples"]) == (1, "lab check", 64)
    assert [layer["nodes"] for layer in found["student"] + found["teacher"]] == [30, 8]
    same = ("networks.py:narrow", *pair[1:])
    settled = json.loads(fork("lab", "check", *same, *data, "--json", "-").stdout)
    assert settled["student"][0]["gradient"] < 1e-6
    assert found["student"][0]["gradient"] > 0.1


@dataclass(frozen=True)
class Example(Settings):
    counts: tuple[int, ...] = option((1, 2), "How many")
    shares: tuple[float, ...] = option((0.5,), "Parts", least=0)
    names: tuple[str, ...] = option(("a",), "Names")
    rate: float = option(0.1, "How fast")
    folder: str | None = option(None, "Where")
    biases: bool = option(True, "Whether")


def command() -> click.Command:
    definition = Experiment(Example, {"counts": (1,)}, lambda settings, context: Outcome("", {}, (), ()))
    example: click.Command = click.command(options(*settings_options(definition))(lambda **_: None))
    return example


def parsed(*arguments: str) -> dict[str, Any]:
    params = command().make_context("example", list(arguments)).params
    return {name: value for name, value in params.items() if value is not None}


def test_settings_become_options_of_their_type() -> None:
    assert parsed() == {}
    params = parsed(
        "--counts", "3, 4", "--shares", "0,1e-3", "--names", "x,y", "--rate", "2", "--folder", "here",
        "--no-biases", "--seed", "5", "--dtype", "float64",
    )  # fmt: skip
    assert params == {
        "counts": (3, 4), "shares": (0.0, 0.001), "names": ("x", "y"), "rate": 2.0, "folder": "here",
        "biases": False, "seed": 5, "dtype": "float64",
    }  # fmt: skip
    assert Example(**params).biases is False
    for wrong in ("0,-1", "x", ",", "0,nan"):
        with pytest.raises(click.BadParameter):
            parsed("--shares", wrong)


def test_help_has_defaults_and_those_of_quick(fork: Run) -> None:
    helps = {option.name: option.help for option in command().params if isinstance(option, click.Option)}
    assert helps["counts"] == "How many [1,2; with --quick 1]"
    assert helps["biases"] == "Whether [yes]"
    assert helps["folder"] == "Where"
    shown = fork("lab", "augmentation", "--help").stdout
    assert "--counts N,N,..." in shown
    assert "--quick" in shown


def test_every_experiment_that_is_there_has_options() -> None:
    from tsdistill.lab import experiment

    for name in EXPERIMENTS:
        definition = experiment(name)
        assert set(definition.quick) <= set(known_fields(definition.settings))
        definition.settings.of(definition.quick)
