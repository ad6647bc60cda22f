"""Results as plain data: outcomes of experiments, and the conditions of the theorems for two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A statement of the theory and its measurement.

    Attributes:
        text: what is claimed, in words.
        source: where: paper, theorem or equation, or the talk.
        measured: the measured figures, in words.
        held: whether it held; ``None`` where this run cannot say.
    """

    text: str
    source: str
    measured: str
    held: bool | None


@dataclass(frozen=True)
class Table:
    """A table; numbers are formatted where it is shown."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True)
class Outcome:
    """The result of an experiment.

    Attributes:
        name: of the experiment.
        settings: what it ran with.
        claims: what was checked.
        tables: what is shown.
        data: what the figures are drawn from: numbers, text, lists and mappings of them.
        notes: remarks for the reader.
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
        """All fields as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Outcome:
        """The outcome whose `to_dict` gave ``fields``, also from JSON; name and settings may be missing."""
        parts = {
            "claims": tuple(Claim(**claim) for claim in fields["claims"]),
            "tables": tuple(
                Table(table["title"], tuple(table["columns"]), tuple(map(tuple, table["rows"])))
                for table in fields["tables"]
            ),
            "notes": tuple(fields["notes"]),
        }
        return cls(**{"name": "", "settings": {}, **fields, **parts})


@dataclass(frozen=True)
class LayerConditions:
    """One rectified layer of the student or of the teacher.

    Attributes:
        place: path of the module that calls the rectifier.
        nodes: how many.
        rectified: share of the activation's energy that slopes either side of zero explain: 1 for ReLU and
            Leaky ReLU.
        crossed: share of nodes whose boundary has samples (positions) on both sides.
        gradient: median over samples of ‖g_l(x)‖, by the root mean square of what it would be if the student
            gave 0; ``None`` for a teacher.
        gradient_worst: the 95 % quantile of that.
    """

    place: str
    nodes: int
    rectified: float
    crossed: float
    gradient: float | None = None
    gradient_worst: float | None = None


@dataclass(frozen=True)
class Conditions:
    """How far the conditions of arXiv 1909.13458 hold for a pair of models.

    Attributes:
        arch: the student's architecture, if it is known.
        teacher_arch: the teacher's.
        data: description of the data.
        synthetic: whether the data are synthetic.
        samples: how many samples.
        claims: the conditions: what the theorems ask, what was measured, and whether it holds.
        student: its rectified layers in forward order.
        teacher: likewise.
        observed: share of the teacher's lowest nodes that an active student node observes; ``None`` where it
            cannot be said.
        observers: median number of student nodes that observe such a node.
        precision: of each lowest teacher node: the ε that Theorem 4 grants at this gradient (above 1 it says
            nothing); ``None`` where the layers' maps differ in size.
        advice: one sentence on how much to trust the candidates for pruning.
        notes: remarks for the reader.
    """

    arch: str | None
    teacher_arch: str | None
    data: str
    synthetic: bool
    samples: int
    claims: tuple[Claim, ...]
    student: tuple[LayerConditions, ...]
    teacher: tuple[LayerConditions, ...]
    observed: float | None
    observers: float | None
    precision: tuple[float, ...] | None
    advice: str
    notes: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether no condition fails."""
        return all(claim.held is not False for claim in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """All fields as values that JSON can hold."""
        return asdict(self)
