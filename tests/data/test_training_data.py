"""Training data: another order every epoch, the same for everybody, from any number of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from tests.data.webdataset_files import timm_webdataset, webdataset_shards
from tsdistill.data.training_batch import Share, TrainingData
from tsdistill.data.training_data import open_training
from tsdistill.errors import TsdistillError
from tsdistill.models import InputSpec
from tsdistill.runtime.seeds import seeded_draws

SPEC = InputSpec((3, 12, 12))


def rows(count: int = 50) -> TensorDataset:
    return TensorDataset(torch.arange(count).float()[:, None], torch.arange(count))


def order(data: TrainingData, epoch: int, start: int = 0) -> list[int]:
    return [int(value) for batch in data.batches(epoch, start) for value in batch.y]


def pictures(folder: Path, count: int = 40) -> Path:
    generator = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class{number % 4}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return folder


def test_every_epoch_has_its_own_order() -> None:
    data = open_training(rows(), None, batch_size=8, seed=1)
    assert data.length == 6
    first, second = order(data, 0), order(data, 1)
    assert first != second
    assert len(set(first)) == 48
    assert order(data, 0) == first
    assert order(data, 1, start=2) == second[16:]
    assert order(open_training(rows(), None, batch_size=8, seed=2), 0) != first


def test_a_part_and_data_smaller_than_a_batch() -> None:
    part = open_training(rows(), None, batch_size=5, samples=20, seed=1)
    assert set(order(part, 0)) == set(order(part, 5))
    assert len(set(order(part, 0))) == 20
    small = open_training(rows(), None, batch_size=200)
    assert (small.length, small.batch_size) == (1, 50)
    assert sorted(order(small, 3)) == list(range(50))


def test_arrays_are_read_at_once_as_they_are_one_by_one(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (30, 12, 12, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(30))
    from tsdistill.data.arrays import read_arrays

    data = read_arrays(tmp_path / "a.npz", SPEC)
    taken, labels = data.take([3, 1])
    assert torch.equal(taken, torch.stack([data[3][0], data[1][0]]))
    assert labels.tolist() == [3, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_transform_draws_depends_on_seed_epoch_and_sample(tmp_path: Path, workers: int) -> None:
    folder = str(pictures(tmp_path))
    how: dict[str, Any] = {"batch_size": 10, "transform": {"scale": (0.3, 1.0)}, "seed": 4}
    alone = list(open_training(folder, SPEC, **how).batches(2))
    many = open_training(folder, SPEC, workers=workers, **how)
    for _ in range(2):
        for mine, theirs in zip(alone, many.batches(2), strict=True):
            assert torch.equal(mine.x, theirs.x)
            assert torch.equal(mine.y, theirs.y)
    shared = open_training(folder, SPEC, share=Share(1, 2), **how)
    for mine, theirs in zip(alone, shared.batches(2), strict=True):
        assert torch.equal(mine.x[1::2], theirs.x)
    assert not torch.equal(alone[0].x, next(iter(open_training(folder, SPEC, **how).batches(3))).x)
    fixed = open_training(folder, SPEC, batch_size=10)
    assert fixed.fixed
    assert not many.fixed


def test_drawing_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded_draws(1, 2):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded_draws(1, 2):
        assert torch.equal(torch.rand(2), inside)


class Counter(IterableDataset):
    """0 to 199, from no shards."""

    def __iter__(self) -> Any:
        return iter((torch.tensor([float(n)]), n) for n in range(200))


@pytest.mark.parametrize(("workers", "of"), [(0, 1), (2, 1), (2, 2)])
def test_a_stream_is_read_once_by_all_workers_together(workers: int, of: int) -> None:
    seen: list[int] = []
    for number in range(of):
        data = open_training(Counter(), None, batch_size=10, workers=workers, share=Share(number, of))
        found = order(data, 0)
        assert found == order(data, 0)
        assert order(data, 0, start=3) == found[3 * 10 // of :]
        assert found != order(data, 1)
        seen += found
    assert len(seen) == len(set(seen)) == 200


def test_webdataset_with_two_workers(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = webdataset_shards(tmp_path)
    stream = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls")
    data = open_training(stream, SPEC, batch_size=5, workers=2)
    assert sorted(order(data, 0)) == sorted([0, 1, 2, 3] * 10)


def test_webdataset_by_timm_s_name(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    name = timm_webdataset(tmp_path)
    data = open_training(f"{name},split=train", SPEC, batch_size=5, workers=2)
    assert sorted(order(data, 0)) == sorted([0, 1, 2, 3] * 10)


def test_hugging_face_streaming_with_two_workers() -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"x": [[float(n)] for n in range(40)], "label": list(range(40))})
    stream = table.to_iterable_dataset(num_shards=4).with_format("torch")
    data = open_training(stream, None, batch_size=5, workers=2)
    assert sorted(order(data, 0)) == list(range(40))
    assert order(data, 0) != order(data, 1)


def test_bad_numbers_are_refused() -> None:
    for words, how in (
        ("workers must be at least 0", {"batch_size": 1, "workers": -1}),
        ("divided among 4 processes", {"batch_size": 3, "share": Share(0, 4)}),
        ("for pictures", {"batch_size": 3, "transform": {}}),
    ):
        with pytest.raises(TsdistillError, match=words):
            open_training(rows(), None, **how)
    with pytest.raises(TsdistillError, match="colour"):
        open_training("synthetic:pink", SPEC, batch_size=4, transform={"colour": 1})
