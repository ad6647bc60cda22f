"""Write what the lab has measured into docs/theory.md, and its figures into docs/theory/.

``python scripts/theory_docs.py LAB`` takes every ``LAB/NAME/outcome.json`` (``tsdistill lab NAME``, whole
runs) and puts its claims, settings and figures between ``<!-- lab NAME -->`` and ``<!-- lab end -->``.
Experiments that have not been run keep what is there.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from PIL import Image

from tsdistill.lab import EXPERIMENTS, Outcome, experiment
from tsdistill.lab.figures import read_outcome, verdict
from tsdistill.options.option_fields import flag

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = (".svg", ".png", ".gif")
MOST = 2_000_000
WIDE = 1200
SUMMARY = "summary"


def main() -> None:
    """Fill docs/theory.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lab", nargs="?", type=Path, default=Path("lab"), help="folder of the runs")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of theory.md")
    given = parser.parse_args()
    page = given.docs / "theory.md"
    page.write_text(filled(page.read_text("utf-8"), given.lab, given.docs / "theory"), encoding="utf-8")


def filled(text: str, lab: Path, pictures: Path) -> str:
    """The page with the blocks of all experiments that have been run.

    Args:
        text: the page as it is.
        lab: a folder an experiment.
        pictures: where figures are copied to; those of an experiment take the place of its earlier ones.

    Raises:
        SystemExit: the figures are more than 2 MB together.
    """
    pictures.mkdir(exist_ok=True)
    found = {name: read_outcome(lab / name) for name in EXPERIMENTS if (lab / name / "outcome.json").exists()}
    for name, outcome in found.items():
        text = replaced(text, name, block(outcome, copied(lab / name, name, pictures)))
    known = {name: _verdicts(text, name) for name in EXPERIMENTS}
    size = sum(file.stat().st_size for file in pictures.iterdir())
    if size > MOST:
        largest = sorted(pictures.iterdir(), key=lambda file: -file.stat().st_size)[:3]
        raise SystemExit(f"{pictures} has {size:,} bytes, most in {', '.join(each.name for each in largest)}")
    return replaced(text, SUMMARY, summary(known))


def replaced(text: str, name: str, inside: str) -> str:
    """The page with another inside of a block.

    Raises:
        SystemExit: it has no such block.
    """
    pattern = re.compile(rf"(<!-- lab {re.escape(name)} -->\n).*?(<!-- lab end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"the page has no block <!-- lab {name} -->")
    return pattern.sub(lambda marks: f"{marks[1]}{inside}{marks[2]}", text, count=1)


def block(outcome: Outcome, pictures: list[str]) -> str:
    """What is said of one experiment: how it ran, claims, notes, figures."""
    lines = ["", f"`tsdistill lab {outcome.name}`{_options(outcome)}: {_minutes(outcome.seconds)}", ""]
    lines += ["| | claim | measured |", "|---|---|---|"]
    for claim in outcome.claims:
        cells = (verdict(claim.held), f"{claim.text} ({claim.source})", claim.measured)
        lines.append(
            f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"
        )
    lines += ["", *(f"{note}  " for note in outcome.notes), ""]
    lines += [f"![{Path(name).stem}](theory/{name})" for name in pictures]
    return "\n".join(lines).rstrip() + "\n\n"


def summary(verdicts: Mapping[str, list[str]]) -> str:
    """A row an experiment: how many of its claims held."""
    lines = ["", "| experiment | | held | did not hold | cannot say |", "|---|---|---:|---:|---:|"]
    for name, said in verdicts.items():
        counts = [str(said.count(word)) if said else "" for word in map(verdict, (True, False, None))]
        lines.append(f"| `{name}` | {EXPERIMENTS[name]} | {' | '.join(counts)} |")
    return "\n".join(lines) + "\n\n"


def copied(run: Path, name: str, pictures: Path) -> list[str]:
    """Names of an experiment's figures in the folder of the page: of each the smallest of its files."""
    for old in pictures.glob(f"{name}.*.*"):
        old.unlink()
    smallest: dict[str, tuple[str, bytes]] = {}
    for file in sorted(run.iterdir(), key=lambda file: (file.suffix == ".gif", file.name)):
        if file.suffix not in PICTURES:
            continue
        contents = lighter(file) if file.suffix == ".png" else file.read_bytes()
        best = smallest.get(_stem(file))
        if best is None or len(contents) < len(best[1]):
            smallest[_stem(file)] = (file.suffix, contents)
    names = []
    for stem, (suffix, contents) in smallest.items():
        names.append(f"{name}.{stem}{suffix}")
        (pictures / names[-1]).write_bytes(contents)
    return names


def lighter(file: Path) -> bytes:
    """A picture for a page: at most 1,200 dots wide, in 48 colours."""
    with Image.open(file) as picture:
        plain = picture.convert("RGB")
    if plain.width > WIDE:
        plain = plain.resize((WIDE, round(plain.height * WIDE / plain.width)), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    plain.quantize(48, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


def _stem(file: Path) -> str:
    return "animation" if file.suffix == ".gif" else file.stem


def _verdicts(text: str, name: str) -> list[str]:
    inside = re.search(rf"<!-- lab {re.escape(name)} -->\n(.*?)<!-- lab end -->", text, re.DOTALL)
    words = "|".join(map(verdict, (True, False, None)))
    return re.findall(rf"^\| ({words}) \|", inside[1] if inside else "", re.MULTILINE)


def _options(outcome: Outcome) -> str:
    """Settings that are not the defaults, as on the command line."""
    said = []
    for field in fields(experiment(outcome.name).settings):
        default = None if field.default is MISSING else field.default
        value = outcome.settings.get(field.name, default)
        if _plain(value) != _plain(default) and field.name != "device":
            said.append(
                f"{flag(field.name)} {','.join(map(str, value)) if isinstance(value, list) else value}"
            )
    return f" with `{' '.join(said)}`" if said else ""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    main()
