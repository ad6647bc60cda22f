import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hostile_files import STATE
from tsdistill.models.files import torch_save
from tsdistill.models.files.pickled_values import Damaged


def saved(folder: Path, value: Any, zipped: bool = True) -> Path:
    path = folder / "a.pt"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("zipped", [True, False])
def test_a_nest_is_what_torch_reads(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    value = {
        "a": [base, base.T, base[1:, ::2], torch.ones(2, dtype=torch.bfloat16), torch.empty(0, 3)],
        7: (1, 2.5, None, True, "text", 2**70),
        "deep": {"x": {"y": [torch.tensor(3), ()]}},
    }
    path = saved(tmp_path, value, zipped)
    assert same(torch_save.load(path), torch.load(path, weights_only=True))


def test_every_flipped_bit_of_a_checkpoint_is_noticed_or_without_effect(tmp_path: Path) -> None:
    truth = torch.load(io.BytesIO(STATE), weights_only=True)
    path = tmp_path / "a.pt"
    for place in range(0, len(STATE), 7):
        changed = bytearray(STATE)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            found = torch_save.load(path)
        except (Damaged, OSError):
            continue
        assert same(found, truth), place


@pytest.mark.parametrize("value", [Path("x"), {"a": torch.nn.Linear(1, 1)}, [torch.float32], {"a": slice(3)}])
def test_objects_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(Damaged):
        torch_save.load(saved(tmp_path, value))


def test_nests_that_repeat_or_hold_themselves_are_refused(tmp_path: Path) -> None:
    shared: list[Any] = [1]
    for _ in range(35):
        shared = [shared, shared]
    with pytest.raises(Damaged, match="nested too deeply"):
        torch_save.load(saved(tmp_path, shared))
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(Damaged, match="nested too deeply"):
        torch_save.load(saved(tmp_path, itself))


def test_tensors_own_their_memory(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.ones(3)})
    before = path.read_bytes()
    found = torch_save.load(path)
    kept = copy.deepcopy(found)
    found["a"].zero_()
    assert path.read_bytes() == before
    path.write_bytes(b"")
    assert torch.equal(kept["a"], torch.ones(3))
