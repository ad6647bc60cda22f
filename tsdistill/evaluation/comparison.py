"""Models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.cost import macs, parameters
from tsdistill.evaluation.evaluating import as_stream, default_metrics, evaluate_all
from tsdistill.evaluation.latency import latency


@dataclass(frozen=True)
class Comparison:
    """Costs and quality of models; every tuple has one entry per model, in the order of ``names``.

    Attributes:
        names: what the models are called.
        params: numbers of parameters.
        macs: multiply-accumulate operations of one forward pass at batch 1.
        latency: median seconds of that pass on this machine.
        metrics: metric name -> figure; the comparing ones are against the first model.
        data: description of the samples behind ``metrics``; empty without.
    """

    names: tuple[str, ...]
    params: tuple[int, ...]
    macs: tuple[int, ...]
    latency: tuple[float, ...]
    metrics: tuple[Mapping[str, float], ...]
    data: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data for JSON: ``{"data": ..., "models": [{"name": ..., ...}, ...]}``."""
        rows = zip(self.names, self.params, self.macs, self.latency, self.metrics, strict=True)
        return {
            "data": self.data,
            "models": [
                {"name": name, "params": params, "macs": count, "latency": seconds, "metrics": dict(metrics)}
                for name, params, count, seconds, metrics in rows
            ],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Comparison:
        """The comparison that ``to_dict`` made plain."""
        models = plain["models"]
        return cls(
            names=tuple(model["name"] for model in models),
            params=tuple(model["params"] for model in models),
            macs=tuple(model["macs"] for model in models),
            latency=tuple(model["latency"] for model in models),
            metrics=tuple(dict(model["metrics"]) for model in models),
            data=plain.get("data", ""),
        )

    def __str__(self) -> str:
        figures = list(dict.fromkeys(name for metrics in self.metrics for name in metrics))
        rows = [["", "params", "MACs", "ms", *figures]]
        for row in self.to_dict()["models"]:
            values = [f"{row['metrics'][name]:.4g}" if name in row["metrics"] else "" for name in figures]
            rows.append(
                [
                    row["name"],
                    f"{row['params']:,}",
                    f"{row['macs']:,}",
                    f"{row['latency'] * 1e3:.2f}",
                    *values,
                ]
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        )


def compare(
    models: Sequence[nn.Module] | Mapping[str, nn.Module],
    data: Any = None,
    *,
    names: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    samples: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    example_input: Any = None,
    repeats: int = 15,
) -> Comparison:
    """Costs and, where there are data, quality of models.

    Args:
        models: the first one is what the others are compared with; a mapping names them.
        data: a ``Stream`` or whatever ``open_data`` takes; ``None``: costs only.
        names: one per model; ``model 1`` and so on by default.
        metrics: names of evaluation metrics; by default those whose needs are met.
        samples: at most so many.
        batch_size: samples per batch.
        seed: of the part of the data.
        example_input: of batch 1, where the models do not say how inputs look.
        repeats: forward passes per model for the latency.

    Raises:
        TsdistillError: there is no model, names do not go with the models, a forward pass fails or a metric
            does not fit.
    """
    from tsdistill.models import example_input as some_input

    if isinstance(models, Mapping):
        names, models = tuple(models), tuple(models.values())
    if not models:
        raise TsdistillError("there are no models to compare; give one or more")
    names = tuple(names) if names is not None else tuple(f"model {n}" for n in range(1, len(models) + 1))
    if len(names) != len(models):
        raise TsdistillError(f"{len(names)} names for {len(models)} models; give one name per model")
    x = some_input(models[0], example_input)
    figures: list[dict[str, float]] = [{} for _ in models]
    described = ""
    if data is not None:
        stream = as_stream(models[0], data, samples, batch_size, seed)
        chosen = default_metrics(stream.labelled, len(models) > 1) if metrics is None else metrics
        figures = evaluate_all(models, stream, chosen, models[0])
        described = stream.description
    return Comparison(
        names=names,
        params=tuple(parameters(model) for model in models),
        macs=tuple(macs(model, x) for model in models),
        latency=tuple(latency(models, x, repeats=repeats)),
        metrics=tuple(figures),
        data=described,
    )
