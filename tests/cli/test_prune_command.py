import json
import subprocess
from pathlib import Path

import pytest

import tsdistill as tsd

from .conftest import Run, one_line

MODEL = ("networks.py:convolutions", "--input-size", "3x16x16", "--data", "images.npz")


@pytest.fixture(scope="module")
def pruned(run: Run, work: Path) -> subprocess.CompletedProcess[str]:
    return run("prune", *MODEL, "--macs", "0.6", "-o", "small.safetensors", "--json", "outcome.json")


def test_what_is_printed(pruned: subprocess.CompletedProcess[str]) -> None:
    assert pruned.returncode == 0, pruned.stderr
    assert "tsdistill:" not in pruned.stderr
    for words in (
        "parameters",
        "MACs",
        "latency",
        "agreement with dense",
        "held-out samples",
        "small.safetensors",
    ):
        assert words in pruned.stdout
    assert "48 of 60" in pruned.stdout
    assert "12 of 60" in pruned.stdout
    assert "\x1b" not in pruned.stdout


def test_the_outcome_in_json_is_what_was_written(
    pruned: subprocess.CompletedProcess[str], work: Path
) -> None:
    outcome = json.loads((work / "outcome.json").read_text())
    dense, small = outcome["comparison"]["models"]
    assert small["macs"] <= 0.6 * dense["macs"]
    assert set(small["metrics"]) == {"top1", "top5", "agreement", "kl"}
    model = tsd.load(work / "small.safetensors", arch=f"{work}/networks.py:convolutions")
    assert sum(p.numel() for p in model.parameters()) == small["params"] < dense["params"]


def test_rounds_and_re_alignment_are_told(
    pruned: subprocess.CompletedProcess[str], fork: Run, work: Path
) -> None:
    outcome = json.loads((work / "outcome.json").read_text())
    rounds, realigned = outcome["rounds"], outcome["realigned"]
    assert rounds >= 1
    assert realigned >= 1
    assert (
        f"{rounds} round{'s' * (rounds > 1)}; {realigned} layer{'s' * (realigned > 1)} re-aligned"
        in pruned.stdout
    )
    how = ("--macs", "0.6", "--rounds", "2", "-o", "rounds.pt", "--json", "rounds.json")
    done = fork("prune", *MODEL, *how)
    assert done.returncode == 0, done.stderr
    outcome = json.loads((work / "rounds.json").read_text())
    assert outcome["rounds"] == 2
    assert f"2 rounds; {outcome['realigned']} layer" in done.stdout
    assert outcome["plan"]["after"]["macs"] == outcome["comparison"]["models"][1]["macs"]
    done = fork("prune", *MODEL, *how, "--no-realign")
    outcome = json.loads((work / "rounds.json").read_text())
    assert (outcome["rounds"], outcome["realigned"]) == (2, 0)
    assert "2 rounds; nothing re-aligned" in done.stdout
    made_up = fork("prune", *MODEL[:3], "--samples", "40", "--macs", "0.6", "-o", "made_up.pt", "--json", "-")
    assert made_up.returncode == 0, made_up.stderr
    outcome = json.loads(made_up.stdout)
    assert (outcome["rounds"], outcome["realigned"]) == (1, 0)


def test_help_names_what_is_done_about_the_nodes_that_stay(fork: Run) -> None:
    shown = " ".join(fork("prune", "--help").stdout.split())
    assert "--realign / --no-realign" in shown
    assert "fitted back to what they were" in shown
    assert "--rounds N" in shown


def test_pruning_twice(run: Run, pruned: subprocess.CompletedProcess[str], work: Path) -> None:
    again = ("small.safetensors", "--arch", "networks.py:convolutions", "--data", "images.npz")
    done = run("prune", *again, "--params", "70%", "-o", "smaller.pt", "--json", "-")
    assert done.returncode == 0, done.stderr
    dense, small = json.loads(done.stdout)["comparison"]["models"]
    assert (
        dense["params"]
        == json.loads((work / "outcome.json").read_text())["comparison"]["models"][1]["params"]
    )
    assert small["params"] <= 0.7 * dense["params"]
    assert (work / "smaller.pt").is_file()


def test_a_plan_can_be_saved_and_followed(run: Run, fork: Run, work: Path) -> None:
    saved = run("prune", *MODEL, "--nodes", "0.5", "--save-plan", "plan.json")
    assert saved.returncode == 0, saved.stderr
    assert "nothing was cut" in saved.stdout
    plan = tsd.PruningPlan.from_json(work / "plan.json")
    shown = fork("prune", *MODEL, "--plan", "plan.json", "--dry-run", "--json", "-")
    assert tsd.PruningPlan.from_dict(json.loads(shown.stdout)) == plan
    followed = run("prune", *MODEL, "--plan", "plan.json", "-o", "planned.safetensors", "--json", "-")
    assert followed.returncode == 0, followed.stderr
    params = json.loads(followed.stdout)["comparison"]["models"][1]["params"]
    assert params == plan.after["params"]


