"""The pruning plan: which nodes go, from which groups, and why; weights are no part of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tsdistill.errors import TsdistillError
from tsdistill.files import atomic_file
from tsdistill.models.files.header import MAX_SPEC
from tsdistill.schema import (
    MOST_ENTRIES,
    Count,
    Entries,
    Finite,
    Schema,
    Size,
    Text,
    read_json,
    text_of,
    validated,
)
from tsdistill.tracing.graph import NodeGraph

FORMAT = 2
"""Version of the file format; raised by a change that older versions cannot read. A plan that removes no
branch is written in format 1, which they read."""

LONGEST_WORDS = 4096
"""Characters of a description of data or of a budget: a path and a sentence."""

_WAY_OUT = "give a file that --save-plan wrote"
REASONS = ("dead", "free", "weak", "redundant", "cheapest")


@dataclass(frozen=True)
class PrunedGroup:
    """What leaves one group.

    Attributes:
        size: number of nodes before.
        removed: the nodes to remove, in the order in which they were chosen.
        reasons: one word for each: ``"dead"`` (does not vary), ``"free"`` (the function stays the same),
            ``"weak"``, ``"redundant"``, or ``"cheapest"`` (its loss costs least for what it saves).
        costs: what each costs on top of those before it: output units squared, or shares of teacher nodes.
    """

    size: int
    removed: tuple[int, ...]
    reasons: tuple[str, ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class PruningPlan:
    """Which nodes leave a network.

    Attributes:
        arch: architecture that it was made for, ``None`` when it is not known.
        budget: the budget that it meets, in words.
        keep_strong: whether teacher nodes weighed by strength.
        data: description of the data behind it.
        groups: the removed nodes of every group, of groups that lose none, too.
        before: ``{"params", "macs", "nodes"}`` of the whole network.
        after: the same with the nodes gone.
        by_size: groups whose nodes are coordinates of attention heads in their own bases (see
            `tsdistill.pruning.head_basis`).
        branches: names of the residual branches that are removed first; ``groups`` are those of the network
            without them.
    """

    arch: str | None
    budget: str
    keep_strong: bool
    data: str
    groups: Mapping[str, PrunedGroup]
    before: Mapping[str, int]
    after: Mapping[str, int]
    by_size: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()

    @property
    def removed(self) -> dict[str, list[int]]:
        """The nodes to remove from each group, ascending; groups that lose none are left out."""
        return {name: sorted(group.removed) for name, group in self.groups.items() if group.removed}

    @property
    def reasons(self) -> dict[str, dict[str, int]]:
        """How many nodes of each group leave for which reason."""
        return {
            name: {word: group.reasons.count(word) for word in REASONS if word in group.reasons}
            for name, group in self.groups.items()
            if group.removed
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data: ``{"format": 1, "kind": "pruning plan", ...}``."""
        return {
            "format": FORMAT if self.branches else 1,
            "kind": "pruning plan",
            "arch": self.arch,
            "budget": self.budget,
            "keep_strong": self.keep_strong,
            "data": self.data,
            "before": dict(self.before),
            "after": dict(self.after),
            "by_size": list(self.by_size),
            "branches": list(self.branches),
            "groups": {
                name: {
                    "size": group.size,
                    "removed": list(group.removed),
                    "reasons": list(group.reasons),
                    "costs": list(group.costs),
                }
                for name, group in self.groups.items()
            },
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The plan as JSON text, also written to ``path`` when one is given.

        Raises:
            TsdistillError: the file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        if path is not None:
            with atomic_file(path) as scratch:
                scratch.write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_dict(cls, data: Any) -> PruningPlan:
        """The plan in ``data``, as ``to_dict`` gives it.

        Raises:
            TsdistillError: not a plan, or not a consistent one.
        """
        return _plan(validated(_PlanFields, data, "the plan", _WAY_OUT))

    @classmethod
    def from_json(cls, source: str | Path) -> PruningPlan:
        """The plan in a file (a path), or in a text that begins with ``{``.

        Raises:
            TsdistillError: the file cannot be read, or holds no consistent plan.
        """
        if isinstance(source, str) and source.lstrip().startswith("{"):
            return _plan(read_json(source, _PlanFields, _WAY_OUT, "the plan"))
        return _plan(read_json(Path(source), _PlanFields, _WAY_OUT, f"plan {source}"))

    def check(self, graph: NodeGraph) -> None:
        """Raise TsdistillError when the plan does not fit ``graph`` (groups missing or of another size)."""
        for name, group in self.groups.items():
            if not group.removed:
                continue
            traced_group = graph.by_name.get(name)
            made_for = (
                f"the plan was made for {self.arch}" if self.arch else "the plan was made for another model"
            )
            if traced_group is None:
                raise TsdistillError(
                    f"the plan cuts group {name!r}, which this model does not have; {made_for}"
                )
            if traced_group.size != group.size:
                raise TsdistillError(
                    f"the plan cuts group {name!r} of {group.size} nodes, "
                    f"but this model has {traced_group.size} there; {made_for}"
                )

    def __str__(self) -> str:
        lines = [
            f"plan for {self.arch or 'a model'}, {self.budget}: "
            + ", ".join(f"{key} {self.before[key]:,} -> {self.after[key]:,}" for key in self.before)
        ]
        if self.branches:
            lines.append(f"  branches that leave: {', '.join(self.branches)}")
        for name, group in self.groups.items():
            if group.removed:
                why = ", ".join(f"{count} {word}" for word, count in self.reasons[name].items())
                nodes = "coordinates of every head" if name in self.by_size else "nodes"
                lines.append(f"  {name}: {len(group.removed)} of {group.size} {nodes} leave ({why})")
        return "\n".join(lines)


def _plan(fields: _PlanFields) -> PruningPlan:
    groups = {
        name: PrunedGroup(group.size, tuple(group.removed), tuple(group.reasons), tuple(group.costs))
        for name, group in fields.groups.items()
    }
    return PruningPlan(
        fields.arch,
        fields.budget,
        fields.keep_strong,
        fields.data,
        groups,
        fields.before.model_dump(),
        fields.after.model_dump(),
        tuple(fields.by_size),
        tuple(fields.branches),
    )


class _GroupFields(Schema):
    """What leaves one group."""

    size: Size
    removed: list[Size]
    reasons: list[Text]
    costs: list[Finite]

    @model_validator(mode="after")
    def _together(self) -> _GroupFields:
        if not len(self.removed) == len(self.reasons) == len(self.costs):
            raise ValueError("its lists of nodes, reasons and costs do not go together")
        if any(node >= self.size for node in self.removed):
            raise ValueError(f"it removes nodes outside 0 to {self.size - 1}")
        if len(set(self.removed)) != len(self.removed):
            raise ValueError("it removes a node twice")
        if self.removed and len(self.removed) >= self.size:
            raise ValueError("it would lose all its nodes")
        return self


class _CostFields(Schema):
    """What a network costs."""

    params: Count
    macs: Count
    nodes: Count


class _PlanFields(Schema):
    """A plan as `PruningPlan.to_dict` makes it plain."""

    format: Literal[1, 2]
    kind: Literal["pruning plan"]
    arch: text_of(MAX_SPEC) | None  # type: ignore[valid-type]
    budget: text_of(LONGEST_WORDS)  # type: ignore[valid-type]
    keep_strong: bool
    data: text_of(LONGEST_WORDS)  # type: ignore[valid-type]
    before: _CostFields
    after: _CostFields
    by_size: list[Text] = Field(default=[], max_length=MOST_ENTRIES)
    branches: list[Text] = Field(default=[], max_length=MOST_ENTRIES)
    groups: Entries[_GroupFields]
