"""Figures of boundaries, and their animation over the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tsdistill.errors import TsdistillError
from tsdistill.lab.figures.colours import name_axes
from tsdistill.lab.layers.plane_networks import HALF_SIDE, SAME_BOUNDARY, boundary_segment
from tsdistill.lab.results import Outcome
from tsdistill.report.canvas import INK, QUIET, UNALIGNED, dress, grid

WRITERS = {".gif": "pillow", ".webp": "pillow", ".mp4": "ffmpeg", ".mov": "ffmpeg"}


@dataclass(frozen=True)
class Animation:
    """An animation whose frames are drawn once each, unlike matplotlib's.

    Attributes:
        figure: the figure that changes.
        show: draws frame number k into the figure.
        count: number of frames.
        hold: number of repetitions of the last frame.
    """

    figure: Figure
    show: Callable[[int], None]
    count: int
    hold: int = 6

    def save(self, path: str | Path, writer: str | None = None, fps: int = 12) -> None:
        """Write all frames to one file.

        Args:
            path: ends in .gif or .mp4.
            writer: name of matplotlib's writer; by default that of the suffix.
            fps: frames for each second.

        Raises:
            TsdistillError: an unknown suffix, or the writer is not installed.
        """
        from matplotlib.animation import writers

        suffix = Path(path).suffix.lower()
        chosen = writer or WRITERS.get(suffix)
        if chosen is None:
            raise TsdistillError(f"{path}: no animation has the suffix {suffix!r}; name a .gif or .mp4")
        if not writers.is_available(chosen):
            raise TsdistillError(f"{path} needs {chosen}, which is not installed; install it or name a .gif")
        frame_writer = writers[chosen](fps=fps)
        with frame_writer.saving(self.figure, str(path), self.figure.dpi):
            for place in range(self.count + self.hold):
                self.show(min(place, self.count - 1))
                frame_writer.grab_frame()


TEACHERS = ("#2f77b4", "#c1762b", "#7a5ea8", "#8a6d3b", "#2b8a8a", "#a34f86")
LEFT = ("#b23a48", "#4f8f5b", "#d08fa0", "#93b88f")
"""Colours of students that end on a teacher node's boundary, by teacher node, and of the others."""
FLOOR = 1e-6
"""Least strength on a logarithmic axis."""


def draw(outcome: Outcome) -> dict[str, Figure]:
    """Boundaries at four moments; correlation and strength over training, and of all pairs at the end."""
    return {"boundaries": _moments(outcome.data), "boundaries-course": _course(outcome.data)}


def animate(outcome: Outcome) -> Animation:
    """Boundaries, and correlation and strength of the students, with a frame for each recorded step."""
    data = outcome.data
    figure, (square, curve) = grid(2)
    figure.set_size_inches(9.2, 4.6)
    figure.set_dpi(80)

    def show(place: int) -> None:
        for panel, drawn in ((square, _square), (curve, _corner)):
            panel.clear()
            drawn(panel, data, data["frames"][place])

    show(len(data["frames"]) - 1)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return Animation(figure, show, len(data["frames"]))


