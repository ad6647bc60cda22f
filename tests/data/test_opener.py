from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from tsdistill.data import SYNTHETIC_SAMPLES, open_data
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec

VECTOR = InputSpec((5,), source="the test")


def everything(stream) -> torch.Tensor:
    return torch.cat([x for x, _ in stream])


def rows(stream) -> set[tuple[float, ...]]:
    return {tuple(row) for row in everything(stream).flatten(1).tolist()}


def numbered(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None].expand(count, 5).contiguous()


def test_nothing_given_is_dead_leaves_for_images_and_says_so(spec: InputSpec) -> None:
    stream = open_data(None, spec, inputs={"samples": 9, "batch_size": 4})
    assert stream.synthetic
    assert not stream.labelled
    assert stream.samples == 9
    assert [len(x) for x, _ in stream] == [4, 4, 1]
    assert all(x.shape[1:] == (3, 32, 32) and y is None for x, y in stream)
    for words in (
        "9",
        "synthetic dead-leaves",
        "no data were given",
        "3x32x32",
        "bicubic",
        "0.485",
        "0.229",
        "the test",
    ):
        assert words in stream.description


def test_nothing_given_is_gaussian_for_vectors() -> None:
    stream = open_data(None, VECTOR)
    x = everything(stream)
    assert stream.samples == SYNTHETIC_SAMPLES == len(x)
    assert "gaussian" in stream.description
    assert x.mean().abs() < 0.1
    assert abs(x.std() - 1) < 0.1


def test_synthetic_images_are_normalised_as_the_model_wants(spec: InputSpec) -> None:
    plain = everything(open_data("synthetic:pink", InputSpec((3, 32, 32)), inputs={"samples": 3}))
    normal = everything(open_data("synthetic:pink", spec, inputs={"samples": 3}))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    assert plain.min() >= 0
    assert plain.max() <= 1
    torch.testing.assert_close(normal, (plain - mean) / std)


@settings(max_examples=25, deadline=None)
@given(total=st.integers(4, 60), samples=st.integers(2, 30), seed=st.integers(0, 5), size=st.integers(1, 9))
def test_a_part_is_the_same_every_time_and_the_held_out_part_shares_nothing(
    total, samples, seed, size
) -> None:
    data = numbered(total)
    stream = open_data(data, VECTOR, inputs={"samples": samples, "batch_size": size}, seed=seed)
    first = everything(stream)
    assert torch.equal(first, everything(stream))
    assert torch.equal(first, everything(open_data(data, VECTOR, inputs={"samples": samples}, seed=seed)))
    assert len(first) == min(samples, total) == stream.samples
    assert len(rows(stream)) == len(first)
    other = stream.held_out(samples)
    assert (other is None) == (samples >= total)
    if other is not None:
        assert not rows(stream) & rows(other)
        assert len(everything(other)) == min(samples, total - samples) == other.samples
        again = open_data(data, VECTOR, inputs={"samples": samples}, skip=samples, seed=seed)
        assert torch.equal(everything(other), everything(again))


def test_another_seed_is_another_part_in_random_order() -> None:
    parts = [
        everything(open_data(numbered(100), VECTOR, inputs={"samples": 20}, seed=seed))[:, 0]
        for seed in (0, 1)
    ]
    assert set(parts[0].tolist()) != set(parts[1].tolist())
    assert not torch.equal(parts[0], parts[0].sort().values)
    assert torch.equal(everything(open_data(numbered(100), VECTOR)), numbered(100))


@pytest.mark.parametrize("kind", ["dead-leaves", "pink", "gaussian"])
def test_synthetic_samples_depend_on_seed_and_position_alone(kind: str, spec: InputSpec) -> None:
    def made(inputs: dict[str, int], **options: int) -> torch.Tensor:
        return everything(open_data(f"synthetic:{kind}", spec, inputs, **options))

    whole = made({"samples": 6}, seed=3)
    assert torch.equal(whole, made({"samples": 6, "batch_size": 4}, seed=3))
    assert torch.equal(whole[4:], made({"samples": 2}, skip=4, seed=3))
    stream = open_data(f"synthetic:{kind}", spec, inputs={"samples": 4}, seed=3)
    held = stream.held_out(2)
    assert held is not None
    assert torch.equal(whole[4:], everything(held))
    assert not rows(stream) & rows(open_data(f"synthetic:{kind}", spec, inputs={"samples": 4}, seed=4))


def test_workers_read_what_the_process_itself_reads(photographs: Path, spec: InputSpec) -> None:
    alone = everything(open_data(str(photographs), spec))
    assert torch.equal(alone, everything(open_data(str(photographs), spec, workers=2)))


