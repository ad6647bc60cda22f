"""Colours of the lab's figures, and the labels of small panels' axes."""

from __future__ import annotations

from matplotlib.axes import Axes

from tsdistill.report.canvas import ALIGNED, INK

WARM = "#c1762b"
GREEN = "#4f8f5b"
RED = "#b23a48"
SEVERAL = (ALIGNED, WARM, GREEN, RED, "#7a5ea8", "#8a8a8a")


def name_axes(panel: Axes, across: str, up: str, size: float = 8.5) -> None:
    """Label the axes of a panel.

    Args:
        panel: the axes.
        across: label of the horizontal axis.
        up: label of the vertical axis.
        size: of the type, in points.
    """
    panel.set_xlabel(across, fontsize=size, color=INK)
    panel.set_ylabel(up, fontsize=size, color=INK)


QUIETEST, STRONGEST = (0xC9, 0xDD, 0xEE), (0x14, 0x3C, 0x66)
"""Red, green and blue of the ends of `blue_shades`."""


def blue_shades(count: int) -> list[str]:
    """``count`` blues from the quietest to the strongest; one alone is the strongest."""
    shares = [k / (count - 1) for k in range(count)] if count > 1 else [1.0]
    return [
        "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(QUIETEST, STRONGEST, strict=True))
        for share in shares
    ]
