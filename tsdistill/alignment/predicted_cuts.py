"""What cuts of a network are expected to cost: plain data, made by `tsdistill.pruning`, shown by reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PredictedCut:
    """One cut of the network, as it would be chosen.

    Attributes:
        macs: the part of the MACs that is asked to be kept.
        macs_kept: the part that is.
        params_kept: the part of the parameters that is.
        error: root mean square of how far the output moves, in parts of the root mean square of the output
            itself: the layers that read what leaves are compensated, nothing is re-aligned. ``None`` where
            outputs cannot be compared (detections, whose number varies).
        least: the same as the selection predicts it to first order: what no re-fit of the layers that read
            can compensate, errors of different layers and positions independent.
        widths: group -> nodes that stay.
    """

    macs: float
    macs_kept: float
    params_kept: float
    error: float | None
    least: float
    widths: Mapping[str, int]


@dataclass(frozen=True)
class PredictedCuts:
    """Several cuts of one network, those that keep most first.

    Attributes:
        sizes: group -> nodes of the whole network, in forward order.
        cuts: the cuts.
        samples: samples on which ``error`` was looked at, at most.
        command: the command that makes one of the cuts, with ``{macs}`` where its budget stands.
        notes: lines for the user.
        held_out: whether these are samples that nothing was fitted to.
    """

    sizes: Mapping[str, int]
    cuts: tuple[PredictedCut, ...]
    samples: int
    command: str = "tsd.prune(model, data=data, macs={macs})"
    notes: tuple[str, ...] = ()
    held_out: bool = False

    def command_of(self, cut: PredictedCut) -> str:
        """The command that makes a cut."""
        return self.command.replace("{macs}", f"{cut.macs:g}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "sizes": dict(self.sizes),
            "samples": self.samples,
            "held_out": self.held_out,
            "cuts": [{**asdict(cut), "command": self.command_of(cut)} for cut in self.cuts],
            "notes": list(self.notes),
        }
