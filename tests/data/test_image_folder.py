from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.hostile_files import bomb_bytes
from tsdistill.data import open_data
from tsdistill.data.image_folder import ImageFolder, open_image
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec


def test_class_folders_are_labels_as_timm_numbers_them(photographs: Path, spec: InputSpec) -> None:
    from timm.data import create_dataset, create_transform

    stream = open_data(str(photographs), spec, inputs={"batch_size": 4})
    assert stream.labelled
    assert stream.samples == 9
    theirs = create_dataset("", root=str(photographs), search_split=False)
    theirs.transform = create_transform(
        (3, 32, 32),
        interpolation="bicubic",
        mean=spec.mean or (),
        std=spec.std or (),
        crop_pct=spec.crop_pct,
    )
    expected = [theirs[index] for index in range(9)]
    assert torch.cat([y for _, y in stream]).tolist() == [label for _, label in expected]
    torch.testing.assert_close(torch.cat([x for x, _ in stream]), torch.stack([x for x, _ in expected]))


def test_paths_are_in_natural_order_and_nesting_is_followed(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").symlink_to(photographs)
    (photographs / "things" / "notes.txt").write_text("no image")
    folder = ImageFolder(tmp_path)
    assert [path.name for path in folder.paths[:3]] == ["a2.png", "a10.jpg", "b0.png"]
    assert folder.classes == ["animals", "plants", "things"]


def test_a_flat_folder_has_no_labels(photographs: Path, tmp_path: Path, spec: InputSpec) -> None:
    for number, path in enumerate(sorted(photographs.rglob("a2.png"))):
        (tmp_path / f"{number}.png").write_bytes(path.read_bytes())
    stream = open_data(tmp_path, spec)
    assert not stream.labelled
    assert [(x.shape, y) for x, y in stream] == [((3, 3, 32, 32), None)]
    assert "no class folders" in stream.description


def test_of_train_and_val_the_second_is_read(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(photographs / "animals")
    (tmp_path / "val").symlink_to(photographs)
    assert ImageFolder(tmp_path).root == tmp_path / "val"


def test_a_loop_of_links_ends(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(photographs / "animals")
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(ImageFolder(tmp_path)) == 3


@pytest.mark.parametrize(
    ("channels", "mode"), [(1, "RGB"), (3, "L"), (3, "RGBA"), (1, "I;16"), (3, "P"), (3, "CMYK")]
)
def test_any_kind_of_picture_becomes_what_the_model_reads(channels: int, mode: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8).reshape(1, 64).repeat(64, 0)
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(ramp) if mode in ("L", "P") else Image.fromarray(ramp).convert("RGB")
        image = image.convert(mode)
    image.save(tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png"))
    ((x, _),) = open_data(tmp_path, InputSpec((channels, 64, 64), (0.0,), (1.0,)))
    expected = torch.from_numpy(ramp.astype(np.float32) / 255).expand(1, channels, 64, 64)
    torch.testing.assert_close(x, expected, atol=0.02, rtol=0)


def test_channels_that_no_picture_has_are_one_line(photographs: Path) -> None:
    with pytest.raises(TsdistillError, match=r"\b4\b"):
        next(iter(open_data(photographs, InputSpec((4, 8, 8)))))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_file_is_left_out_and_named(
    damage: str, workers: int, photographs: Path, tmp_path: Path, spec
) -> None:
    content = (photographs / "animals" / "a2.png").read_bytes()
    (tmp_path / "good.png").write_bytes(content)
    damaged = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage]
    (tmp_path / "bad.png").write_bytes(damaged)
    stream = open_data(tmp_path, spec, workers=workers, inputs={"batch_size": 1})
    assert not stream.notes
    for _ in range(2):
        assert [len(x) for x, _ in stream] == [1]
    note = stream.notes[0]
    assert note.startswith("1 of 2 samples could not be read")
    assert "bad.png" in note
    assert "\n" not in note
    with pytest.raises(TsdistillError, match=r"bad\.png") as caught:
        list(open_data(tmp_path, spec, workers=workers, inputs={"strict": True}))
    assert "\n" not in str(caught.value)


def test_a_part_tells_of_its_own_unreadable_files_and_of_a_few_by_name(
    photographs: Path, tmp_path: Path, spec: InputSpec
) -> None:
    content = (photographs / "animals" / "a2.png").read_bytes()
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(content if number % 2 else b"hello")
    seen = open_data(tmp_path, spec, inputs={"samples": 6})
    other = seen.held_out(6)
    assert other is not None
    assert sum(len(x) for x, _ in seen) + sum(len(x) for x, _ in other) == 6
    assert len(seen.unread) + len(other.unread) == 6
    assert not set(seen.unread) & set(other.unread)
    whole = open_data(tmp_path, spec)
    list(whole)
    assert whole.notes[0].startswith("6 of 12 samples")
    assert whole.notes[0].endswith("; and 3 more")


def test_a_folder_of_which_nothing_can_be_read_is_an_error(tmp_path: Path, spec: InputSpec) -> None:
    (tmp_path / "bad.png").write_bytes(b"hello")
    with pytest.raises(TsdistillError, match=r"bad\.png"):
        list(open_data(tmp_path, spec))


def test_a_folder_without_images_is_one_line(tmp_path: Path, spec: InputSpec) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(TsdistillError, match="no images in the folder"):
        open_data(str(tmp_path), spec)


def test_pictures_do_not_fit_vectors(photographs: Path) -> None:
    with pytest.raises(TsdistillError, match="do not fit"):
        list(open_data(photographs, InputSpec((10,))))


def test_figures_that_fit_no_channels_are_one_line(photographs: Path) -> None:
    with pytest.raises(TsdistillError, match=r"mean .*\b2\b"):
        open_data(photographs, InputSpec((3, 8, 8), (0.5, 0.5)))


@pytest.mark.parametrize("sides", [(60_000, 60_000), (12_000, 12_000), (2**31 - 1, 1)])
def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, sides) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(bomb_bytes(*sides))
    with pytest.raises(TsdistillError, match=r"x\.png"):
        open_image(path)


def test_a_pipe_is_no_picture(tmp_path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(TsdistillError, match="pipe"):
        open_image(tmp_path / "x.png")
