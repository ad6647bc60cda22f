"""Models side by side, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tsdistill.evaluation import Comparison
from tsdistill.report.numbers import amount, seconds, size, times
from tsdistill.report.table_layout import table

Row = tuple[str, list[str]]
"""A label and a text for each model."""

_METRICS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "perplexity": "perplexity",
    "next_token": "next-token accuracy",
    "agreement": "top-1 agreement with {}",
    "kl": "KL divergence from {}",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "output_mse": "relative output error to {}",
}
"""What the built-in metrics are called in full; the place is the first model's."""


_SUFFIXES = (".pt", ".pth", ".safetensors")

_COLUMNS = 3
"""Models up to which each is a column; with more of them each is a row, because a terminal of 80 characters
is too narrow."""

_COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "params": ("parameters", amount),
    "macs": ("MACs", amount),
    "file_size": ("file", size),
    "latency": ("latency, batch 1", seconds),
    "throughput": ("samples/s, batch {}", amount),
    "peak_memory": ("peak memory, batch {}", size),
    "run_memory": ("memory at run, batch {}", size),
    "prefill": ("tokens/s read, batch 1", amount),
    "batched_prefill": ("tokens/s read, batch {}", amount),
    "decode": ("tokens/s written, batch 1", amount),
    "batched_decode": ("tokens/s written, batch {}", amount),
}


def metric_title(name: str, first: str) -> str:
    """A metric in full, such as ``"boxes: relative output error to dense"`` for ``output_mse@boxes``.

    Args:
        name: of the metric, and behind ``@`` of the output.
        first: the first model's name.
    """
    metric, _, output = name.partition("@")
    title = _METRICS.get(metric, metric).format(first)
    return f"{output}: {title}" if output else title


def comparison_table(compared: Comparison, kind: str = "") -> Group:
    """Models side by side; costs with their ratio to those of the first.

    Args:
        compared: what `tsdistill.compare` returned.
        kind: what samples the figures are from, such as "held-out samples".
    """
    names = short_names(compared.names)
    costs, figures = comparison_rows(compared)
    caption = Text("\n".join(_caption_lines(compared, kind)))
    if len(names) <= _COLUMNS:
        comparison = table("Side by side", "<", *names)
        for label, cells in (*costs, *figures):
            comparison.add_row(label, *cells)
        return Group(comparison, caption)
    tables: list[RenderableType] = [_by_model(names, "What they cost", costs), Text()]
    if figures:
        short = [(name, cells) for name, (_, cells) in zip(compared.figures, figures, strict=True)]
        tables += [_by_model(names, f"What they give, beside {names[0]}", short), Text()]
    return Group(*tables, caption)


def comparison_rows(compared: Comparison) -> tuple[list[Row], list[Row]]:
    """Costs, and figures of quality: a label and a text for each model."""
    return _costs(compared), _figures(compared, short_names(compared.names)[0])


def _by_model(names: Sequence[str], title: str, rows: Sequence[tuple[str, list[str]]]) -> Table:
    models = table(title, "<", *(label.replace(", ", ",\n") for label, _ in rows), close=True)
    for place, name in enumerate(names):
        models.add_row(name, *(cells[place] for _, cells in rows))
    return models


def _costs(compared: Comparison) -> list[tuple[str, list[str]]]:
    rows = []
    for cost, (label, show) in _COSTS.items():
        values, ratios = getattr(compared, cost), compared.ratios(cost)
        if values:
            others = [f"{show(v)} ({times(r)})" for v, r in zip(values[1:], ratios[1:], strict=True)]
            rows.append((label.format(compared.batch_size), [show(values[0]), *others]))
    return rows


def _figures(compared: Comparison, first: str) -> list[tuple[str, list[str]]]:
    rows = []
    for name in compared.figures:
        cells = [figure(compared, name, m[name]) if name in m else "" for m in compared.metrics]
        rows.append((metric_title(name, first), cells))
    return rows


def figure(compared: Comparison, name: str, value: float) -> str:
    """A metric's figure with its unit.

    Args:
        compared: the comparison, which knows the units.
        name: of the metric.
        value: the figure.
    """
    unit = compared.traits[name].unit if name in compared.traits else ""
    return f"{value:.2f} %" if unit == "%" else f"{value:.4g} {unit}".rstrip()


def short_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of files without their folders and suffixes, as far as they can be told apart so."""
    files = [PurePath(name) for name in names]
    bare = [file.stem if file.suffix in _SUFFIXES else file.name or str(file) for file in files]
    for short in (bare, [file.name or str(file) for file in files]):
        if len(set(short)) == len(short):
            return tuple(short)
    return tuple(names)


def _caption_lines(compared: Comparison, kind: str) -> list[str]:
    lines = []
    if compared.data and compared.figures:
        lines.append(f"Measured on {kind + ': ' if kind else ''}{compared.data}")
    if compared.throughput:
        alone = _spread(compared.latency_spread, compared.latency)
        many = _spread(compared.throughput_spread, compared.throughput)
        lines.append(
            f"Timed on {compared.device}, models in turns, medians; half of the passes lie within {alone} "
            f"(batch 1) and {many} (batch {compared.batch_size}) of them"
        )
    return lines


def _spread(spreads: Sequence[float], values: Sequence[float]) -> str:
    """The largest relative spread of any model."""
    largest = max(100 * s / v for s, v in zip(spreads, values, strict=True))
    return f"{largest:.1f} %" if largest < 10 else f"{largest:.0f} %"
