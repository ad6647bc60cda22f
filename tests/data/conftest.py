"""Input specifications and a folder of real photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tsdistill.models.info import InputSpec


@pytest.fixture
def spec() -> InputSpec:
    return InputSpec((3, 32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 0.875, "the test")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three class folders with crops of photographs of scikit-image and scikit-learn, in several formats."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    root = tmp_path_factory.mktemp("photographs")
    sources = {"animals": data.chelsea(), "things": data.coffee(), "plants": load_sample_image("flower.jpg")}
    for number, (name, pixels) in enumerate(sources.items()):
        folder = root / name
        folder.mkdir()
        image = Image.fromarray(pixels)
        image.crop((0, 0, 120, 90)).save(folder / "a2.png")
        image.crop((40, 40, 130, 160)).convert("L").save(folder / "a10.jpg")
        image.crop((60, 60, 160, 160)).convert("P").save(folder / f"b{number}.png")
    return root
