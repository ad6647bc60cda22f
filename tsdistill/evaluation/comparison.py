"""Models side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from tsdistill.evaluation.metric import Traits
from tsdistill.schema import Count, Finite, Schema, finite_or_none, validated

TOKEN_COSTS = ("run_memory", "prefill", "batched_prefill", "decode", "batched_decode")
"""The costs of models of language besides those of any model."""

COSTS = ("params", "macs", "file_size", "latency", "throughput", "peak_memory", *TOKEN_COSTS)
"""The costs of a comparison, in the order in which they are shown."""

_SPREADS = ("latency_spread", "throughput_spread")


@dataclass(frozen=True)
class Comparison:
    """Costs and quality of models; every tuple has one entry per model, in the order of ``names``.

    Tuples of what was not measured are empty.

    Attributes:
        names: what the models are called.
        params: numbers of parameters.
        macs: multiply-accumulate operations of one forward pass at batch 1.
        latency: median seconds of that pass on this machine.
        metrics: metric name -> figure; the comparing ones are against the first model.
        data: description of the samples behind ``metrics``; empty without.
        file_size: bytes of the model's file, or that it would take.
        latency_spread: median absolute deviation of the passes in seconds.
        throughput: samples per second at ``batch_size``, from the median pass.
        throughput_spread: that of the passes, in samples per second.
        peak_memory: bytes that a forward pass at ``batch_size`` holds at its peak, beside the model and its
            input.
        batch_size: of throughput and peak memory.
        length: tokens in a sequence of the timed passes; 0 of models that read no text.
        run_memory: bytes of the weights and ``peak_memory`` together (models of language).
        prefill: tokens that are read a second at batch 1 (likewise).
        batched_prefill: that at ``batch_size``.
        decode: tokens that are written a second with a cache, behind half of a sequence, at batch 1 (where
            the models generate text).
        batched_decode: that at ``batch_size``, of all sequences together.
        device: where it was measured.
        traits: metric name -> how its figures are read.
        notes: lines for the user.
    """

    names: tuple[str, ...]
    params: tuple[int, ...]
    macs: tuple[int, ...]
    latency: tuple[float, ...]
    metrics: tuple[Mapping[str, float], ...]
    data: str = ""
    file_size: tuple[int, ...] = ()
    latency_spread: tuple[float, ...] = ()
    throughput: tuple[float, ...] = ()
    throughput_spread: tuple[float, ...] = ()
    peak_memory: tuple[int, ...] = ()
    batch_size: int = 0
    length: int = 0
    run_memory: tuple[int, ...] = ()
    prefill: tuple[float, ...] = ()
    batched_prefill: tuple[float, ...] = ()
    decode: tuple[float, ...] = ()
    batched_decode: tuple[float, ...] = ()
    device: str = ""
    traits: Mapping[str, Traits] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of all metrics, in the order in which they were asked for."""
        return tuple(dict.fromkeys(name for metrics in self.metrics for name in metrics))

    def ratios(self, cost: str) -> tuple[float, ...]:
        """A cost (one of `COSTS`) over that of the first model; NaN where that is 0, empty where it was not
        measured.
        """
        values = getattr(self, cost)
        return tuple(value / values[0] if values[0] else math.nan for value in values)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data for JSON: ``{"data": ..., "models": [{"name": ..., ...}, ...]}``.

        Figures that are not finite are ``None``. ``ratios`` are over the first model.
        """
        measured = [name for name in (*COSTS, *_SPREADS) if getattr(self, name)]
        ratios = {name: self.ratios(name) for name in measured if name in COSTS}
        models = [
            {
                "name": name,
                **{cost: getattr(self, cost)[place] for cost in measured},
                "ratios": {cost: finite_or_none(values[place]) for cost, values in ratios.items()},
                "metrics": {metric: finite_or_none(value) for metric, value in self.metrics[place].items()},
            }
            for place, name in enumerate(self.names)
        ]
        return {
            "data": self.data,
            "device": self.device,
            "batch_size": self.batch_size,
            "length": self.length,
            "notes": list(self.notes),
            "metrics": {name: traits.to_dict() for name, traits in self.traits.items()},
            "models": models,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Comparison:
        """The comparison that ``to_dict`` made plain.

        Raises:
            TsdistillError: it is something else; names the first field that is wrong.
        """
        fields = validated(_ComparisonFields, plain, "the comparison", "give what Comparison.to_dict made")
        models = fields.models
        costs: dict[str, Any] = {
            name: tuple(getattr(model, name) for model in models)
            for name in (*COSTS, *_SPREADS)
            if all(getattr(model, name) is not None for model in models)
        }
        return cls(
            names=tuple(model.name for model in models),
            metrics=tuple(
                {name: math.nan if value is None else value for name, value in model.metrics.items()}
                for model in models
            ),
            data=fields.data,
            batch_size=fields.batch_size,
            length=fields.length,
            device=fields.device,
            traits={name: Traits(each.unit, each.higher_is_better) for name, each in fields.metrics.items()},
            notes=tuple(fields.notes),
            **costs,
        )

    def __str__(self) -> str:
        columns: list[tuple[str, list[str]]] = [
            ("params", [f"{value:,}" for value in self.params]),
            ("MACs", [f"{value:,}" for value in self.macs]),
            ("bytes", [f"{value:,}" for value in self.file_size]),
            ("ms", [f"{value * 1e3:.2f}" for value in self.latency]),
            ("samples/s", [f"{value:,.1f}" for value in self.throughput]),
            ("peak bytes", [f"{value:,}" for value in self.peak_memory]),
            ("read tokens/s", [f"{value:,.1f}" for value in self.prefill]),
            ("written tokens/s", [f"{value:,.1f}" for value in self.decode]),
        ]
        columns += [
            (name, [f"{m[name]:.4g}" if name in m else "" for m in self.metrics]) for name in self.figures
        ]
        shown = [[head, *cells] for head, cells in columns if cells]
        names = ["", *self.names]
        widths = [max(map(len, column)) for column in shown]
        first = max(map(len, names))
        return "\n".join(
            "  ".join(
                [name.ljust(first), *(c[row].rjust(width) for c, width in zip(shown, widths, strict=True))]
            )
            for row, name in enumerate(names)
        )


class _TraitsFields(Schema):
    """`Traits`."""

    unit: str
    higher_is_better: bool


class _ModelFields(Schema):
    """One model of a comparison."""

    name: str
    params: Count
    macs: Count
    latency: Finite
    file_size: Count | None = None
    throughput: Finite | None = None
    peak_memory: Count | None = None
    latency_spread: Finite | None = None
    throughput_spread: Finite | None = None
    run_memory: Count | None = None
    prefill: Finite | None = None
    batched_prefill: Finite | None = None
    decode: Finite | None = None
    batched_decode: Finite | None = None
    metrics: dict[str, Finite | None]


class _ComparisonFields(Schema):
    """A comparison as `Comparison.to_dict` makes it plain."""

    data: str = ""
    device: str = ""
    batch_size: Count = 0
    length: Count = 0
    notes: list[str] = Field(default=[])
    metrics: dict[str, _TraitsFields] = Field(default={})
    models: list[_ModelFields]
