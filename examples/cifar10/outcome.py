"""The experiment's table and figures, from what its runs have written so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSS, PREFIX = "output_mse", "alignment/"
THIRDS = ("strong", "middle", "weak")
COLOURS = ("#440154", "#31688e", "#35b779", "#e0a100", "#c44e52", "#8c564b")


def write_outcome(out: Path, facts: Mapping[str, Any]) -> str:
    """Write ``table.md``, ``alignment.png`` and ``loss.png`` to ``out``.

    Args:
        out: the experiment's folder, with ``runs/*/figures.json``.
        facts: what goes over the table: data, network, nodes, steps, figures of both teachers.

    Returns:
        the table.
    """
    runs = read_runs(out)
    text = table(runs, facts)
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    draw_alignment(runs, out / "alignment.png")
    draw_loss(runs, out / "loss.png")
    return text


def read_runs(out: Path) -> dict[float, list[dict[str, Any]]]:
    """Width -> the runs' figures, one entry a seed, seeds in order."""
    runs: dict[float, list[dict[str, Any]]] = {}
    for file in sorted(out.glob("runs/*/figures.json")):
        run = json.loads(file.read_text())
        runs.setdefault(float(run["width"]), []).append(run)
    return {width: sorted(runs[width], key=lambda run: run["seed"]) for width in sorted(runs)}


def curve(run: Mapping[str, Any], name: str) -> np.ndarray:
    """A figure of a run from epoch 0 on."""
    epochs = run["epochs"]
    return np.array([epochs[epoch][name] for epoch in sorted(epochs, key=int)])


def curves(runs: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """``[seeds, epochs]``, as far as all seeds have come."""
    found = [curve(run, name) for run in runs]
    shortest = min(len(each) for each in found)
    return np.stack([each[:shortest] for each in found])


def layers(runs: Mapping[float, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Names of the groups whose alignment was followed, in forward order."""
    first = next(iter(runs.values()))[0]["epochs"]["0"]
    names = [name.removeprefix(PREFIX) for name in first if name.startswith(PREFIX)]
    return [name for name in names if name not in THIRDS]


def table(runs: Mapping[float, Sequence[Mapping[str, Any]]], facts: Mapping[str, Any]) -> str:
    """Markdown: a row a width, each figure as mean ± standard deviation over seeds after the last epoch."""
    names = layers(runs)
    nodes = "-".join(str(size) for size in facts["nodes"].values())
    lines = [
        f"{facts['data']}, {facts['network']} ConvNet 64-64-64-64 ({facts['dense']['top1']:.2f} %), pruned "
        f"to its strong nodes {nodes}: {facts['teacher']['top1']:.2f} %, the teacher. {facts['budget']}",
        "",
        "| over-realised | seeds | evaluation loss | agreement | accuracy | "
        + " | ".join(f"correlation, layer {place}" for place in range(1, len(names) + 1))
        + " | all |",
        "|" + "---:|" * (6 + len(names)),
    ]
    for width, some in runs.items():
        cells = [_cell(some, LOSS, 4), _cell(some, "agreement", 2), _cell(some, "top1", 2)]
        cells += [_cell(some, PREFIX + name, 3) for name in names]
        cells.append(_cell(some, "alignment", 3))
        lines.append(f"| {width:g}x | {len(some)} | {' | '.join(cells)} |")
    lines += [
        "",
        "Evaluation loss: squared error of the outputs over the variance of the teacher's. Correlation: mean "
        "over the teacher's nodes of the best correlation with a student node, on evaluation images.",
    ]
    return "\n".join(lines)


def _cell(runs: Sequence[Mapping[str, Any]], name: str, digits: int) -> str:
    last = curves(runs, name)[:, -1]
    spread = f" ± {last.std(ddof=1):.{digits}f}" if len(last) > 1 else ""
    return f"{last.mean():.{digits}f}{spread}"


def draw_alignment(runs: Mapping[float, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """A panel a layer: mean best correlation over epochs, a line a width, seeds as thin lines."""
    from matplotlib.figure import Figure

    names = layers(runs)
    figure = Figure(figsize=(3.1 * len(names), 3.2), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for place, (panel, name) in enumerate(zip(panels, names, strict=True), start=1):
        _lines(panel, runs, PREFIX + name)
        panel.set_title(f"layer {place}", fontsize=10)
    panels[0].set_ylabel("mean best correlation")
    panels[0].legend(frameon=False, fontsize=8, title="over-realised", title_fontsize=8)
    figure.savefig(path, dpi=110)


def draw_loss(runs: Mapping[float, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """The evaluation loss over epochs, a line a width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    panel = figure.subplots()
    _lines(panel, runs, LOSS)
    panel.set_yscale("log")
    panel.set_ylabel("evaluation loss")
    panel.legend(frameon=False, fontsize=8, title="over-realised", title_fontsize=8)
    figure.savefig(path, dpi=110)


def _lines(panel: Axes, runs: Mapping[float, Sequence[Mapping[str, Any]]], name: str) -> None:
    for (width, some), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
        found = curves(some, name)
        epochs = np.arange(found.shape[1])
        panel.plot(epochs, found.T, color=colour, linewidth=0.7, alpha=0.35)
        panel.plot(epochs, found.mean(0), color=colour, linewidth=1.8, marker="o", markersize=3,
                   label=f"{width:g}x")  # fmt: skip
    panel.set_xlabel("epoch")
    panel.spines[["top", "right"]].set_visible(False)
