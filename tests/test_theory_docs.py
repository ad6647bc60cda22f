"""docs/theory.md speaks of every experiment, and the script fills it from what the lab wrote."""

import importlib.util
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from tsdistill.lab import EXPERIMENTS, Claim, Outcome
from tsdistill.lab.experiments.augmentation import Augmentation
from tsdistill.lab.figures import save_outcome

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("theory_docs", ROOT / "scripts" / "theory_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(**settings: Any) -> Outcome:
    rows = [[[0.3, 0.2], [0.3, 0.4], [0.02, 0.03]]]
    cells = [{"over": 1, "energy": 0.4, "evaluation": rows, "training": rows}]
    claims = (
        Claim("fewer | are enough", "Theorem 5", "30 for 300", True),
        Claim("none over-fits", "the talk", "0.2", False),
        Claim("all is well", "the talk", "nothing", None),
    )
    made = asdict(Augmentation(counts=(30,), seeds=2, **settings))
    return Outcome(
        "augmentation", made, claims, (), {"counts": [30], "target": 0.05, "cells": cells}, ("so",), 250
    )


def test_every_experiment_has_its_place_and_command() -> None:
    for name in EXPERIMENTS:
        assert PAGE.count(f"<!-- lab {name} -->\n") == 1
    assert PAGE.count("<!-- lab end -->") == len(EXPERIMENTS) + 1


def test_a_block_says_how_it_ran_what_held_and_has_the_figures(script: ModuleType, tmp_path: Path) -> None:
    save_outcome(outcome(), tmp_path / "lab" / "augmentation")
    text = script.filled(PAGE, tmp_path / "lab", tmp_path / "pictures")
    assert "`tsdistill lab augmentation` with `--counts 30 --seeds 2`: 4 min" in text
    assert "| held | fewer \\| are enough (Theorem 5) | 30 for 300 |" in text
    assert "| did not hold | none over-fits" in text
    assert f"| `augmentation` | {EXPERIMENTS['augmentation']} | 1 | 1 | 1 |" in text
    (picture,) = (tmp_path / "pictures").iterdir()
    assert f"![{picture.stem}](theory/{picture.name})" in text
    written = (tmp_path / "lab" / "augmentation").glob("loss.*")
    assert picture.stat().st_size < min(file.stat().st_size for file in written)
    with Image.open(picture) as shown:
        assert shown.width <= script.WIDE
    assert script.filled(text, tmp_path / "lab", tmp_path / "pictures") == text
    assert script.filled(text, tmp_path / "nothing", tmp_path / "pictures") == text


def test_figures_that_are_too_large_and_a_page_without_a_block(script: ModuleType, tmp_path: Path) -> None:
    save_outcome(outcome(), tmp_path / "lab" / "augmentation", ("png",))
    with pytest.raises(SystemExit, match="lab augmentation"):
        script.filled("nothing", tmp_path / "lab", tmp_path / "pictures")
    (tmp_path / "pictures" / "deep.huge.png").write_bytes(bytes(2_000_001))
    with pytest.raises(SystemExit, match=r"deep\.huge\.png"):
        script.filled(PAGE, tmp_path / "lab", tmp_path / "pictures")


def test_the_figures_of_the_page_are_there_and_small() -> None:
    import re

    names = re.findall(r"\]\((theory/[^)]+)\)", PAGE)
    assert all((ROOT / "docs" / name).is_file() for name in names)
    assert sum((ROOT / "docs" / name).stat().st_size for name in names) < 2_000_000
