from __future__ import annotations

import gzip
import pickle
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tsdistill.data import open_data
from tsdistill.data.named_datasets import for_training, read_idx, split_options
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec

GREY = InputSpec((1, 28, 28))
DIGITS = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )


def lay(folder: Path, *, prefix: str = "t10k", zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("images-idx3", DIGITS), ("labels-idx1", np.arange(7))):
        content = idx(array)
        path = folder / f"{prefix}-{name}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "inside"), [("fashion-mnist", ""), ("mnist", "MNIST/raw"), ("kmnist", "KMNIST/raw")]
)
def test_idx_files_are_found_in_both_layouts(name: str, inside: str, zipped: bool, tmp_path: Path) -> None:
    lay(tmp_path / inside, zipped=zipped)
    stream = open_data(f"{name}:{tmp_path}", GREY)
    ((x, y),) = stream
    assert torch.equal(x[:, 0], torch.from_numpy(DIGITS).float() / 255)
    assert y.tolist() == list(range(7))
    assert "test images" in stream.description


def test_the_training_part_on_request(tmp_path: Path) -> None:
    lay(tmp_path, prefix="train")
    assert open_data(f"mnist:{tmp_path},split=train", GREY).samples == 7
    with pytest.raises(TsdistillError, match="MNIST"):
        open_data(f"mnist:{tmp_path}", GREY)


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    from torchvision.datasets import MNIST

    for prefix in ("t10k", "train"):
        lay(tmp_path / "MNIST" / "raw", prefix=prefix)
    theirs = MNIST(str(tmp_path), train=False)
    for data in (f"mnist:{tmp_path}", f"torch/mnist:{tmp_path}"):
        stream = open_data(data, GREY)
        ((x, y),) = stream
        assert stream.labelled
        assert torch.equal(x[:, 0], theirs.data.float() / 255)
        assert torch.equal(y, theirs.targets)


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    lay(tmp_path, zipped=True)
    images = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    for content in (whole[:-50], b"", b"hello", gzip.compress(b"hello"), gzip.compress(idx(DIGITS)[:-3])):
        images.write_bytes(content)
        with pytest.raises(TsdistillError, match="t10k-images"):
            open_data(f"mnist:{tmp_path}", GREY)
    images.write_bytes(gzip.compress(idx(DIGITS[:3])))
    with pytest.raises(TsdistillError, match="belong together"):
        open_data(f"mnist:{tmp_path}", GREY)
    with pytest.raises(TsdistillError, match="cannot be read"):
        read_idx(tmp_path / "missing")


@pytest.mark.parametrize("direct", [False, True])
def test_cifar_through_torchvision(direct: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels, "labels": [3, 1, 2, 0]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcd")}))
    data = f"cifar10:{folder if direct else tmp_path}"
    with pytest.raises(TsdistillError, match="CIFAR10"):
        open_data(data, InputSpec((3, 32, 32)))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *arguments: True)
    ((x, y),) = open_data(data, InputSpec((3, 32, 32)))
    torch.testing.assert_close(x, torch.from_numpy(pixels).view(4, 3, 32, 32).float() / 255)
    assert y.tolist() == [3, 1, 2, 0]


def test_a_tar_of_images_is_read_through_timm(photographs: Path, tmp_path: Path, spec: InputSpec) -> None:
    with tarfile.open(tmp_path / "photographs.tar", "w") as tar:
        for path in sorted(photographs.rglob("a2.png")):
            tar.add(path, arcname=str(path.relative_to(photographs)))
    stream = open_data(str(tmp_path / "photographs.tar"), spec)
    ((x, y),) = stream
    assert x.shape == (3, 3, 32, 32)
    assert y.tolist() == [0, 1, 2]


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys, spec: InputSpec) -> None:
    for package in ("datasets", "webdataset"):
        monkeypatch.setitem(sys.modules, package, None)
    for reader in ("reader_hfds", "reader_wds"):  # timm's, which remember what they could import
        name = f"timm.data.readers.{reader}"
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name))
        del sys.modules[name]
    for name in ("hfds/some/data", "wds/data:/nowhere"):
        with pytest.raises(TsdistillError, match=name.split(":")[0]) as caught:
            open_data(name, spec)
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_options_follow_the_folder() -> None:
    assert split_options("/a,b/c,split=train,x=1") == ("/a,b/c", {"split": "train", "x": "1"})
    assert split_options("/a") == ("/a", {})


@pytest.mark.system("fashion-mnist")
def test_fashion_mnist_as_debian_lays_it(fashion_mnist: Path) -> None:
    spec = InputSpec((1, 28, 28), (0.286,), (0.353,))
    assert open_data(f"fashion-mnist:{fashion_mnist}", spec).samples == 10_000
    batches = list(
        open_data(f"fashion-mnist:{fashion_mnist}", spec, inputs={"samples": 1000, "batch_size": 500})
    )
    x = torch.cat([x for x, _ in batches])
    y = torch.cat([y for _, y in batches])
    assert torch.bincount(y).tolist() == pytest.approx([100] * 10, abs=40)
    assert x.mean().abs() < 0.05
    assert abs(x.std() - 1) < 0.05
    labels = read_idx(fashion_mnist / "t10k-labels-idx1-ubyte.gz")
    assert np.bincount(labels).tolist() == [1000] * 10
    assert open_data(f"fashion-mnist:{fashion_mnist},split=train", GREY).samples == 60_000


def test_models_are_trained_on_the_training_split_unless_told_otherwise(tmp_path):
    assert for_training("fashion-mnist:somewhere") == "fashion-mnist:somewhere,split=train"
    assert for_training("wds/name:root,batch=3") == "wds/name:root,batch=3,split=train"
    for as_it_is in ("cifar10:DIR,split=test", "synthetic:pink", str(tmp_path), "x.npz", [1], None):
        assert for_training(as_it_is) == as_it_is
