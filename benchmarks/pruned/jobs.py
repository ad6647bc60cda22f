"""What makes a cell: a row of a network at a budget, from a calibration set."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

import tsdistill as tsd
from tsdistill.runtime.latency import latency

from . import peer
from .cases import Case, predictions
from .cells import Cells, code, fingerprint
from .measuring import cause, has_running_statistics, renewed, rounded, sizes, speed, tuned

OURS: dict[str, dict[str, Any]] = {
    "ours/realigned": {},
    "ours/cut-only": {"realignment": {"realign": False}},
    "ours/whole-heads": {"realignment": {"realign": False}, "selection": {"heads": "whole"}},
}
"""Rows of this toolkit: what is given to ``prune_result`` beside the budget."""

PROMISE = 0.67
"""The latency that is asked for, as a part of the dense network's."""


def our_rows(attends: bool) -> list[str]:
    """This toolkit's rows; that of whole heads only where there is attention."""
    return [row for row in OURS if attends or row != "ours/whole-heads"]


def peer_rows(attends: bool, every: bool = False) -> list[str]:
    """Torch-Pruning's rows, with the ways of competing that its authors use for transformers where there is
    attention (or every way); none where it is not installed."""
    if peer.installed() is None:
        say("Torch-Pruning is not installed (pip install torch-pruning): its rows are left out")
        return []
    usual = ("local", "global", "isomorphic", "bottleneck") if attends else ("local", "global")
    scopes = peer.SCOPES if every else usual
    return [f"peer/{criterion}/{scope}" for criterion in peer.CRITERIA for scope in scopes]


