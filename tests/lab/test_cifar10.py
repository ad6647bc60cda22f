"""The experiment on images: on a few of them, called twice; and what its claims make of figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tsdistill as tsd
from tsdistill.errors import TsdistillError
from tsdistill.lab import run
from tsdistill.lab.experiments.cifar10 import Cifar10, claims, table
from tsdistill.lab.figures import figures
from tsdistill.lab.images import networks
from tsdistill.lab.images.image_sets import SETS, ImageSet, image_set

SMALL: dict[str, Any] = {
    "network": "strided", "samples": 128, "teacher_epochs": 1, "epochs": 1, "kept": 4, "rounds": 1,
    "calibrated": 64, "widths": (1, 2), "seeds": (0,), "batch_size": 64,
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """A set of the shape of Fashion-MNIST whose classes are bars at ten heights."""
    rng = np.random.default_rng(0)
    for stem, count in (("train", 200), ("t10k", 160)):
        labels = rng.integers(0, 10, count)
        pixels = rng.integers(0, 60, (count, 28, 28))
        for place, label in enumerate(labels):
            pixels[place, 2 * label + 3 : 2 * label + 7] += 150
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte", pixels)
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", labels)
    made = dataclasses.replace(SETS["fashion-mnist"], folder=tmp_path)
    monkeypatch.setitem(SETS, "fashion-mnist", made)
    return made


def write_idx(path: Path, values: np.ndarray) -> None:
    head = bytes([0, 0, 8, values.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    path.write_bytes(head + values.astype("u1").tobytes())


def test_it_runs_through_and_is_not_run_again(images: ImageSet, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    first = run("cifar10", keep=tmp_path / "cells", tell=lambda *line: said.append(line), settings=SMALL)
    assert list(first.data["nodes"].values()) == [4, 4, 4, 4]
    assert said[-1] == ("epochs of students", 2, 2)
    for student in first.data["runs"]:
        assert [len(student["epochs"]), student["seed"]] == [2, 0]
        assert all(0 <= epoch["alignment"] <= 1 for epoch in student["epochs"])
        assert student["epochs"][1]["output_mse"] < student["epochs"][0]["output_mse"]
    assert [row[0] for row in first.tables[0].rows] == ["1x", "2x"]
    drawn = figures(first)
    assert {name: len(figure.axes) for name, figure in drawn.items()} == {"alignment": 4, "loss": 1}
    again = run("cifar10", keep=tmp_path / "cells", settings=SMALL)
    assert again.data == first.data
    assert again.seconds < first.seconds


def test_images_are_read_as_a_model_reads_them(images: ImageSet) -> None:
    reading: dict[str, Any] = {"input_size": images.size, "mean": images.mean, "std": images.std}
    model = tsd.load("tsdistill.lab.images.networks:strided_gray", inputs=reading)
    x, y = next(
        iter(
            tsd.open_data(
                f"fashion-mnist:{images.folder}", tsd.info_of(model).input, inputs={"batch_size": 160}
            )
        )
    )
    part = images.part("test", 0, seed=0)
    assert torch.allclose(part.x, x, atol=1e-5)
    assert torch.equal(part.y, torch.as_tensor(y))
    some = images.part("test", 10, seed=0)
    assert len(some) == 10
    assert torch.equal(some.x, images.part("test", 10, seed=0).x)
    assert not torch.equal(some.x, images.part("test", 10, seed=1).x)


@pytest.mark.parametrize(("network", "side", "channels"), [("rgb", 32, 3), ("gray", 28, 1)])
def test_both_networks_have_four_layers_of_64(network: str, side: int, channels: int) -> None:
    for name in ("plain", "strided"):
        model = getattr(networks, f"{name}_{network}")()
        assert model(torch.zeros(2, channels, side, side)).shape == (2, 10)
        assert [m.out_channels for m in model if isinstance(m, torch.nn.Conv2d)] == [64] * 4


def runs(losses: dict[float, list[float]]) -> dict[float, list[dict[str, Any]]]:
    def epoch(loss: float) -> dict[str, float]:
        thirds = {"alignment/strong": 0.9, "alignment/weak": 0.5}
        return {"output_mse": loss, "agreement": 80.0, "top1": 70.0, "alignment": 1 - loss, **thirds}

    def run(width: float, seed: int, loss: float) -> dict[str, Any]:
        return {"width": width, "seed": seed, "epochs": [epoch(2.0), epoch(loss)]}

    return {
        width: [run(width, seed, loss) for seed, loss in enumerate(some)] for width, some in losses.items()
    }


def test_claims_follow_the_figures() -> None:
    held = [claim.held for claim in claims(runs({1: [0.4], 2: [0.3], 5: [0.2]}))]
    assert held == [True, True, True]
    assert [claim.held for claim in claims(runs({1: [0.2], 2: [0.3]}))][:2] == [False, False]
    assert [claim.held for claim in claims(runs({1: [0.4], 2: [0.2], 5: [0.25]}))][:2] == [False, False]
    assert [claim.held for claim in claims(runs({2: [0.3]}))][:2] == [None, None]


def test_the_table_has_means_over_seeds() -> None:
    rows = table(runs({1: [0.8], 10: [0.2, 0.4]}), ()).rows
    assert rows[0] == ("1x", 1, "0.8000", "80.00", "70.00", "0.200")
    assert rows[1] == ("10x", 2, "0.3000 ± 0.1414", "80.00 ± 0.00", "70.00 ± 0.00", "0.700 ± 0.141")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"data": "imagenet"}, "data .*fashion-mnist, cifar10.*imagenet"),
        ({"network": "deep"}, "network .*plain, strided.*deep"),
        ({"widths": ()}, "widths"),
        ({"kept": 0}, "kept.* 0"),
        ({"dtype": "float64"}, "dtype.* float32.*float64"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(TsdistillError, match=words):
        Cifar10(**wrong)


def test_cifar_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", offline)
    with pytest.raises(TsdistillError, match=r"no route to host.*fashion-mnist"):
        image_set("cifar10", str(tmp_path / "none"))
