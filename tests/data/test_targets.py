from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tsdistill.data import open_data
from tsdistill.data.targets import check_target, collate_targets, cut_target, target_of
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec

SPEC = InputSpec((3, 8, 8))


def boxes(number: int) -> dict[str, torch.Tensor]:
    """As many boxes as the number of the sample says."""
    return {"boxes": torch.full((number, 4), float(number)), "labels": torch.arange(number)}


class Pictures(Dataset):
    """Pictures of numbers 0 to 5, each with its boxes."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return torch.full((3, 8, 8), float(index)), boxes(index)


def everything(stream) -> list[tuple[float, dict]]:
    return [(float(x.flatten()[0]), y) for xs, ys in stream for x, y in zip(xs, ys, strict=True)]


def test_numbers_become_a_tensor_and_structures_stay() -> None:
    assert torch.equal(target_of([1, 2, 3]), torch.tensor([1, 2, 3]))
    assert torch.equal(target_of([torch.tensor(1), torch.tensor(2)]), torch.tensor([1, 2]))
    assert torch.equal(target_of(np.ones(2)), torch.ones(2, dtype=torch.float64))
    for given in ([boxes(1), boxes(2)], {"boxes": torch.ones(2, 4)}, [torch.ones(2, 4), torch.ones(2, 4)]):
        assert target_of(given) is given
    assert target_of(None) is None
    with pytest.raises(TsdistillError, match="list of 2"):
        target_of(["cat", "dog"])


def test_samples_become_a_batch() -> None:
    assert collate_targets([3, 1]).tolist() == [3, 1]
    assert collate_targets([3, 1]).dtype == torch.long
    assert collate_targets([0.5, 1.5]).dtype == torch.float32
    assert collate_targets([torch.ones(4), torch.zeros(4)]).shape == (2, 4)
    for none in ([None, 1], [-1, -1], ["cat", "dog"]):
        assert collate_targets(none) is None
    for kept in ([boxes(1), boxes(2)], [torch.ones(1, 4), torch.ones(3, 4)], [[1, 2], [3]]):
        made = collate_targets(kept)
        assert isinstance(made, list)
        assert (
            made == kept
            if isinstance(kept[0], list)
            else all(a is b for a, b in zip(made, kept, strict=True))
        )


def test_cutting_takes_the_same_samples_of_every_entry() -> None:
    numbers = torch.arange(5)
    assert cut_target(numbers, 1, 3, 5).tolist() == [1, 2]
    assert cut_target([10, 11, 12, 13, 14], 1, 3, 5) == [11, 12]
    cut = cut_target({"a": numbers, "size": torch.tensor(7), "name": "x"}, 3, 5, 5)
    assert cut["a"].tolist() == [3, 4]
    assert (int(cut["size"]), cut["name"]) == (7, "x")
    first, second = cut_target((numbers, numbers + 10), 0, 2, 5)
    assert (first.tolist(), second.tolist()) == ([0, 1], [10, 11])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(3), r"4 samples has labels of shape \(3,\)"),
        (torch.tensor(1), r"labels of shape \(\)"),
        ([boxes(1)] * 3, "4 samples has 3 targets"),
        ([torch.zeros(3), torch.zeros(4)], "4 samples has 2 targets"),
    ],
)
def test_a_target_for_every_sample(target, message: str) -> None:
    with pytest.raises(TsdistillError, match=message):
        check_target(target, 4, "the data")


def test_what_fits_passes() -> None:
    for target in (None, torch.zeros(4), [boxes(1)] * 4, (torch.zeros(4), torch.zeros(4, 2)), {"any": 1}):
        check_target(target, 4, "the data")


def test_a_data_set_with_boxes() -> None:
    stream = open_data(Pictures(), SPEC, inputs={"samples": 4, "batch_size": 3}, seed=1)
    assert stream.labelled
    found = everything(stream)
    assert len(found) == 4
    assert all(len(y["boxes"]) == number for number, y in found)


@pytest.mark.parametrize("pictures", ["stacked", "listed"])
def test_batches_of_boxes_in_python(pictures: str) -> None:
    """As torchvision's detection references collate them, and stacked."""

    def collate(items):
        xs, ys = zip(*items, strict=True)
        return (torch.stack(xs) if pictures == "stacked" else xs), ys

    stream = open_data(DataLoader(Pictures(), batch_size=4, collate_fn=collate), SPEC, inputs={"samples": 5})
    batches = list(stream)
    assert [len(x) for x, _ in batches] == [4, 1]
    assert all(isinstance(x, list) == (pictures == "listed") for x, _ in batches)
    assert [len(y["boxes"]) == number for number, y in everything(stream)] == [True] * 5


def test_pictures_of_different_sizes_and_nan_in_one_of_them() -> None:
    x = [torch.zeros(3, 8, 8), torch.zeros(3, 9, 5)]
    ((same, y),) = open_data([(x, [boxes(0), boxes(1)])], SPEC)
    assert [tuple(sample.shape) for sample in same] == [(3, 8, 8), (3, 9, 5)]
    assert len(y[1]["boxes"]) == 1
    x[1][0, 0, 0] = torch.nan
    with pytest.raises(TsdistillError, match=r"\b1 .*NaN"):
        list(open_data([(x, [boxes(0), boxes(1)])], SPEC))


def test_a_default_collated_mapping_of_targets() -> None:
    items = [(torch.zeros(3, 8, 8), {"value": float(n), "mass": torch.ones(2)}) for n in range(5)]
    loader: DataLoader = DataLoader(items, batch_size=5)  # type: ignore[arg-type]
    stream = open_data(loader, SPEC, inputs={"samples": 3})
    ((x, y),) = stream
    assert len(x) == 3
    assert y["value"].tolist() == [0, 1, 2]
    assert y["mass"].shape == (3, 2)
