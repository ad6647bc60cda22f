"""The conditions of the theorems for a pair of models, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from tsdistill.lab import Conditions
from tsdistill.lab.conditions.found import LayerConditions
from tsdistill.lab.figures.tables import claims_table
from tsdistill.report.table_layout import table


def conditions_shown(found: Conditions, notes: Iterable[str] = ()) -> Iterator[RenderableType]:
    """Lines and tables: what was looked at, layer by layer, the conditions, and what to make of them.

    Args:
        found: what `tsdistill.lab.check` returned.
        notes: further ones, such as those of loading.
    """
    yield f"model   {found.arch or 'the given model'}"
    yield f"teacher {found.teacher_arch or 'the given teacher'}"
    yield f"data    {found.data}"
    for note in dict.fromkeys((*notes, *found.notes)):
        yield f"note    {note}"
    yield layers_table("Rectified layers of the student", found.student)
    yield layers_table("Rectified layers of the teacher", found.teacher)
    yield claims_table(found.claims, "What the theorems ask for, and what was measured")
    yield f"advice  {found.advice}"


def layers_table(title: str, layers: Sequence[LayerConditions]) -> Table:
    """A row a layer: its nodes, how much of a rectifier it is, its boundaries and its gradient."""
    learns = any(layer.gradient is not None for layer in layers)
    names = ["<layer", "nodes", "rectified", "boundaries\namong the data"]
    made = table(title, *names, *(["gradient,\nmedian", "gradient,\n95 %"] if learns else []))
    for layer in layers:
        made.add_row(
            layer.place,
            str(layer.nodes),
            f"{layer.rectified:.3f}",
            f"{layer.crossed:.0%}",
            *([_share(layer.gradient), _share(layer.gradient_worst)] if learns else []),
        )
    return made


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
