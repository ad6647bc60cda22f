"""The pruning plan: which nodes go, from which groups, and why; weights are no part of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.files import replacing
from tsdistill.tracing.graph import NodeGraph

FORMAT = 1
REASONS = ("dead", "free", "weak", "redundant", "cheapest")


@dataclass(frozen=True)
class PrunedGroup:
    """What leaves one group.

    Attributes:
        size: number of nodes before.
        removed: the nodes that leave, in the order in which they were chosen.
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
        groups: what leaves, per group; groups that stay whole are in it too.
        before: ``{"params", "macs", "nodes"}`` of the whole network.
        after: the same with the nodes gone.
        by_size: groups whose nodes are coordinates of attention heads in their own bases (see
            `tsdistill.pruning.rebasing`).
    """

    arch: str | None
    budget: str
    keep_strong: bool
    data: str
    groups: Mapping[str, PrunedGroup]
    before: Mapping[str, int]
    after: Mapping[str, int]
    by_size: tuple[str, ...] = ()

    @property
    def removed(self) -> dict[str, list[int]]:
        """The nodes that leave each group, ascending; groups that lose none are left out."""
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
            "format": FORMAT,
            "kind": "pruning plan",
            "arch": self.arch,
            "budget": self.budget,
            "keep_strong": self.keep_strong,
            "data": self.data,
            "before": dict(self.before),
            "after": dict(self.after),
            "by_size": list(self.by_size),
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
            with replacing(path) as beside:
                beside.write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_dict(cls, data: Any) -> PruningPlan:
        """The plan in ``data``, as ``to_dict`` gives it.

        Raises:
            TsdistillError: not a plan, or not a consistent one.
        """
        return _read(data, "the plan")

    @classmethod
    def from_json(cls, source: str | Path) -> PruningPlan:
        """The plan in a file (a path), or in a text that begins with ``{``.

        Raises:
            TsdistillError: the file cannot be read, or holds no consistent plan.
        """
        where = "the plan"
        text = str(source)
        if isinstance(source, Path) or not text.lstrip().startswith("{"):
            where = f"plan {text}"
            try:
                text = Path(source).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError, ValueError) as error:
                raise TsdistillError(f"{where} cannot be read: {_reason(error)}") from error
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TsdistillError(
                f"{where} is not JSON ({_reason(error)}); give a file that --save-plan wrote"
            ) from error
        return _read(data, where)

    def check(self, graph: NodeGraph) -> None:
        """Raise TsdistillError when the plan does not fit ``graph`` (groups missing or of another size)."""
        for name, group in self.groups.items():
            if not group.removed:
                continue
            there = graph.by_name.get(name)
            made = (
                f"the plan was made for {self.arch}" if self.arch else "the plan was made for another model"
            )
            if there is None:
                raise TsdistillError(f"the plan cuts group {name!r}, which this model does not have; {made}")
            if there.size != group.size:
                raise TsdistillError(
                    f"the plan cuts group {name!r} of {group.size} nodes, "
                    f"but this model has {there.size} there; {made}"
                )

    def __str__(self) -> str:
        lines = [
            f"plan for {self.arch or 'a model'}, {self.budget}: "
            + ", ".join(f"{key} {self.before[key]:,} -> {self.after[key]:,}" for key in self.before)
        ]
        for name, group in self.groups.items():
            if group.removed:
                why = ", ".join(f"{count} {word}" for word, count in self.reasons[name].items())
                nodes = "coordinates of every head" if name in self.by_size else "nodes"
                lines.append(f"  {name}: {len(group.removed)} of {group.size} {nodes} leave ({why})")
        return "\n".join(lines)


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]


def _read(data: Any, where: str) -> PruningPlan:
    def wrong(what: str) -> TsdistillError:
        return TsdistillError(f"{where} {what}; give a file that --save-plan wrote")

    if not isinstance(data, dict) or data.get("kind") != "pruning plan":
        raise wrong("is not a pruning plan")
    if data.get("format") != FORMAT:
        raise wrong(f"has format {str(data.get('format'))[:20]!r}, this version reads {FORMAT}")
    texts = {"arch": (str, type(None)), "budget": (str,), "data": (str,), "keep_strong": (bool,)}
    for key, kinds in texts.items():
        if not isinstance(data.get(key), kinds):
            raise wrong(f"has no valid {key!r}")
    for key in ("before", "after"):
        figures = data.get(key)
        if not isinstance(figures, dict) or not all(
            _whole(figures.get(k)) for k in ("params", "macs", "nodes")
        ):
            raise wrong(f"has no valid {key!r}")
    by_size = data.get("by_size", [])
    if not isinstance(by_size, list) or not all(isinstance(name, str) for name in by_size):
        raise wrong("has no valid 'by_size'")
    groups = data.get("groups")
    if not isinstance(groups, dict):
        raise wrong("has no groups")
    read = {}
    for name, group in groups.items():
        problem = _group_problem(group)
        if problem:
            raise wrong(f"has a group {name[:80]!r} {problem}")
        read[name] = PrunedGroup(
            group["size"],
            tuple(group["removed"]),
            tuple(group["reasons"]),
            tuple(float(cost) for cost in group["costs"]),
        )
    return PruningPlan(
        data["arch"],
        data["budget"],
        data["keep_strong"],
        data["data"],
        read,
        {k: data["before"][k] for k in ("params", "macs", "nodes")},
        {k: data["after"][k] for k in ("params", "macs", "nodes")},
        tuple(by_size),
    )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _group_problem(group: Any) -> str | None:
    if not isinstance(group, dict) or not _whole(group.get("size")):
        return "without a size"
    lists = [group.get(key) for key in ("removed", "reasons", "costs")]
    if not all(isinstance(values, list) and len(values) == len(lists[0] or ()) for values in lists):
        return "whose lists of nodes, reasons and costs do not go together"
    removed, reasons, costs = (values or [] for values in lists)
    if not all(_whole(node) and node < group["size"] for node in removed):
        return f"with nodes outside 0 to {group['size'] - 1}"
    if len(set(removed)) != len(removed):
        return "that removes a node twice"
    if removed and len(removed) >= group["size"]:
        return "that would lose all its nodes"
    if not all(isinstance(reason, str) for reason in reasons):
        return "with reasons that are not words"
    if not all(
        isinstance(cost, int | float) and not isinstance(cost, bool) and isfinite(cost) for cost in costs
    ):
        return "with costs that are not numbers"
    return None