def _moments(data: Any) -> Figure:
    frames = data["frames"]
    figure, panels = grid(4)
    figure.set_size_inches(14.4, 4.3)
    places = [0, len(frames) // 4, len(frames) // 2, len(frames) - 1]
    for panel, place in zip(panels, places, strict=True):
        _square(panel, data, frames[place])
    handles = [
        panels[0].plot([], [], color=INK, linewidth=3, label="teacher node")[0],
        panels[0].plot(
            [], [], color=TEACHERS[0], linewidth=1.5, linestyle="--", label="student that ends on one"
        )[0],
        panels[0].plot(
            [], [], color=LEFT[0], linewidth=1.5, linestyle="-.", label="student that ends on none"
        )[0],
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False, labelcolor=INK
    )
    return figure


def _square(panel: Axes, data: Any, frame: Any) -> None:
    panel.add_patch(
        Rectangle(
            (-HALF_SIDE, -HALF_SIDE),
            2 * HALF_SIDE,
            2 * HALF_SIDE,
            facecolor="#f6f7f9",
            edgecolor=UNALIGNED,
            linewidth=0.8,
            zorder=0,
        )
    )
    for line, colour in zip(data["teacher"], TEACHERS, strict=False):
        _line(panel, line, color=colour, linewidth=4.5, alpha=0.55, zorder=1)
    top = max(frame["strength"]) or 1.0
    for line, (colour, style), strength in zip(frame["lines"], _styles(data), frame["strength"], strict=True):
        _line(panel, line, color=colour, linestyle=style, linewidth=1.1 + 1.1 * strength / top, zorder=2)
    panel.set_xlim(-1.06 * HALF_SIDE, 1.06 * HALF_SIDE)
    panel.set_ylim(-1.06 * HALF_SIDE, 1.06 * HALF_SIDE)
    panel.set_aspect("equal")
    dress(panel, f"step {frame['step']:,}", f"loss {frame['loss']:.1e}", lines="")
    panel.set_xticks([-1, 0, 1])
    panel.set_yticks([-1, 0, 1])
    for spine in panel.spines.values():
        spine.set_visible(False)


def _line(panel: Axes, node: Any, **look: Any) -> None:
    ends = boundary_segment(node)
    if ends is None:
        return
    panel.plot(*np.array(ends).T, solid_capstyle="butt", **look)
    middle, normal = np.mean(ends, axis=0), np.array(node[:2]) / np.hypot(*node[:2])
    panel.plot(
        *np.array([middle, middle + 0.07 * normal]).T,
        color=look["color"],
        linewidth=look["linewidth"] * 0.7,
        alpha=look.get("alpha", 1.0),
        zorder=look["zorder"],
    )


def _styles(data: Any) -> list[tuple[str, str]]:
    """Colour and line style of every student, by the teacher node that it ends on."""
    left = iter(LEFT * 50)
    styles = []
    for gap, node in zip(data["ended"]["gap"], data["ended"]["node"], strict=True):
        styles.append(
            (TEACHERS[node], "--") if gap is not None and gap < SAME_BOUNDARY else (next(left), "-.")
        )
    return styles


def _corner(panel: Axes, data: Any, frame: Any) -> None:
    for best, strength, (colour, style) in zip(frame["best"], frame["strength"], _styles(data), strict=True):
        panel.scatter(
            best,
            strength,
            s=60,
            color=colour,
            marker="o" if style == "--" else "s",
            edgecolors="white",
            linewidths=0.7,
            zorder=3,
        )
    panel.set_xlim(-0.3, 1.05)
    panel.set_ylim(-0.01, 1.08 * max(max(each["strength"]) for each in data["frames"]))
    name_axes(panel, "correlation with the best teacher node", "strength ‖v‖ σ", size=9)
    dress(panel, "Student nodes", "the L takes shape")


def _course(data: Any) -> Figure:
    figure, (correlation, strength, corner) = grid(3)
    steps = [max(frame["step"], 0.7) for frame in data["frames"]]
    for place, (colour, style) in enumerate(_styles(data)):
        look: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": 1.5}
        correlation.plot(steps, [frame["best"][place] for frame in data["frames"]], **look)
        strength.plot(steps, [max(frame["strength"][place], FLOOR) for frame in data["frames"]], **look)
    for panel, label, title in (
        (correlation, "correlation with the best teacher node", "Students find teacher nodes"),
        (strength, "strength ‖v‖ σ", "and those that find none fade"),
    ):
        panel.set_xscale("log")
        name_axes(panel, "training step", label, size=9)
        dress(panel, title)
    strength.set_yscale("log")
    nodes = data["nodes"]
    for colour, kind, items in (
        (TEACHERS[0], "boundary on a teacher node's", [item for item in nodes if _lies(item)]),
        (LEFT[0], "elsewhere", [item for item in nodes if item["gap"] is not None and not _lies(item)]),
        (QUIET, "outside the square", [item for item in nodes if item["gap"] is None]),
    ):
        across, up = [item["best"] for item in items], [max(item["strength"], FLOOR) for item in items]
        corner.scatter(across, up, s=11, color=colour, alpha=0.6, linewidths=0, label=kind)
    corner.set_yscale("log")
    name_axes(corner, "correlation with the best teacher node", "strength ‖v‖ σ", size=9)
    corner.legend(fontsize=8, frameon=False, labelcolor=INK, loc="center left")
    dress(corner, "All pairs at the end", f"{len(nodes)} student nodes")
    return figure


def _lies(item: Any) -> bool:
    return item["gap"] is not None and bool(item["gap"] < SAME_BOUNDARY)
