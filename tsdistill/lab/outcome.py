"""What an experiment found: its claims, tables and the numbers behind its figures, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A sentence of the theory beside what was measured.

    Attributes:
        text: what is claimed, in words.
        source: where: paper, theorem or equation, or the talk.
        measured: what came out, with its figures.
        held: whether it held; ``None`` where this run cannot say.
    """

    text: str
    source: str
    measured: str
    held: bool | None


@dataclass(frozen=True)
class Table:
    """Rows to be shown: text as it is, numbers by whoever shows them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True)
class Outcome:
    """What came out of an experiment.

    Attributes:
        name: of the experiment.
        settings: what it ran with.
        claims: what was checked.
        tables: what is shown.
        data: what the figures are drawn from: numbers, text, lists and mappings of them.
        notes: what a reader should know.
        seconds: how long it took.
    """

    name: str
    settings: Mapping[str, Any]
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether no claim failed."""
        return all(claim.held is not False for claim in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """Everything as what JSON can hold."""
        return asdict(self)
