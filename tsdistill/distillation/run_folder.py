"""A run's folder: the model, the options, the log and the checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from tsdistill.distillation import checkpoints
from tsdistill.errors import TsdistillError
from tsdistill.files import atomic_file, sweep
from tsdistill.options.option_fields import written
from tsdistill.options.train_options import differences
from tsdistill.schema import Schema, finite_or_none, read_json

MODEL, BEST = "model.safetensors", "best.safetensors"
OPTIONS, LOG, LAST, PAGE = "options.json", "log.jsonl", "checkpoints/last.pt", "alignment.html"
TEACHER = ("teacher.npy", "teacher.known.npy", "teacher.json")
FILES = (MODEL, BEST, OPTIONS, LOG, LAST, PAGE, *TEACHER)
"""What a run may write into its folder."""


def files_of(identity: Mapping[str, Any]) -> tuple[str, ...]:
    """What the run of ``identity`` (see `RunFolder.begin`) writes into its folder, by name."""
    cached = bool(identity["options"].get("cache_teacher"))
    return tuple(name for name in FILES if cached or name not in TEACHER)


def plain_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the log for JSON."""
    return {name: finite_or_none(value) for name, value in line.items()}


class RunFolder:
    """The files of a run.

    ``model.safetensors`` (the student as it is after the last epoch), ``best.safetensors`` (as it was when it
    was best on held-out data), ``options.json``, ``log.jsonl`` (a line an epoch), ``checkpoints/last.pt``.

    Args:
        folder: `begin` makes it when it is not there; its parent has to be.
        writes: whether this process is the one that writes.

    Raises:
        TsdistillError: the folder cannot be made or written in.
    """

    def __init__(self, folder: str | Path, writes: bool = True) -> None:
        self.path = Path(folder).expanduser()
        self.writes = writes
        self.model, self.best = self.path / MODEL, self.path / BEST
        self.options, self.log = self.path / OPTIONS, self.path / LOG
        self.last = self.path / LAST
        if self.path.exists() and not self.path.is_dir():
            raise TsdistillError(f"{self.path} is a file; name a folder for the run")
        if not self.path.is_dir() and not self.path.absolute().parent.is_dir():
            raise TsdistillError(
                f"{self.path}: the folder {self.path.parent} does not exist; create it first"
            )
        parts = (self.last.parent, self.path, self.path.absolute().parent)
        if writes and not os.access(next(part for part in parts if part.is_dir()), os.W_OK | os.X_OK):
            raise TsdistillError(f"{self.path} cannot be written in; name another")

    def _create(self) -> None:
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TsdistillError(f"{self.path} cannot be made ({error.strerror}); name another") from error

    def begin(self, identity: Mapping[str, Any], resume: bool) -> dict[str, Any] | None:
        """Prepare the folder for a run, and read the checkpoint of a resumed one.

        Args:
            identity: ``options`` and whatever else makes the run what it is, by name.
            resume: go on from the last checkpoint, where there is one.

        Returns:
            the last checkpoint, ``None`` to start afresh.

        Raises:
            TsdistillError: the folder holds a run and ``resume`` is false, the run had other options (the
                message says which), or a file that the run would write is there and no run made it.
        """
        self._check_own(identity)
        if not resume and (self.last.exists() or self.model.exists()):
            raise TsdistillError(
                f"{self.path} holds a run already; give {written('resume', True)} to go on, or another folder"
            )
        checkpoint = None
        if self.last.exists():
            changed = self._changed(identity)
            if changed:
                raise TsdistillError(
                    f"{self.path} cannot be resumed: {'; '.join(changed)}; give what it had or another folder"
                )
            checkpoint = checkpoints.read(self.last)
        if self.writes:
            self._create()
            for folder in (self.path, self.last.parent):
                sweep(folder)
            self._write(self.options, json.dumps(identity, indent=1) + "\n")
        return checkpoint

    def _check_own(self, identity: Mapping[str, Any]) -> None:
        """Refuse to replace a file that no run has made: options.json comes first and says what one makes.

        Raises:
            TsdistillError: names the file.
        """
        before = self._identity() if self.options.exists() else None
        own_files = () if before is None else (*files_of(before), *(TEACHER if self._cached() else ()))
        for name in files_of(identity):
            if name not in own_files and (self.path / name).exists():
                raise TsdistillError(f"{self.path / name} is there and no run made it; name another folder")

    def _cached(self) -> bool:
        """Whether teacher outputs that are here are those of an earlier run."""
        try:
            identity = json.loads((self.path / TEACHER[-1]).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(identity, dict) and {"teacher", "data", "outputs"} <= set(identity)

    def _identity(self) -> dict[str, Any] | None:
        """What the folder's run is, ``None`` when options.json is something else.

        Raises:
            TsdistillError: the file cannot be read.
        """
        way_out = f"remove the folder {self.path} to start afresh"
        identity: dict[str, Any] = read_json(self.options, _RunFields, way_out).model_dump()
        return identity if "tsdistill" in identity and isinstance(identity.get("options"), dict) else None

    def _changed(self, identity: Mapping[str, Any]) -> list[str]:
        before = self._identity() if self.options.exists() else None
        if before is None:
            return []
        options = before["options"]
        now = json.loads(json.dumps(identity))
        changed = differences(now["options"], options)
        rest = {name: value for name, value in now.items() if name != "options"}
        others = {name: value for name, value in before.items() if name != "options"}
        return [*differences(rest, others), *changed]

    def write_log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write the log anew, a JSON object a line."""
        self._write(self.log, "".join(json.dumps(plain_line(line)) + "\n" for line in lines))

    def _write(self, path: Path, text: str) -> None:
        if self.writes:
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


class _RunFields(Schema):
    """``options.json``: whatever makes the run what it is."""

    model_config = ConfigDict(extra="allow")
