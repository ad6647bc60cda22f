"""Colours of the lab's figures beside those of every figure, and names of axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tsdistill.report.canvas import ALIGNED, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WARM = "#c1762b"
GREEN = "#4f8f5b"
RED = "#b23a48"
SEVERAL = (ALIGNED, WARM, GREEN, RED, "#7a5ea8", "#8a8a8a")


def named(panel: Axes, across: str, up: str) -> None:
    """Name the axes of a small panel."""
    panel.set_xlabel(across, fontsize=8.5, color=INK)
    panel.set_ylabel(up, fontsize=8.5, color=INK)
