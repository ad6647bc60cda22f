"""Results that outlive a run: one line of a record per cell, and the pruned networks on this machine."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from record import Record
from torch import nn

import tsdistill
from tsdistill.files import atomic_file

Key = Mapping[str, Any]


class Cells:
    """A record of figures, and a folder of the networks that they were measured on.

    Args:
        record: the file of figures; need not exist.
        folder: of networks; is made where there is none.
        fresh: cells of these kinds that are there already do not count, except those that this object has
            written itself.
    """

    def __init__(self, record: Path, folder: Path, fresh: Collection[str] = ()) -> None:
        self.record = Record(record, lambda row: (row["cell"],))
        self.folder, self.fresh = folder, frozenset(fresh)
        self._written: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: Key) -> dict[str, Any] | None:
        """The figures of a cell, ``None`` when it has not been computed."""
        name = _name(key)
        row = self.record.read().get((name,))
        if (key["kind"] in self.fresh and name not in self._written) or row is None:
            return None
        return row["figures"]

    def latest(self, key: Key) -> dict[str, Any] | None:
        """The newest cell that differs from ``key`` in the code that made it at most."""
        wanted = _plain({**key, "code": None})
        rows = self.record.read().values()
        alike = [row for row in rows if {**row["key"], "code": None} == wanted]
        return max(alike, key=lambda row: row["made"])["figures"] if alike else None

    def put(self, key: Key, figures: Mapping[str, Any], model: nn.Module | None = None) -> None:
        """Keep the figures of a cell, and its network."""
        name = _name(key)
        if model is not None:
            self.hold(key, model)
        made = datetime.now().isoformat(timespec="seconds")
        self.record.add({"cell": name, "key": _plain(key), "figures": dict(figures), "made": made})
        self._written.add(name)

    def hold(self, key: Key, model: nn.Module) -> None:
        """Keep the network of a cell alone."""
        with atomic_file(self._network(key)) as path:
            torch.save(model, path)

    def model(self, key: Key) -> nn.Module | None:
        """The network of a cell, ``None`` when it was made on another machine."""
        path = self._network(key)
        return torch.load(path, weights_only=False) if path.exists() else None

    def _network(self, key: Key) -> Path:
        return self.folder / f"{_name(key)}.pt"

    @contextmanager
    def claim(self, key: Key) -> Iterator[bool]:
        """Whether this process may compute the cell: no other one is at it. It is free again at the end,
        however that comes."""
        with open(self.folder / f"{_name(key)}.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def fingerprint(model: nn.Module) -> str:
    """A short hash of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:10]


def code() -> str:
    """A short hash of what the library does when it prunes; comments and docstrings do not count."""
    root = Path(tsdistill.__file__).parent
    digest = hashlib.sha256()
    for folder in ("tracing", "alignment", "pruning"):
        for path in sorted((root / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list):
                    node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
            digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:10]


def _is_text(line: ast.AST) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


def _plain(key: Key) -> dict[str, Any]:
    return json.loads(json.dumps(dict(key), sort_keys=True))


def _name(key: Key) -> str:
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:10]
    shown = [str(key[part]).replace("/", "_") for part in ("network", "kind", "row", "budget") if part in key]
    return "-".join([*shown, digest])
