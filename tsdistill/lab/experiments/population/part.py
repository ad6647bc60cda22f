"""What a study hands to the experiment that it is part of, kept on disk when it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tsdistill.files import replacing
from tsdistill.lab.outcome import Claim, Table
from tsdistill.lab.settings import Settings


@dataclass(frozen=True)
class Part:
    """Claims, tables and numbers of one study, as in an `Outcome`."""

    claims: tuple[Claim, ...]
    tables: tuple[Table, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def kept(folder: Path | None, name: str, settings: Settings, make: Callable[[], Part]) -> Part:
    """What ``make`` returns, read from ``folder`` where the same settings were finished before.

    Args:
        folder: where finished studies are; ``None``: nothing is kept.
        name: of the study.
        settings: all that decides the numbers.
        make: does the study.
    """
    if folder is None:
        return make()
    mark = sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()[:12]
    place = folder / f"{name}-{mark}.json"
    if not place.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(make()))
        with replacing(place) as beside:
            beside.write_text(text)
    return _read(json.loads(place.read_text()))


def _read(found: dict[str, Any]) -> Part:
    tables = (
        Table(each["title"], tuple(each["columns"]), tuple(map(tuple, each["rows"])))
        for each in found["tables"]
    )
    claims = tuple(Claim(**each) for each in found["claims"])
    return Part(claims, tuple(tables), found["data"], tuple(found["notes"]))
