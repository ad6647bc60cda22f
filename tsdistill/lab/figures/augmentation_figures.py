"""Figure of augmentation: evaluation loss against the number of samples."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from tsdistill.lab import Outcome
from tsdistill.report.canvas import ALIGNED, INK, QUIET, axes_names, dress, grid

STYLES = {"none": (QUIET, "o"), "agnostic": ("#e0a100", "s"), "aware": (ALIGNED, "^")}
WORDS = {"none": "no augmentation", "agnostic": "teacher-agnostic", "aware": "teacher-aware"}


def draw(outcome: Outcome) -> dict[str, Figure]:
    """``loss``: a panel for each over-realisation; lines are geometric means, small marks the seeds."""
    cells, counts = outcome.data["cells"], outcome.data["counts"]
    figure, panels = grid(len(cells))
    every = np.array([[cell["evaluation"] for cell in cells]], dtype=float)
    low, high = every.min(), max(every.max(), *(cell["energy"] for cell in cells))
    for panel, cell in zip(panels, cells, strict=True):
        losses = np.array(cell["evaluation"], dtype=float)
        for place, (name, (colour, mark)) in enumerate(STYLES.items()):
            seeds = losses[:, place]
            panel.plot(counts, seeds, mark, color=colour, markersize=2, alpha=0.35)
            mean = np.exp(np.log(seeds).mean(1))
            panel.plot(
                counts, mean, color=colour, marker=mark, markersize=4, linewidth=1.6, label=WORDS[name]
            )
        panel.axhline(cell["energy"], color=INK, linewidth=0.7, linestyle=":")
        panel.axhline(outcome.data["target"] * cell["energy"], color=INK, linewidth=0.7, linestyle="--")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_ylim(low / 1.3, high * 1.3)
        dress(panel, f"{cell['over']}x over-realised", f"{losses.shape[2]} seeds")
    panels[0].legend(frameon=False, fontsize=8, labelcolor=INK)
    axes_names(figure, "training samples N, augmented ones counted", "evaluation loss")
    return {"loss": figure}
