"""Streams of every kind, and names that would write to the terminal."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tsdistill.cli import terminal

from .conftest import Run, one_line

HOSTILE = "\x1b[31mred\x1b[0m\u202egnp\x07"
COMMAND = [sys.executable, "-m", "tsdistill"]


def shell(line: str, work: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell in which ``$T`` is the command line."""
    inherited = {**os.environ, "TSDISTILL_PLUGINS": "", "T": " ".join(COMMAND), **environment}
    return subprocess.run(
        ["bash", "-c", line],
        cwd=work,
        env=inherited,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )


def test_a_table_with_hostile_names_is_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.text import Text

    from tsdistill.report.table_layout import table

    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    made = table("a title", "<name", "n")
    made.add_row(HOSTILE, "1")
    made.add_row(Text(HOSTILE), "2")
    console = terminal.console()
    for each in (made, HOSTILE, Text(f"two\nlines {HOSTILE}")):
        console.print(each)
    lines = written.getvalue().split("\n")
    assert all(line.isprintable() for line in lines)
    assert written.getvalue().count("\\x1b[31mred") == 4


def test_log_records_and_complaints_are_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("tsdistill", logging.WARNING, "", 1, "%s\n%s", (HOSTILE, 9 * "x"), None)
    assert terminal.LineFormatter().format(record).isprintable()
    terminal.complain(f"{HOSTILE}\n{5000 * 'x'}")
    assert capsys.readouterr().err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_encodings_that_lack_characters(work: Path, environment: dict[str, str]) -> None:
    done = shell("$T analyze --help && $T prune x --macs 5µs", work, **environment)
    assert "aligned" in done.stdout
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_lacks_is_written_in_ascii() -> None:
    terminal.prepare_streams()
    assert "5 µs, R², 3×4 \u6f22".encode("ascii", "tsdistill") == b"5 us, R2, 3x4 \\u6f22"


def test_streams_that_are_closed_or_full(work: Path) -> None:
    closed = shell("$T plugins >&-", work)
    assert closed.returncode == 2
    assert closed.stderr == "tsdistill: standard output is closed; give it a place, such as > /dev/null\n"
    assert shell("$T plugins 2>&-", work).returncode == 0
    for command in ("plugins", "plugins --json -"):
        full = shell(f"$T {command} >/dev/full", work)
        assert full.returncode == 2
        assert full.stderr.startswith("tsdistill: standard output")
        assert full.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["plugins", "plugins --json -", "prune --help"])
def test_a_reader_that_leaves(work: Path, command: str) -> None:
    done = shell(f"(sleep 0.2; $T {command}; echo $? >code) | true; cat code", work)
    assert done.stdout.strip() == str(terminal.READER_GONE)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prune", "networks.py:vectors", "--macs", "1e400", "--dry-run"], ["macs takes", "1e400"]),
        (["prune", "networks.py:vectors", "--latency", "1e400s", "--dry-run"], ["latency takes"]),
        (["analyze", "networks.py:vectors", "--seed", str(2**64)], ["--seed", str(2**64)]),
        (["analyze", "networks.py:vectors", "--weak", "nan"], ["--weak", "nan"]),
        (["analyze", "networks.py:vectors", "--device", "meta"], ["no device 'meta'"]),
        (["export", "networks.py:vectors", "-o", "x.onnx", "--device", "meta"], ["device"]),
        (["analyze", f"no{HOSTILE}.pt"], ["\\x1b[31mred"]),
        (["analyze", 5000 * "x" + ".pt"], ["xxx"]),
    ],
)
def test_values_without_meaning_are_one_line(fork: Run, arguments: list[str], words: list[str]) -> None:
    done = fork(*arguments)
    one_line(done, *words)
    assert len(done.stderr) < 1100
    assert done.stderr.rstrip("\n").isprintable()


def test_the_text_of_a_plan_is_never_a_path(fork: Run, work: Path) -> None:
    """A file that should be a plan and holds the name of another one is no way to read that one."""
    (work / "secret.json").write_text('{"kind": "pruning plan", "format": 1, "arch": "TOP"}')
    (work / "pointer.json").write_text(str(work / "secret.json"))
    done = fork(
        "prune", "networks.py:vectors", "--plan", "pointer.json", "--dry-run", "--data", "vectors.npz"
    )
    one_line(done, "pointer.json")
    assert "secret" not in done.stderr