def _planned(fork: Run, *arguments: str) -> tsd.PruningPlan:
    done = fork("prune", *MODEL, *arguments, "--dry-run", "--json", "-")
    assert done.returncode == 0, done.stderr
    return tsd.PruningPlan.from_dict(json.loads(done.stdout))


def test_widths_groups_and_amounts_as_asked_for(fork: Run) -> None:
    rounded = _planned(fork, "--nodes", "0.6", "--round-to", "4")
    for group in rounded.groups.values():
        assert not group.removed or (group.size - len(group.removed)) % 4 == 0
    assert rounded.after["nodes"] <= 0.6 * rounded.before["nodes"]
    first, second = rounded.groups
    assert set(_planned(fork, "--nodes", "0.95", "--only", first).removed) == {first}
    both = _planned(fork, "--nodes", "0.9", "--only", first, "--only", "[3-9]", "--exclude", first)
    assert set(both.removed) == {second}
    amount = _planned(fork, "--params", "2k")
    assert amount.after["params"] <= 2000 < amount.before["params"]
    assert amount.budget == "at most 2000 parameters kept"
    lossless = _planned(fork, "--lossless")
    assert lossless.budget == "lossless"
    assert all(set(group.reasons) <= {"free", "dead"} for group in lossless.groups.values())


def test_without_loss_the_outputs_agree(fork: Run, work: Path) -> None:
    done = fork("prune", *MODEL, "--lossless", "-o", "same.safetensors", "--json", "-")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["plan"]["budget"] == "lossless"
    small = outcome["comparison"]["models"][1]["metrics"]
    assert small["agreement"] == 100
    assert small["kl"] < 1e-6


def test_a_dry_run_writes_nothing(fork: Run, work: Path) -> None:
    done = fork("prune", *MODEL, "--macs", "0.5", "--dry-run", "-o", "never.safetensors")
    assert done.returncode == 0, done.stderr
    assert "Plan: at most 0.5 of the MACs kept" in done.stdout
    assert not (work / "never.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--macs", "0.5"], ["-o OUT"]),
        (["-o", "x.safetensors"], ["budget", "macs"]),
        (["--macs", "0.5", "--params", "0.5", "-o", "x.safetensors"], ["--macs and --params"]),
        (["--macs", "1.5", "-o", "x.safetensors"], ["1.5"]),
        (["--macs", "half", "-o", "x.safetensors"], ["half"]),
        (["--macs", "900G", "-o", "x.safetensors"], ["900G MACs", "above what the model has"]),
        (["--lossless", "--macs", "0.5", "-o", "x.safetensors"], ["--macs and --lossless"]),
        (["--macs", "0.5", "--only", "body.*", "-o", "x.safetensors"], ["only 'body.*' meets no group"]),
        (["--macs", "0.5", "--exclude", "*", "-o", "x.safetensors"], ["no group that could be cut"]),
        (
            ["--plan", "plan.json", "--only", "x", "--lossless", "-o", "x.pt"],
            ["--lossless, --only", "--plan"],
        ),
        (["--macs", "0.001", "-o", "x.safetensors"], ["smallest"]),
        (["--macs", "0.5", "-o", "x.onnx"], ["x.onnx", ".safetensors"]),
        (["--macs", "0.5", "-o", "no/such/x.pt"], ["no/such"]),
        (["--macs", "0.5", "-o", "/proc/x.pt"], ["/proc"]),
        (["--macs", "0.5", "-o", "empty"], ["empty"]),
        (["--plan", "nowhere.json", "-o", "x.pt"], ["nowhere.json"]),
        (["--plan", "networks.py", "-o", "x.pt"], ["plan"]),
        (["--plan", "dropped.pt", "-o", "x.pt"], ["dropped.pt"]),
        (["--plan", "plan.json", "--macs", "0.5", "-o", "x.pt"], ["--macs", "--plan"]),
        (["--plan", "plan.json", "--rounds", "2", "-o", "x.pt"], ["--rounds and --plan"]),
        (["--macs", "0.5", "--rounds", "0", "-o", "x.pt"], ["--rounds", "0"]),
        (["--macs", "0.5", "--rounds", "some", "-o", "x.pt"], ["--rounds", "some"]),
        (["--lossless", "--realign", "-o", "x.pt"], ["lossless", "re-aligned"]),
        (["--macs", "0.5", "--realign", "--data", "synthetic:pink", "-o", "x.pt"], ["real data"]),
    ],
)
def test_bad_input_is_one_line(fork: Run, work: Path, arguments: list[str], words: list[str]) -> None:
    before = sorted(work.iterdir())
    one_line(fork("prune", *MODEL, *arguments), *words)
    assert sorted(work.iterdir()) == before


