"""``tsdistill train`` and ``tsdistill distill`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import tsdistill as tsd
from tests.cli.conftest import Run, one_line

TRAIN = ("--trust", "--input-size", "12", "--data", "vectors.npz", "--epochs", "2", "--device", "cpu")


def test_train_then_distill_then_resume(fork: Run, work: Path, tmp_path: Path) -> None:
    teacher, out = str(tmp_path / "teacher"), tmp_path / "student"
    done = fork("train", "networks.py:vectors", *TRAIN, "--val", "vectors.npz", "-o", teacher)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("top-1") == 3
    assert "model.safetensors" in done.stdout
    (tmp_path / "how.toml").write_text('lr = 0.01\nepochs = 7\nloss = "logits"\n')
    arguments = (
        "distill", "networks.py:narrow", *TRAIN, "--teacher", f"{teacher}/model.safetensors", "-o", str(out),
        "--config", str(tmp_path / "how.toml"), "--loss", "soft-targets:T=2", "--loss", "0.5*node-alignment",
        "--set", "momentum=0.8",
    )  # fmt: skip
    done = fork(*arguments)
    assert done.returncode == 0, done.stderr
    assert "alignment 0." in done.stderr
    assert "Over training" in done.stdout
    options = json.loads((out / "options.json").read_text())["options"]
    assert (options["epochs"], options["lr"], options["momentum"]) == (2, 0.01, 0.8)
    assert options["loss"] == {"soft-targets:T=2": 1.0, "node-alignment": 0.5}
    assert (out / "alignment.html").exists()
    assert tsd.load(out / "model.safetensors", arch=f"{work}/networks.py:narrow") is not None
    one_line(fork(*arguments), "holds a run already", "--resume")
    one_line(fork(*arguments, "--resume", "--lr", "0.02"), "lr was 0.01 and is 0.02")
    assert fork(*arguments, "--resume").returncode == 0


def test_a_student_of_the_teacher_s_architecture(fork: Run, work: Path, tmp_path: Path) -> None:
    out = tmp_path / "wide"
    done = fork("distill", "--width", "2", "--teacher", "networks.py:vectors", *TRAIN, "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert "become 60" in done.stdout
    found = tsd.load(out / "model.safetensors", arch=f"{work}/networks.py:vectors")
    assert found[0].weight.shape == (60, 12)


def test_json_of_a_training(fork: Run, tmp_path: Path) -> None:
    teacher, out = tmp_path / "teacher", tmp_path / "student"
    done = fork(
        "train", "networks.py:vectors", *TRAIN, "--val", "vectors.npz", "-o", str(teacher), "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["format"], found["kind"], found["updates"]) == (1, "training", 2)
    assert found["files"] == {"model": f"{teacher}/model.safetensors", "alignment": None}
    assert found["log"] == [json.loads(line) for line in (teacher / "log.jsonl").read_text().splitlines()]
    assert found["options"] == json.loads((teacher / "options.json").read_text())["options"]
    judged = [line["val/top1"] for line in found["log"]]
    best = {"epoch": judged.index(max(judged)), "figure": max(judged), "metric": "top1", "unit": "%"}
    assert found["best"] == best
    file = tmp_path / "student.json"
    done = fork(
        "distill", "--width", "0.5", *TRAIN, "--teacher", "networks.py:vectors",
        "-o", str(out), "--json", str(file),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 updates" in done.stdout
    found = json.loads(file.read_text())
    assert found["files"] == {"model": f"{out}/model.safetensors", "alignment": f"{out}/alignment.html"}
    assert any("become 15" in note for note in found["notes"])
    assert 0 < found["log"][-1]["alignment"] <= 1


def test_bad_input(fork: Run, tmp_path: Path) -> None:
    teacher = ("--teacher", "networks.py:vectors")
    out = ("-o", str(tmp_path / "run"))
    one_line(fork("distill", *teacher, *TRAIN, *out), "no STUDENT", "--width")
    one_line(fork("train", "networks.py:vectors", *TRAIN, *out, "--loss", "hint"), "unknown loss", "hints")
    one_line(fork("train", "networks.py:vectors", *TRAIN, *out, "--set", "epoch=3"), "did you mean epochs")
    one_line(fork("train", "networks.py:vectors", *TRAIN, *out, "--config", "none.toml"), "none.toml")
    one_line(fork("train", "networks.py:vectors", *TRAIN, "-o", "networks.py"), "is a file")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    nowhere = ("--json", str(tmp_path / "none" / "result.json"))
    one_line(
        fork("train", "networks.py:vectors", *TRAIN, *out, *nowhere), "does not exist", "create it first"
    )
    one_line(fork("distill", *teacher, "--width", "2", *TRAIN, *out, *nowhere), "create it first")
    assert not (tmp_path / "run").exists()


def test_several_teachers_and_what_outputs_hold(fork: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    teachers = ("--teacher", "networks.py:vectors", "--teacher", "networks.py:narrow")
    more = (
        "--teacher-weight",
        "3",
        "--teacher-weight",
        "1",
        "--outputs",
        "output=values",
        "--ignore-index",
        "7",
    )
    arguments = ("distill", "networks.py:narrow", *TRAIN, *teachers, *more, "-o", str(out), "--cache-teacher")
    done = fork(*arguments)
    assert done.returncode == 0, done.stderr
    assert "2 teachers, weights 0.75, 0.25" in done.stdout
    options = json.loads((out / "options.json").read_text())
    assert options["teacher"] == ["networks.py:vectors", "networks.py:narrow"]
    assert options["options"]["loss"] == {"mse": 1.0}
    assert (options["options"]["outputs"], options["options"]["ignore_index"]) == ({"output": "values"}, 7)
    assert fork(*arguments, "--resume").returncode == 0
    one = ("distill", "networks.py:narrow", *TRAIN, "-o", str(tmp_path / "other"))
    one_line(fork(*one, *teachers, "--teacher-weight", "1"), "1 --teacher-weight for 2 --teacher")
    one_line(fork(*one, *teachers, "--outputs", "output=box"), "write NAME=classes")
