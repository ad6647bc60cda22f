"""What commands show on stderr while they work."""

from __future__ import annotations

import io
import os
import re
import sys
import time

import pytest

from tests.cli.conftest import Run
from tsdistill.cli import output, progress_display
from tsdistill.cli.progress_display import Lines, Monitor


def test_every_stage_gets_a_line_with_its_time_and_what_is_left_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_display.progress() as monitor:
        monitor.expect({"one forward pass": 1, "observing samples": 20})
        monitor("one forward pass", 0, None)
        time.sleep(0.1)
        monitor("observing samples", 0, 64)
        monitor("observing samples", 64, 64)
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert re.fullmatch(r"one forward pass: 0\.1 s; about 0:0[23] of 0:0[23] left", first)
    assert second == "observing samples, 64 of 64: 0.0 s"


def test_a_stage_that_goes_on_is_heard_of_even_when_it_says_nothing_itself() -> None:
    stream = io.StringIO()
    monitor = Monitor(Lines(stream), interval=0.02)
    monitor("tracing", 0, None)
    deadline = time.monotonic() + 10
    while "so far" not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    monitor.close()
    said = stream.getvalue().splitlines()
    assert said[0].startswith("tracing: 0.")
    assert said[0].endswith(" s so far")
    assert said[-1].endswith(" s")


def test_a_stage_that_was_broken_off_is_not_told_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress_display.stage("tracing"):
        raise KeyboardInterrupt
    assert capsys.readouterr() == ("", "")


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display.progress(quiet=True) as monitor, progress_display.stage("tracing"):
        monitor.line("epoch 1")
    assert capsys.readouterr() == ("", "")


def test_results_end_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display.progress():
        with progress_display.stage("tracing"):
            pass
        output.console().print("the result")
        with progress_display.stage("something behind it"):
            pass
    out, err = capsys.readouterr()
    assert out == "the result\n"
    assert err.splitlines() == [line for line in err.splitlines() if line.startswith("tracing: ")]
    assert len(err.splitlines()) == 1


def test_progress_counts_samples_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        with progress_display.progress() as monitor:
            monitor.expect({"moments of [conv1]": 4, "strength on samples": 20})
            for done in (512, 1024):
                monitor("moments of [conv1]", done, 2048)
                _redraw()
            monitor("strength on samples", 32, None)
            _redraw()
        terminal.flush()
        shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert "moments of [conv1]" in shown
    assert "1,024 of 2,048" in shown
    assert "left" in shown
    assert "strength on samples" in shown


def _redraw() -> None:
    """Long enough for the bar, which is drawn ten times a second, to show what it was told last."""
    time.sleep(0.25)


@pytest.mark.parametrize("quiet", [False, True])
def test_analyze_says_its_stages_in_a_pipe_and_results_alone_on_stdout(fork: Run, quiet: bool) -> None:
    arguments = ["analyze", "networks.py:vectors", "--input-size", "12", "--samples", "8", "--json", "-"]
    done = fork(*arguments, *(["--quiet"] if quiet else []))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")
    stages = [line.partition(":")[0].partition(",")[0] for line in done.stderr.splitlines()]
    assert stages[:7] == ([] if quiet else [
        "importing libraries", "reading networks.py", "checking the model", "one forward pass", "tracing",
        "observing samples", "describing nodes",
    ])  # fmt: skip
