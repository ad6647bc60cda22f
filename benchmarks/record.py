"""Results that outlive a run and a machine: a file with a line of JSON for each, kept in the repository."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tsdistill.files import atomic_file

Row = dict[str, Any]
Name = tuple[str, ...]


class Record:
    """Rows by name; the last line of a name counts. Several processes may add to one file.

    Args:
        path: the file; need not exist.
        name: what a row is found by.
    """

    def __init__(self, path: Path, name: Callable[[Row], Name]) -> None:
        self.path, self._name = path, name
        self._rows: dict[Name, Row] = {}
        self._read = (0, 0)

    def read(self) -> dict[Name, Row]:
        """All rows; the file is read where it has changed since."""
        if self.path.exists():
            state = self.path.stat()
            if (state.st_mtime_ns, state.st_size) != self._read:
                rows = [json.loads(line) for line in self.path.read_text().splitlines()]
                self._rows = {self._name(row): row for row in rows}
                self._read = (state.st_mtime_ns, state.st_size)
        return self._rows

    def add(self, row: Row) -> None:
        """Append a row, whole, also when others append to the same file."""
        with open(self.path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(row) + "\n")

    def tidy(self) -> None:
        """Leave one line for every name, in order; not while others add."""
        rows = self.read()
        with atomic_file(self.path) as path:
            path.write_text("".join(json.dumps(rows[name]) + "\n" for name in sorted(rows)))
