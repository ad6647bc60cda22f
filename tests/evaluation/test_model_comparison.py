from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.evaluation import Comparison, compare, file_size, peak_memory
from tsdistill.models.info import InputSpec, ModelInfo, attach


def network(width: int, outputs: int = 4, inputs: int = 6, **spec) -> nn.Module:
    torch.manual_seed(width)
    model = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))
    attach(model, ModelInfo(input=InputSpec((inputs,), **spec)))
    return model


def test_models_side_by_side() -> None:
    dense, small = network(20), network(5)
    comparison = compare(
        {"dense": dense, "small": small}, torch.randn(30, 6), inputs={"batch_size": 16}, repeats=2
    )
    assert comparison.names == ("dense", "small")
    assert comparison.params == (6 * 20 + 20 + 20 * 4 + 4, 6 * 5 + 5 + 5 * 4 + 4)
    assert comparison.macs == (200, 50)
    assert comparison.file_size == (4 * comparison.params[0], 4 * comparison.params[1])
    assert comparison.peak_memory == tuple(peak_memory(m, torch.zeros(16, 6)) for m in (dense, small))
    assert comparison.peak_memory[0] == 4 * 16 * (20 + 20)
    assert all(seconds > 0 for seconds in (*comparison.latency, *comparison.throughput))
    assert all(spread >= 0 for spread in (*comparison.latency_spread, *comparison.throughput_spread))
    assert comparison.batch_size == 16
    assert comparison.device.startswith("cpu")
    assert comparison.metrics[0] == {"agreement": 100, "kl": 0}
    assert comparison.metrics[1]["kl"] > 0
    assert not comparison.traits["kl"].higher_is_better
    assert "30 samples of the tensor" in comparison.data
    assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison
    lines = str(comparison).splitlines()
    assert len(lines) == 3
    assert "agreement" in lines[0]
    assert "small" in lines[2]


