from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tsdistill.data import open_data
from tsdistill.data.arrays import ArraySamples
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec

SPEC = InputSpec((3, 6, 8), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), source="the test")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 8), dtype=np.uint8)


def expected() -> torch.Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    return (torch.from_numpy(PIXELS).float() / 255 - mean) / std


def read(data, spec: InputSpec) -> torch.Tensor:
    return torch.cat([x for x, _ in open_data(data, spec)])


def test_samples_of_the_right_shape_are_used_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((5, 3, 6, 8))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(5))
    stream = open_data(str(tmp_path / "a.npz"), SPEC)
    assert stream.labelled
    assert "used as they are" in stream.description
    ((got, labels),) = stream
    assert torch.equal(got, torch.from_numpy(x).float())
    assert labels.tolist() == list(range(5))


@pytest.mark.parametrize("layout", ["chw", "hwc"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_8_bit_images_are_scaled_and_normalised(layout: str, suffix: str, tmp_path: Path) -> None:
    pixels = PIXELS if layout == "chw" else PIXELS.transpose(0, 2, 3, 1)
    path = tmp_path / f"a.{suffix}"
    np.save(path, pixels) if suffix == "npy" else np.savez_compressed(path, x=pixels)
    torch.testing.assert_close(read(path, SPEC), expected())
    assert "scaled to [0, 1] and normalised" in open_data(path, SPEC).description


def test_given_tensors_and_batches_of_8_bit_images_are_treated_alike() -> None:
    tensor = torch.from_numpy(PIXELS)
    torch.testing.assert_close(read(tensor, SPEC), expected())
    torch.testing.assert_close(read([tensor], SPEC), expected())


def test_grey_serves_colour_models_and_colour_grey_ones() -> None:
    grey = PIXELS[:, 0]
    colour = InputSpec((3, 6, 8))
    for given in (grey, grey[:, None], grey[..., None]):
        torch.testing.assert_close(
            read(given, colour), torch.from_numpy(grey).float()[:, None].expand(5, 3, 6, 8) / 255
        )
    single = read(PIXELS, InputSpec((1, 6, 8)))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        single, (torch.from_numpy(PIXELS).float() / 255 * weights).sum(1, keepdim=True)
    )


def test_grey_samples_need_no_channel_dimension() -> None:
    assert read(np.ones((4, 6, 8), np.float32), InputSpec((1, 6, 8))).shape == (4, 1, 6, 8)


def test_whole_numbers_of_vectors_become_floating() -> None:
    assert read(np.arange(8, dtype=np.uint8).reshape(2, 4), InputSpec((4,))).tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]


def test_large_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    shape = (1_000_000, 3, 64, 64)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + int(np.prod(shape)))
    stream = open_data(path, InputSpec((3, 64, 64)), inputs={"samples": 3})
    assert [tuple(x.shape) for x, _ in stream] == [(3, 3, 64, 64)]


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "unnamed.npz", PIXELS)
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "labels.npz", x=PIXELS, y=np.arange(4))
    np.savez(tmp_path / "words.npz", x=PIXELS, y=np.array(["a"] * 5))
    np.savez(tmp_path / "text.npz", x=np.array(["a"] * 5))
    np.savez(tmp_path / "whole.npz", x=PIXELS)
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "scalar.npy", np.float32(1))
    messages = {
        "unnamed.npz": "no array named x",
        "objects.npz": "Python objects",
        "objects.npy": "Python objects",
        "labels.npz": "labels of shape",
        "words.npz": "labels y",
        "text.npz": "not numbers",
        "cut.npz": "cannot be read",
        "cut.npy": "cannot be read",
        "empty.npy": "cannot be read",
        "scalar.npy": "no samples",
        "missing.npz": "no file",
    }
    for name, message in messages.items():
        with pytest.raises(TsdistillError, match=message) as caught:
            read(tmp_path / name, SPEC)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(5, 3, 6, 9), (5, 7), (5,), (5, 2, 6, 8)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_other_shapes_are_one_line_with_both(shape: tuple[int, ...], dtype) -> None:
    with pytest.raises(TsdistillError) as caught:
        ArraySamples(np.zeros(shape, dtype), None, SPEC, "a.npy")
    assert str(shape[1:]) in str(caught.value)
    assert str(SPEC.size) in str(caught.value)