def test_re_alignment_without_data(fork: Run, work: Path) -> None:
    done = fork("prune", *MODEL[:3], "--macs", "0.5", "--realign", "-o", "x.pt")
    one_line(done, "--realign", "--data")
    assert not (work / "x.pt").exists()


def test_labels_that_number_something_else_are_no_obstacle(fork: Run, work: Path) -> None:
    done = fork("prune", "networks.py:maps", *MODEL[1:], "--macs", "0.6", "-o", "maps.safetensors")
    assert done.returncode == 0, done.stderr
    assert "agreement with dense" in done.stdout
    assert tsd.load(work / "maps.safetensors", arch=f"{work / 'networks.py'}:maps")


def test_labels_out_of_range_are_refused_before_the_work(fork: Run, work: Path) -> None:
    done = fork("prune", *MODEL[:3], "--data", "far.npz", "--macs", "0.6", "-o", "far.safetensors")
    one_line(done, "labels are", "5 classes")
    assert "observing" not in done.stderr
    assert not (work / "far.safetensors").exists()


def test_a_plan_of_another_network(fork: Run, work: Path) -> None:
    made = fork("prune", *MODEL, "--nodes", "0.5", "--save-plan", "other.json")
    assert made.returncode == 0, made.stderr
    vectors = ("networks.py:vectors", "--input-size", "12", "--data", "vectors.npz")
    one_line(fork("prune", *vectors, "--plan", "other.json", "-o", "x.pt"), "plan")


def test_the_output_is_checked_before_the_model_is_loaded(fork: Run) -> None:
    one_line(fork("prune", "nowhere.pt", "--macs", "0.5", "-o", "no/such/x.pt"), "no/such")


def test_heads_go_whole_or_by_their_size(fork: Run, work: Path) -> None:
    how = "pretrained=false,img_size=16,patch_size=4,embed_dim=24,depth=1,num_heads=3,num_classes=5"
    model = (f"timm:vit_tiny_patch16_224,{how}", "--macs", "0.5", "--samples", "64")
    shown = {}
    for heads in ("whole", "size"):
        plan = f"heads-{heads}.json"
        done = fork("prune", *model, "--heads", heads, "--dry-run", "--save-plan", plan, "--json", "-")
        assert done.returncode == 0, done.stderr
        shown[heads] = json.loads(done.stdout)
    assert shown["whole"]["groups"]["blocks.0.attn.qkv"]["size"] == 3
    assert shown["size"]["groups"]["blocks.0.attn.qkv"]["size"] == 8
    assert shown["size"]["by_size"] == ["blocks.0.attn.qkv"]
    assert shown["whole"]["by_size"] == []
    followed = fork(
        "prune", model[0], "--plan", "heads-size.json", "--samples", "64", "-o", "heads.safetensors"
    )
    assert followed.returncode == 0, followed.stderr
    small = tsd.load(work / "heads.safetensors")
    gone = len(shown["size"]["groups"]["blocks.0.attn.qkv"]["removed"])
    assert small.blocks[0].attn.head_dim == 8 - gone
    one_line(fork("prune", *model, "--heads", "both", "--dry-run"), "both", "whole")


RESIDUAL = ("networks.py:residual", "--input-size", "3x16x16", "--data", "images.npz")


def test_branches_are_listed_and_dropped(fork: Run, work: Path) -> None:
    listed = fork("analyze", *RESIDUAL, "--no-cuts", "--json", "branches.json")
    assert listed.returncode == 0, listed.stderr
    names = [branch["name"] for branch in json.loads((work / "branches.json").read_text())["branches"]]
    assert all(name in listed.stdout for name in names)
    done = fork(
        "prune", *RESIDUAL, "--drop", names[0], "-o", "dropped.pt", "--save-plan", "drop.json", "--fast"
    )
    assert done.returncode == 0, done.stderr
    assert f"branches that leave: {names[0]}" in done.stdout
    assert json.loads((work / "drop.json").read_text())["branches"] == names[:1]
    bare = tsd.load(work / "dropped.pt", arch=f"{work}/networks.py:residual")
    whole = tsd.load(f"{work}/networks.py:residual")
    assert sum(p.numel() for p in bare.parameters()) < sum(p.numel() for p in whole.parameters())
    shown = fork("prune", *RESIDUAL, "--plan", "drop.json", "--dry-run")
    assert names[0] in shown.stdout


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--drop", "nothing"), "nothing"),
        (("--drop", "*", "--macs", "0.5"), "--macs"),
        (("--drop", "*", "--only", "a"), "--only"),
        (("--drop", "*", "--plan", "drop.json"), "--drop"),
        (("--drop", "*", "--sweep", "0.5"), "--sweep"),
    ],
)
def test_what_does_not_go_with_drop_is_one_line(fork: Run, options: tuple[str, ...], cause: str) -> None:
    one_line(fork("prune", *RESIDUAL, *options, "-o", "x.pt"), cause)