class Slow(nn.Module):
    """Takes its time for every sample."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import time

        time.sleep(0.002 * len(x))
        return x


def test_throughput_counts_the_samples_of_a_batch() -> None:
    compared = compare(
        [Slow(), nn.Identity()], inputs={"example_input": torch.zeros(1, 3), "batch_size": 10}, repeats=1
    )
    assert 0.002 <= compared.latency[0] < 0.02
    assert 50 < compared.throughput[0] <= 500
    assert compared.throughput[1] > 2000


def test_without_data_costs_only_and_labels_add_accuracy() -> None:
    dense, small = network(20), network(5)
    costs = compare([dense, small], repeats=1)
    assert costs.names == ("model 1", "model 2")
    assert costs.metrics == ({}, {})
    assert (costs.data, costs.traits) == ("", {})
    labelled = compare([dense], [(torch.randn(9, 6), torch.arange(9) % 4)], repeats=1)
    assert set(labelled.metrics[0]) == {"top1"}
    assert compare([nn.Linear(3, 2)], inputs={"example_input": torch.zeros(1, 3)}, repeats=1).macs == (6,)


def test_brief_leaves_out_what_takes_longer() -> None:
    compared = compare([network(3), network(2)], repeats=1, brief=True)
    assert len(compared.latency) == 2
    assert compared.throughput == compared.peak_memory == compared.file_size == ()


def test_regression_by_default() -> None:
    dense, small = network(20, 2), network(5, 2)
    x = torch.randn(40, 6)
    with torch.no_grad():
        labels = dense(x) + 1
    compared = compare([dense, small], [(x, labels)], repeats=1)
    assert compared.metrics[0] == {"mse": pytest.approx(1), "output_mse": 0}
    assert compared.metrics[1]["output_mse"] > 0
    assert compare([network(3, 1), network(4, 1)], x, repeats=1).figures == ("output_mse",)


def test_the_size_of_files(tmp_path: Path) -> None:
    dense, small = network(2000), network(5)
    save_file(dense.state_dict(), tmp_path / "dense.safetensors")
    torch.save({"model": small.state_dict(), "optimizer": torch.zeros(10**6)}, tmp_path / "small.pt")
    files = [tmp_path / "dense.safetensors", tmp_path / "small.pt"]
    compared = compare([dense, small], files=files, names=["dense", "small"], repeats=1)
    assert compared.file_size == tuple(file_size(path) for path in files)
    assert len(compared.notes) == 1
    assert "the file of small holds more than its weights" in compared.notes[0]
    mixed = compare([dense, small], files=[files[0], None], repeats=1)
    assert mixed.file_size == (file_size(files[0]), file_size(small))


def test_inputs_prepared_in_another_way_are_noted() -> None:
    pair = {"a": network(3, mean=(0.5,), std=(1.0,)), "b": network(4)}
    assert compare(pair, repeats=1).notes == (
        "b was made for inputs of another mean or std; it sees those of a",
    )


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int | None]] = []
    compare(
        [network(3), network(4)],
        torch.zeros(10, 6),
        inputs={"batch_size": 4},
        repeats=1,
        progress=lambda phase, done, total: told.append((phase, done, total)),
    )
    assert [done for phase, done, _ in told if phase == "evaluating samples"] == [0, 4, 8, 10]
    assert [phase for phase, *_ in told][-2:] == ["timing, batch 4", "memory"]


def test_what_cannot_be_compared_is_one_line() -> None:
    pair = {"dense": network(3), "small": network(4, outputs=5)}
    with pytest.raises(TsdistillError, match="no models"):
        compare([])
    with pytest.raises(TsdistillError, match=r"1 names .*2 models"):
        compare([network(3), network(4)], names=["one"])
    with pytest.raises(TsdistillError, match=r"1 files .*2 models"):
        compare([network(3), network(4)], files=["one"])
    with pytest.raises(TsdistillError, match="input_size"):
        compare([nn.Linear(3, 2)])
    with pytest.raises(TsdistillError, match=r"top1 .*labels"):
        compare([network(3)], torch.zeros(4, 6), judging="top1")

    with pytest.raises(TsdistillError, match=r"dense .*\(1, 4\) .*small .*\(1, 5\)"):
        compare(pair)
    with pytest.raises(TsdistillError, match=r"model 1 .*6 .*model 2 .*7"):
        compare([network(3), network(3, inputs=7)])
    with pytest.raises(TsdistillError, match="model small's forward"):
        compare({"dense": network(3), "small": nn.Linear(5, 4)})


def test_models_are_given_in_one_list() -> None:
    x = torch.zeros(4, 6)
    for call in (lambda m: compare(m, m, data=x), lambda m: compare(m, x), lambda m: compare(m, m)):  # type: ignore[misc]
        with pytest.raises(TsdistillError, match="compare"):
            call(network(3))


class Heads(nn.Module):
    """Outputs of four values each in a mapping."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(6, 4) for name in names})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: head(x) for name, head in self.heads.items()}


@pytest.mark.parametrize("names", [("scores", "boxes"), ("scores", "boxes", "aux")])
def test_outputs_that_only_some_models_give_are_not_judged_and_named(names: tuple[str, ...]) -> None:
    models = {"all": Heads(*names), "one": Heads("scores"), "two": Heads("boxes", "scores")}
    x = torch.randn(20, 6)
    for order in (("all", "one", "two"), ("one", "all", "two"), ("two", "one", "all")):
        compared = compare(
            {name: models[name] for name in order},
            [x],
            inputs={"example_input": x[:1]},
            repeats=1,
            brief=True,
        )
        assert {name.partition("@")[2] or "scores" for name in compared.figures} == {"scores"}
        assert any("boxes" in note and "one gives no such output" in note for note in compared.notes)
    with pytest.raises(TsdistillError, match="'boxes'"):
        compare(
            list(models.values()),
            [x],
            judging=["output_mse@boxes"],
            inputs={"example_input": x[:1]},
            repeats=1,
        )