def test_workers_leave_an_interrupt_to_the_process_that_started_them() -> None:
    class Handlers(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> torch.Tensor:
            ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            return torch.tensor([float(ignored), torch.get_num_threads(), 0, 0, 0])

    assert everything(open_data(Handlers(), VECTOR, workers=1))[:, :2].tolist() == [[1, 1]] * 4


def test_the_global_generator_is_left_alone(spec: InputSpec) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    loader = DataLoader(TensorDataset(numbered(20)), batch_size=4, shuffle=True)
    for data in (None, loader, torch.randn(4, 5, generator=torch.Generator().manual_seed(0))):
        for _ in open_data(data, VECTOR, inputs={"samples": 4}):
            pass
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("generator", [None, 5])
def test_a_shuffling_loader_gives_one_order_every_time(generator: int | None) -> None:
    own = None if generator is None else torch.Generator().manual_seed(generator)
    loader = DataLoader(
        TensorDataset(numbered(30), torch.arange(30)), batch_size=7, shuffle=True, generator=own
    )
    stream = open_data(loader, VECTOR, inputs={"samples": 17})
    assert stream.labelled
    assert stream.samples == 17
    first = everything(stream)
    assert torch.equal(first, everything(stream))
    assert not torch.equal(first, first.sort(0).values)
    held = stream.held_out()
    assert held is not None
    assert held.samples == 13
    assert rows(stream) | rows(held) == {(float(n),) * 5 for n in range(30)}


def test_a_list_is_a_sequence_of_batches_kept_as_given() -> None:
    stream = open_data(
        [(numbered(3), torch.arange(3)), (numbered(4), [1, 2, 3, 4])], VECTOR, inputs={"samples": 5}
    )
    assert [(len(x), y.tolist()) for x, y in stream] == [(3, [0, 1, 2]), (2, [1, 2])]
    assert stream.samples == 5


def test_an_iterator_is_read_no_further_than_asked_and_can_be_gone_through_again() -> None:
    read = []

    def batches():
        for number in range(1000):
            read.append(number)
            yield torch.full((4, 5), float(number))

    stream = open_data(batches(), VECTOR, inputs={"samples": 10})
    first = everything(stream)
    assert len(first) == 10
    assert len(read) == 3
    assert torch.equal(first, everything(stream))
    assert len(read) == 3
    held = stream.held_out(4)
    assert held is not None
    assert everything(held)[:, 0].tolist() == [2, 2, 3, 3]


def test_mappings_and_unknown_inputs_pass_as_they_are() -> None:
    batch = {"input_ids": torch.ones(4, 7, dtype=torch.long), "labels": torch.arange(4)}
    ((x, y),) = open_data([batch], None, inputs={"samples": 3})
    assert set(x) == {"input_ids"}
    assert x["input_ids"].shape == (3, 7)
    assert y.tolist() == [0, 1, 2]
    ((x, y),) = open_data(torch.ones(2, 9, dtype=torch.long), None)
    assert x.dtype == torch.long
    assert y is None


def test_an_iterable_data_set_is_taken_in_its_order(spec: InputSpec) -> None:
    class Counting(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter((torch.full((5,), float(n)), n % 3) for n in range(50))

    stream = open_data(Counting(), VECTOR, inputs={"samples": 6, "batch_size": 4}, skip=2)
    assert everything(stream)[:, 0].tolist() == [2, 3, 4, 5, 6, 7]
    assert torch.cat([y for _, y in stream]).tolist() == [2, 0, 1, 2, 0, 1]


def test_a_transform_of_the_users_replaces_ours(photographs: Path) -> None:
    from torchvision.transforms import v2

    ours = v2.Compose([v2.RGB(), v2.Resize((20, 24)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    given = InputSpec((3, 20, 24), transform=ours)
    for data in (str(photographs), "synthetic:dead-leaves"):
        stream = open_data(data, given, inputs={"samples": 2})
        assert everything(stream).shape == (2, 3, 20, 24)
        assert "given transform" in stream.description


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_are_named_with_their_sample(value: float) -> None:
    data = torch.zeros(10, 5)
    data[7, 2] = value
    with pytest.raises(TsdistillError, match=r"\b7 .*(NaN|infinite)"):
        everything(open_data(data, VECTOR, inputs={"batch_size": 4}))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(4, 6), r"shape \(6,\) but the model reads \(5,\)"),
        ([torch.zeros(4, 6)], r"shape \(6,\) but the model reads \(5,\)"),
        (torch.zeros(0, 5), "no samples"),
        ([], "empty"),
        (iter([]), "no samples"),
        (7, "int is no data"),
        (["x"], "a batch is x or"),
        ([(torch.zeros(4, 5), torch.zeros(3))], "labels of shape"),
        ("no-such-folder", "no folder or file 'no-such-folder'"),
        ("no-such.npz", "no file"),
        ("nowhere:dir", "no data source"),
        ("synthetic:pinks", "no synthetic source 'pinks'"),
        ("synthetic:pink", "makes images"),
        ("fashion-mnist:/nowhere", "/nowhere"),
        ("fashion-mnist", "needs its folder"),
        ("cifar10:/nowhere", "/nowhere/cifar-10-batches-py"),
        ("mnist:/nowhere,split=best", "split 'best'"),
        ("torch/cifar10:/nowhere", "/nowhere"),
        ("torch/no-such-data:/nowhere", "no-such-data"),
        (__file__, "neither a folder"),
    ],
)
def test_bad_data_are_one_line(data, message: str) -> None:
    with pytest.raises(TsdistillError, match=message) as caught:
        everything(open_data(data, VECTOR))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": {"samples": 0}},
        {"inputs": {"samples": -1}},
        {"skip": -1},
        {"inputs": {"batch_size": 0}},
        {"skip": 10},
    ],
)
def test_bad_numbers_are_one_line(options) -> None:
    with pytest.raises(TsdistillError):
        open_data(torch.zeros(10, 5), VECTOR, **options)


def test_a_failing_data_set_is_one_line_from_worker_processes_too() -> None:
    class Broken(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int):
            if index == 5:
                raise KeyError("gone")
            return torch.zeros(5)

    for workers in (0, 1):
        with pytest.raises(TsdistillError, match=r"\b5 .*KeyError.*gone") as caught:
            everything(open_data(Broken(), VECTOR, workers=workers, inputs={"strict": True}))
        assert "\n" not in str(caught.value)


def test_named_sources_need_to_know_the_inputs() -> None:
    with pytest.raises(TsdistillError, match="input_size"):
        open_data(None, None)


def test_arrays_are_tensors() -> None:
    data = np.ones((3, 5))
    x = everything(open_data(data, VECTOR))
    assert x.dtype == torch.float32
    assert x.shape == (3, 5)
