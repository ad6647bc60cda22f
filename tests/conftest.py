"""What all tests share: threads, what needs more than pip, and the count of what was not run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("COLUMNS", None)

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

_NEEDS = {
    "fashion-mnist": (FASHION_MNIST.is_dir, "Debian's dataset-fashion-mnist"),
    "browser": (lambda: shutil.which("chromium") is not None, "Debian's chromium"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip system tests whose need, ``@pytest.mark.system(need)``, is not met here."""
    for item in items:
        for marker in item.iter_markers("system"):
            if len(marker.args) != 1 or marker.args[0] not in _NEEDS:
                raise pytest.UsageError(f"{item.nodeid}: mark.system takes one of {', '.join(_NEEDS)}")
            there, what = _NEEDS[marker.args[0]]
            if not there():
                item.add_marker(pytest.mark.skip(reason=f"needs {what}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests need more than pip and were not run."""
    skipped = terminalreporter.stats.get("skipped", [])
    missing = [report for report in skipped if "system" in getattr(report, "keywords", {})]
    if missing:
        terminalreporter.write_line(f"{len(missing)} tests need more than pip and were not run")


@pytest.fixture
def fashion_mnist() -> Path:
    """The folder of Fashion-MNIST's gzipped IDX files."""
    return FASHION_MNIST