@dataclass
class Work:
    """One network's cells: which there are, and how each is made.

    Attributes:
        case: the network.
        cells: where they are kept.
    """

    case: Case
    cells: Cells
    _weights: str = field(init=False)
    _code: str = field(init=False)

    def __post_init__(self) -> None:
        self._weights, self._code = fingerprint(self.case.dense), code()

    def key(
        self, row: str, budget: float, seed: int = 0, images: int = 0, kind: str = "cut"
    ) -> dict[str, Any]:
        """Everything that decides a cell.

        Args:
            row: ``dense``, ``ours/…`` or ``peer/CRITERION/SCOPE``.
            budget: part of the MACs (of the latency for the kind ``latency``) that is kept.
            seed: of the calibration set.
            images: its size; 0 for the case's own.
            kind: ``cut``, ``tuned`` (after an epoch), ``speed`` or ``latency``.
        """
        by = {"steps": peer.STEPS, "version": peer.installed()} if row.startswith("peer") else {}
        made = {"code": self._code} if row.startswith("ours") else by
        images = images or self.case.images[0]
        tuned = {"rate": self.case.rate} if kind == "tuned" else {}
        return {
            **{"network": self.case.name, "weights": self._weights, "kind": kind, "row": row},
            **{"budget": budget, "seed": seed, "images": images, **made, **tuned},
        }

    def dense(self) -> float:
        """The dense network's score."""
        key = self.key("dense", 1.0)
        found = self.cells.get(key)
        if found is None:
            found = {"score": round(self.case.score(self.case.dense), 4)}
            self.cells.put(key, found)
        return float(found["score"])

    def test_pass(self) -> float:
        """Seconds that judging the dense network takes, from a part of it."""
        x, _ = self.case.calibration(0, 64)
        start = time.perf_counter()
        predictions(self.case.dense, x, 16)
        return (time.perf_counter() - start) / len(x) * self.case.judges

    def ours(self, row: str, budget: float, seed: int, images: int) -> None:
        """Prune with this toolkit, unless that has been done."""
        key = self.key(row, budget, seed, images)
        with self._open([key]) as missing:
            for key in missing:
                start = time.perf_counter()
                try:
                    model = self._pruned(row, budget, seed, images)
                except Exception as error:  # a cell that fails is shown as such
                    self._fail(key, error)
                    continue
                self._keep(key, model, time.perf_counter() - start)

    def peers(self, row: str, budgets: tuple[float, ...], seed: int, images: int) -> None:
        """Walk with Torch-Pruning through those budgets that have no cell."""
        _, criterion, scope = row.split("/")
        with self._open([self.key(row, budget, seed, images) for budget in budgets]) as missing:
            if not missing:
                return
            main = {budget: self.key(row, budget, seed) for budget in budgets}
            again = images != self.case.images[0] and not peer.CRITERIA[criterion].gradients
            left = {key["budget"]: key for key in missing}
            if again:
                for budget, key in list(left.items()):
                    found, model = self.cells.get(main[budget]), self.cells.model(main[budget])
                    if found is not None and model is not None:
                        self._renew(key, found, model)
                        del left[budget]
            start = time.perf_counter()
            try:
                x, y = self.case.calibration(seed, images)
                walk = peer.walk(self.case.dense, criterion, scope, tuple(left), x, y, seed) if left else ()
                for budget, model in walk:
                    self._keep(left.pop(budget), model, time.perf_counter() - start)
                    start = time.perf_counter()
            except Exception as error:  # whatever stops the peer is what the table says of it
                for key in left.values():
                    self._fail(key, error)

    def fine_tuned(self, row: str, budget: float) -> None:
        """One epoch for the network of a cell that is there."""
        key = self.key(row, budget, kind="tuned")
        with self._open([key]) as missing:
            for key in missing:
                start = time.perf_counter()
                model = tuned(self.case, self._network(row, budget))
                score = self.case.score(model)
                self.cells.put(
                    key, {"score": round(score, 4), "seconds": round(time.perf_counter() - start, 1)}
                )
                say(f"{self.case.name} {row} {budget} after one epoch: {score:.2f}")

    def timed(self, row: str, budget: float) -> None:
        """The throughput of the network of a cell that is there."""
        key = self.key(row, budget, kind="speed")
        found = self.cells.get(self.key(row, budget))
        with self._open([key] if found is not None and "failed" not in found else []) as missing:
            for key in missing:
                ratio = speed(self.case, self._network(row, budget))
                self.cells.put(key, {"speed": round(ratio, 4)})
                say(f"{self.case.name} {row} {budget}: {ratio:.2f}x")

    def promised(self) -> None:
        """Prune to a part of the latency and measure what came."""
        key = self.key("ours/realigned", PROMISE, kind="latency")
        prune = tsd.prune_result
        with self._open([key]) as missing:
            for key in missing:
                x, _ = self.case.calibration(0, self.case.images[0])
                start = time.perf_counter()
                try:
                    result = prune(self.case.dense, data=x, budget={"latency": PROMISE}, seed=0)
                except Exception as error:  # likewise
                    self._fail(key, error)
                    continue
                seconds = time.perf_counter() - start
                before, after = latency([self.case.dense, result.model], x[:1], repeats=200, max_seconds=30)
                figures = {
                    **{"dense_ms": before * 1e3, "ms": after * 1e3, "reached": after / before},
                    **{"score": self.case.score(result.model), "seconds": seconds},
                    **{"notes": list(result.notes), **sizes(self.case, result.model)},
                }
                self.cells.put(key, rounded(figures))
                say(f"{self.case.name} latency {PROMISE}: reached {after / before:.3f}")

    def _pruned(self, row: str, budget: float, seed: int, images: int) -> nn.Module:
        """The network of one of our rows."""
        x, _ = self.case.calibration(seed, images)
        return tsd.prune_result(self.case.dense, data=x, macs=budget, seed=seed, **OURS[row]).model

    def _network(self, row: str, budget: float) -> nn.Module:
        """The network of a cell that is there; cut again where the cell was made on another machine."""
        model = self.cells.model(self.key(row, budget))
        if model is not None:
            return model
        if row.startswith("ours"):
            model = self._pruned(row, budget, 0, self.case.images[0])
            self.cells.hold(self.key(row, budget), model)
            return model
        _, criterion, scope = row.split("/")
        x, y = self.case.calibration(0, self.case.images[0])
        there = {each: self.cells.get(self.key(row, each)) or {} for each in self.case.budgets}
        reachable = tuple(each for each, figures in there.items() if "score" in figures)
        for reached, model in peer.walk(self.case.dense, criterion, scope, reachable, x, y, 0):
            self.cells.hold(self.key(row, reached), model)
        found = self.cells.model(self.key(row, budget))
        assert found is not None
        return found

    def _keep(self, key: dict[str, Any], model: nn.Module, seconds: float) -> None:
        """Measure a network that has just been cut and keep both."""
        figures: dict[str, Any] = {"score": self.case.score(model), **sizes(self.case, model)}
        if key["row"].startswith("peer"):
            figures["renewed"] = None
            if has_running_statistics(model):
                x, _ = self.case.calibration(key["seed"], key["images"])
                model = renewed(model, x)
                figures["renewed"] = self.case.score(model)
        figures["seconds"] = seconds
        for parameter in model.parameters():
            parameter.grad = None
        self.cells.put(key, rounded(figures), model)
        shown = "" if figures.get("renewed") is None else f", renewed {figures['renewed']:.2f}"
        say(
            f"{key['network']} {key['row']} {key['budget']} seed {key['seed']} images {key['images']}: "
            f"{figures['score']:.2f}{shown} at {figures['macs']:.3f} of the MACs,"
            f" {seconds:.0f} s"
        )

    def _fail(self, key: dict[str, Any], error: Exception) -> None:
        self.cells.put(key, {"failed": cause(error)})
        say(f"{key['network']} {key['row']} {key['budget']}: {cause(error)}")

    def _renew(self, key: dict[str, Any], found: dict[str, Any], model: nn.Module) -> None:
        """The cell of another calibration set where only batch norms see it."""
        figures = dict(found)
        if figures.get("renewed") is not None:
            x, _ = self.case.calibration(key["seed"], key["images"])
            figures["renewed"] = self.case.score(renewed(model, x))
        self.cells.put(key, rounded(figures))
        say(f"{key['network']} {key['row']} {key['budget']} images {key['images']}: {figures.get('renewed')}")

    @contextmanager
    def _open(self, keys: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Those cells that are missing and that no other process is at, claimed."""
        with ExitStack() as claims:
            yield [
                key
                for key in keys
                if self.cells.get(key) is None
                and claims.enter_context(self.cells.claim(key))
                and self.cells.get(key) is None
            ]


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)
