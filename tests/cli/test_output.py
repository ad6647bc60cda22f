import os
import sys

import pytest

from tsdistill.cli import output


def test_progress_is_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress() as tell:
        assert tell is None
    assert capsys.readouterr() == ("", "")


def test_progress_counts_samples_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        with output.progress() as tell:
            assert tell is not None
            for done in (512, 1024):
                tell("moments of [conv1]", done, 2048)
                _redraw()
            tell("strength", 32, None)
            _redraw()
        terminal.flush()
        shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert "moments of [conv1]" in shown
    assert "1,024 of 2,048 samples" in shown
    assert "32 samples" in shown


def _redraw() -> None:
    """Long enough for the bar, which is drawn ten times a second, to show what it was told last."""
    import time

    time.sleep(0.25)
