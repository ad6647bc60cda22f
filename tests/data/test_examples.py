"""examples.py: example inputs from files and functions, and samples like them."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tsdistill.data.examples import LikeExample, read_example
from tsdistill.errors import TsdistillError

IDS, X = torch.arange(6)[None], torch.linspace(0, 1, 12).reshape(1, 3, 4)


def test_files_of_every_kind(tmp_path):
    torch.save((IDS, {"x": X}), tmp_path / "tuple.pt")
    np.save(tmp_path / "one.npy", X.numpy())
    np.savez(tmp_path / "named.npz", ids=IDS.numpy(), x=X.numpy())
    safetensors.torch.save_file({"ids": IDS, "x": X}, tmp_path / "named.safetensors")
    ids, rest = read_example(str(tmp_path / "tuple.pt"))
    assert torch.equal(ids, IDS)
    assert torch.equal(rest["x"], X)
    assert torch.equal(read_example(str(tmp_path / "one.npy")), X)
    for name in ("named.npz", "named.safetensors"):
        found = read_example(str(tmp_path / name))
        assert set(found) == {"ids", "x"}
        assert torch.equal(found["ids"], IDS)


def test_a_function_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\ndef example():\n    return {'ids': torch.ones(1, 4).long()}\n"
    )
    assert read_example(f"{tmp_path}/mine.py:example")["ids"].tolist() == [[1, 1, 1, 1]]


def bad_file(folder, name):
    if name == "pickled.pt":
        torch.save(nn.Linear(2, 2), folder / name)
    elif name == "objects.npy":
        np.save(folder / name, np.array([{}], dtype=object))
    elif name == "empty.pt":
        torch.save({"a": 3}, folder / name)
    elif name == "wrong.txt":
        (folder / name).write_text("x")
    elif name == "torn.safetensors":
        (folder / name).write_bytes(b"12")
    elif name == "failing.py":
        (folder / name).write_text("def example():\n    raise ValueError('no')\n")
        return f"{folder / name}:example"
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickled.pt", "cannot be read"),
        ("objects.npy", "cannot be read"),
        ("torn.safetensors", "cannot be read"),
        ("empty.pt", "without tensors"),
        ("wrong.txt", "a file ends in"),
        ("missing.pt", "no such file"),
        ("failing.py", "failed with ValueError: no"),
    ],
)
def test_bad_examples_are_one_line(tmp_path, name, message):
    with pytest.raises(TsdistillError, match=message) as caught:
        read_example(bad_file(tmp_path, name))
    assert "\n" not in str(caught.value)


def test_samples_have_the_form_of_the_example_and_differ():
    samples = LikeExample({"x": X, "ids": IDS * 3})
    first, second = samples[0], samples[1]
    assert (first["x"].shape, first["ids"].dtype) == (X.shape[1:], torch.int64)
    assert set(first["ids"].tolist()) <= set((IDS * 3).reshape(-1).tolist())
    assert not torch.equal(first["x"], second["x"])
    assert torch.equal(first["x"], samples[0]["x"])


def test_what_samples_cannot_be_made_like():
    assert LikeExample.serves({"x": X})
    assert not LikeExample.serves({"x": [X]})
    assert not LikeExample.serves(X.expand(2, 3, 4))
