"""An outcome as files: its JSON, its figures, and its animation where it has one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tsdistill.errors import TsdistillError
from tsdistill.files import atomic_file, filled_folder
from tsdistill.lab import EXPERIMENTS, Outcome
from tsdistill.report.canvas import save
from tsdistill.schema import LARGEST_OPTIONS, Finite, Schema, Text, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT, KIND = 1, "lab"
"""Version and kind of the file, as its first two fields."""
JSON = "outcome.json"
FRAMES_A_SECOND = 12
"""Of animations: 48 frames last four seconds."""


@dataclass(frozen=True)
class SavedOutcome:
    """The files that `save_outcome` wrote: the outcome, and figures including animations."""

    outcome: Path
    pictures: tuple[Path, ...]


def figures(outcome: Outcome) -> dict[str, Figure]:
    """The figures of an experiment by name, drawn from its outcome alone.

    Raises:
        TsdistillError: there is no such experiment.
    """
    by_name: dict[str, Figure] = _drawing(outcome).draw(outcome)
    return by_name


def save_outcome(
    outcome: Outcome, folder: str | Path, formats: Sequence[str] = ("png", "svg"), *, animated: bool = True
) -> SavedOutcome:
    """Write ``outcome.json``, a file for each figure and format, and the animation if there is one.

    Args:
        outcome: result of `tsdistill.lab.run` or `read_outcome`.
        folder: created if needed.
        formats: file suffixes of matplotlib.
        animated: whether to write the animation of an experiment that has one (``boundaries``).

    Raises:
        TsdistillError: the folder cannot be created, or a file cannot be written.
    """
    with filled_folder(folder) as folder, atomic_file(folder / JSON) as temporary:
        temporary.write_text(
            json.dumps(outcome_document(outcome), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    written = []
    for name, figure in figures(outcome).items():
        written += [save(figure, folder / f"{name}.{suffix.removeprefix('.')}") for suffix in formats]
    if animated and hasattr(_drawing(outcome), "animate"):
        written.append(_animate(_drawing(outcome).animate(outcome), folder / f"{outcome.name}.gif"))
    return SavedOutcome(folder / JSON, tuple(written))


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """``{"format": 1, "kind": "lab", "name": ..., "claims": [...], ...}``.

    NaN and infinity become ``None``.
    """
    document: dict[str, Any] = to_plain({"format": FORMAT, "kind": KIND, **outcome.to_dict()})
    return document


def read_outcome(path: str | Path) -> Outcome:
    """The outcome in ``outcome.json`` or its folder, with lists in place of tuples in its data.

    Raises:
        TsdistillError: the file cannot be read, or is no outcome.
    """
    path = Path(path)
    path = path / JSON if path.is_dir() else path
    stored = read_json(path, _OutcomeFields, f"name an {JSON} that `tsdistill lab` wrote")
    return Outcome.from_dict(stored.model_dump(exclude={"format", "kind"}))


def _drawing(outcome: Outcome) -> ModuleType:
    if outcome.name not in EXPERIMENTS:
        raise TsdistillError(f"no experiment is called {outcome.name!r}: there are {', '.join(EXPERIMENTS)}")
    return import_module(f"tsdistill.lab.figures.{outcome.name.replace('-', '_')}_figures")


def _animate(animation: Any, path: Path) -> Path:
    with atomic_file(path, ValueError) as temporary:
        animation.save(temporary, writer="pillow", fps=FRAMES_A_SECOND)
    return path


def to_plain(value: Any) -> Any:
    """Numbers, text, lists and mappings of them: numpy's and torch's scalars and arrays become Python's."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


_Words = Annotated[str, Field(max_length=LARGEST_OPTIONS)]
_Plain = str | int | float | bool | None


class _ClaimFields(Schema):
    """`Claim`."""

    text: _Words
    source: _Words
    measured: _Words
    held: bool | None


class _TableFields(Schema):
    """`Table`."""

    title: _Words
    columns: list[_Words]
    rows: list[list[_Plain]]


class _OutcomeFields(Schema):
    """``outcome.json``: `Outcome` as `outcome_document` makes it plain."""

    format: Literal[1]
    kind: Literal["lab"]
    name: Text
    settings: dict[Text, Any]
    claims: list[_ClaimFields]
    tables: list[_TableFields]
    data: dict[str, Any]
    notes: list[_Words]
    seconds: Finite
