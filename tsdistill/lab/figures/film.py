"""A figure that changes, as frames, GIF or MP4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tsdistill.errors import TsdistillError
from tsdistill.report.canvas import save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRITERS = {".gif": "pillow", ".webp": "pillow", ".mp4": "ffmpeg", ".mov": "ffmpeg"}


@dataclass(frozen=True)
class Film:
    """Like matplotlib's animations, but every frame is drawn once.

    Attributes:
        figure: what changes.
        show: draws a frame into it.
        count: how many there are.
        hold: how many times the last is shown again.
    """

    figure: Figure
    show: Callable[[int], None]
    count: int
    hold: int = 6

    def save(self, path: str | Path, writer: str | None = None, fps: int = 12) -> None:
        """Write all frames to one file.

        Args:
            path: ends in .gif or .mp4.
            writer: of matplotlib; by default what the suffix asks for.
            fps: frames a second.

        Raises:
            TsdistillError: a suffix of no film, or the writer is not installed.
        """
        from matplotlib.animation import writers

        suffix = Path(path).suffix.lower()
        chosen = writer or WRITERS.get(suffix)
        if chosen is None:
            raise TsdistillError(
                f"{path}: no film is written as {suffix or 'a file without suffix'}; name a .gif or .mp4"
            )
        if not writers.is_available(chosen):
            raise TsdistillError(f"{path} needs {chosen}, which is not installed; install it or name a .gif")
        made = writers[chosen](fps=fps)
        with made.saving(self.figure, str(path), self.figure.dpi):
            for place in range(self.count + self.hold):
                self.show(min(place, self.count - 1))
                made.grab_frame()

    def frames(self, folder: str | Path) -> list[Path]:
        """Write every frame as ``frame-000.png`` and so on into a folder that exists.

        Raises:
            TsdistillError: a frame cannot be written.
        """
        written = []
        for place in range(self.count):
            self.show(place)
            written.append(save(self.figure, Path(folder) / f"frame-{place:03d}.png"))
        return written
