"""What the sweep found, by library and family, for the terminal and for the documentation."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import median

from record import Name, Row
from rich.console import Console
from rich.table import Table

from tsdistill.files import atomic_file

KINDS = {
    "full": "analysed and planned",
    "quick": "nodes drawn at random",
    "peer": "Torch-Pruning",
}
"""What may be done with an architecture."""

BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"

Found = Mapping[Name, Row]


def show(found: Found, sample: Collection[str]) -> None:
    """Print pass rates and every failure's cause."""
    table = Table("what", "tried", "pass", "raise", "forward passes: median", "most")
    for title, rows in _parts(found, sample):
        table.add_row(title, *_figures(rows))
    console = Console(width=130)
    console.print(table)
    for cause, names in _causes(list(found.values())).items():
        console.print(f"[bold]{len(names)}[/bold] {cause}: {', '.join(names)}", markup=True)
    if faster := _faster(found):
        console.print(faster)


def document(found: Found, sample: Collection[str], path: Path) -> None:
    """Write the tables into ``path``, between its marks."""
    lines = ["| what | tried | pass | raise | forward passes: median | most |", "| --- |" + " ---: |" * 5]
    lines += [f"| {title} | {' | '.join(_figures(rows))} |" for title, rows in _parts(found, sample)]
    if faster := _faster(found):
        lines += ["", faster]
    lines += ["", "| family | tried | in full | pass | what fails |", "| --- |" + " ---: |" * 3 + " --- |"]
    families: dict[str, list[Row]] = defaultdict(list)
    for row in _best(found).values():
        families[f"{row['spec'].partition(':')[0]} {row['family']}"].append(row)
    for family, rows in sorted(families.items()):
        failed = "; ".join(f"`{_name(row)}`: {_plain(row['cause'])}" for row in rows if not row["passed"])
        passed = sum(row["passed"] for row in rows)
        full = sum(row["kind"] == "full" for row in rows)
        lines.append(f"| {family} | {len(rows)} | {full} | {passed} | {failed} |")
    text = path.read_text()
    body = "\n".join(lines)
    with atomic_file(path) as beside:
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        beside.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}")


def _parts(found: Found, sample: Collection[str]) -> list[tuple[str, list[Row]]]:
    def rows(kind: str, library: str, among: Collection[str] | None = None) -> list[Row]:
        return [
            row
            for (k, spec), row in found.items()
            if k == kind and spec.startswith(f"{library}:") and (among is None or spec in among)
        ]

    parts = []
    for kind, title in KINDS.items():
        parts += [
            (f"timm, two of every family, {title}", rows(kind, "timm", sample)),
            (f"timm, all that was tried, {title}", rows(kind, "timm")),
            (f"torchvision, {title}", rows(kind, "torchvision")),
            (f"transformers, made small, {title}", rows(kind, "transformers")),
            (f"other libraries, {title}", rows(kind, "others")),
        ]
    return [(title, part) for title, part in parts if part]


def _best(found: Found) -> dict[str, Row]:
    """Specification -> the full row of an architecture, or the quick one where there is no other."""
    best: dict[str, Row] = {}
    for (kind, spec), row in sorted(found.items(), key=lambda item: item[0]):  # "full" comes before "quick"
        if kind != "peer":
            best.setdefault(spec, row)
    return best


def _figures(rows: list[Row]) -> list[str]:
    passed = sum(row["passed"] for row in rows)
    large = [row for row in rows if not row["spec"].startswith("transformers:")]
    costs = [row["forwards"] for row in large if "forwards" in row]
    share = f"{passed} ({100 * passed / len(rows):.1f} %)"
    costly = [f"{median(costs):.1f}", f"{max(costs):.1f}"] if costs else ["", ""]
    return [str(len(rows)), share, str(sum(row["raised"] for row in rows)), *costly]


def _faster(found: Found) -> str:
    """How much faster than the peer, where both get through."""
    ratios: dict[str, list[float]] = {"forwards": [], "unchecked": []}
    for spec, row in _best(found).items():
        row, other = found.get(("quick", spec), row), found.get(("peer", spec))
        if other and row["passed"] and other["passed"]:
            for name, of in ratios.items():
                of += [other["forwards"] / row[name]] if name in row else []
    checked, alone = ratios.values()
    if not checked:
        return ""
    text = (
        f"Where both get through ({len(checked)} architectures), Torch-Pruning, which checks nothing, takes "
        f"{_spread(checked)} times as long as tracing, trial cut, cut and equality check together"
    )
    return f"{text}, and {_spread(alone)} times as long as graph and surgery alone." if alone else f"{text}."


def _spread(ratios: list[float]) -> str:
    return f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


def _causes(rows: list[Row]) -> dict[str, list[str]]:
    causes: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if not row["passed"]:
            prefix = "peer, " if row["kind"] == "peer" else ""
            causes[prefix + re.sub(r"\d+(\.\d+)?", "N", _plain(row["cause"]))[:110]].append(_name(row))
    order = Counter({cause: len(names) for cause, names in causes.items()}).most_common()
    return {cause: causes[cause] for cause, _ in order}


def _name(row: Row) -> str:
    return row["spec"].partition(":")[2]


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("[", "(").replace("]", ")")
