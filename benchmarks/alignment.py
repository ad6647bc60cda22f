"""What observing a teacher and a student costs, in bare forward passes of the two on the same batches.

    python benchmarks/alignment.py [ARCHITECTURE ...] [--samples 2048] [--batches 8]

Two models of one architecture, randomised, look at crops of photographs. Every batch goes through the two
bare models and then through what is measured, in one process, so that both meet the same machine; the median
ratio over repeats is printed. It includes what a run does once, before the first batch and after the last,
which more batches (a real run has about a hundred) make smaller. Ways:

* moments: what ``tsdistill.analyze`` keeps of every pair of groups, from the positions that it takes by
  default when ``--samples`` samples are to come, and from all positions;
* own covariances of every layer that reads a group (redundancy, pruning), and strength (backward passes),
  apart;
* storing the activations that the same layers receive and calling ``numpy.corrcoef`` on them;
* ``torch-cka`` where it is installed (``pip install torch-cka``), on the layers that write the same groups;
  it compares whole layers by CKA, every layer with every other.

Errors are those of correlations, over all pairs of nodes that vary: of all positions against float64
``numpy.corrcoef`` on stored activations (largest), and of the default positions against all of them (root
mean square, which is the standard error; 99 % are below the second figure).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from photographs import SEEN, UNSEEN, crops, shipped
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tsdistill as tsd
from tsdistill.alignment.matching.coarse_activations import TracedModel
from tsdistill.statistics.observation import Observation, ObservedTeacher, observe
from tsdistill.statistics.sample_blocks import channels_first
from tsdistill.statistics.sensitivity_passes import SensitivityPasses
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import trace

ARCHITECTURES = ("resnet18", "resnet50", "mobilenetv3_large_100")
SIZE = 224


class Batches:
    """A few batches in memory that say how many samples are to come.

    Every batch that is asked for first goes through ``bare``, and the seconds that takes are counted: so each
    bare pass is timed right beside what is compared with it, and what else the machine does meets both alike.
    """

    dataset = "crops of photographs"
    """What torch-cka prints."""

    def __init__(self, batches: list[Tensor], samples: int) -> None:
        self.batches, self.samples = batches, samples
        self.bare: Callable[[Tensor], object] | None = None
        self.seconds, self.passes, self._inside = 0.0, 0, False

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, None]]:
        first, self._inside = not self._inside, True
        for x in self.batches:
            if first and self.bare is not None:
                start = time.perf_counter()
                self.bare(x)
                self.seconds += time.perf_counter() - start
            yield x, None
        if first:
            self._inside = False
            self.passes += 1

    def ratio(self, way: Callable[[], object], bare: Callable[[Tensor], object], repeats: int) -> float:
        """Median over repeats of the time that ``way`` takes for these batches over that of ``bare``."""
        found = []
        for _ in range(repeats):
            gc.collect()
            self.bare, self.seconds, self.passes, self._inside = bare, 0.0, 0, False
            start = time.perf_counter()
            way()
            taken = time.perf_counter() - start - self.seconds
            found.append(taken / (self.seconds / self.passes))
        self.bare = None
        return statistics.median(found)


def randomised(architecture: str, seed: int) -> nn.Module:
    """An untrained model none of whose batch norms switches a branch off."""
    torch.manual_seed(seed)
    model = timm.create_model(architecture)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    model.train()
    with torch.no_grad():
        model(torch.randn(16, 3, SIZE, SIZE))
    return model.eval()


def side(model: nn.Module) -> TracedModel:
    """A model and where it is observed."""
    graph = trace(model, torch.randn(1, 3, SIZE, SIZE), check=False)
    return TracedModel(model, graph, find_sites(model, graph))


class Comparison:
    """One architecture: a student, a teacher, batches, and the ways of comparing them."""

    def __init__(self, architecture: str, batches: Batches) -> None:
        self.batches = batches
        self.student, self.teacher = (side(randomised(architecture, seed)) for seed in (0, 1))
        self.pairs = {name: name for name in self.student.observable}
        self.writers = [
            writer.rpartition(".")[0] for g in self.student.graph.groups for writer in g.writers[:1]
        ]

    def bare(self, x: Tensor) -> None:
        """Both forwards of a batch."""
        with torch.no_grad():
            self.teacher.model(x)
            self.student.model(x)

    def observe(self, positions: int | str | None, *, own: bool = False) -> Observation:
        """One pass for the moments, or for the covariances of the student instead."""
        return observe(
            self.student.model,
            self.student.sites,
            self.batches,
            teacher=ObservedTeacher(self.teacher.model, self.teacher.sites, {} if own else self.pairs),
            keys=None if own else (),
            positions=positions,
        )

    def strength(self) -> None:
        """Output sensitivities of both models."""
        for each in (self.student, self.teacher):
            samples = sum(len(x) for x, _ in self.batches)
            SensitivityPasses(each.model, each.sites, self.batches, samples=samples).finish()

    def stored(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Activations of every pair as float32 arrays ``[nodes, samples]``, forwards included."""
        kept: list[dict[str, list[Tensor]]] = [{}, {}]
        handles = []
        for each, store in zip((self.student, self.teacher), kept, strict=True):
            for name in self.pairs:
                reading = each.sites.primary(name)
                assert reading is not None
                handles.append(_store(each.model, reading, store.setdefault(name, [])))
        with torch.no_grad():
            for x, _ in self.batches:
                self.student.model(x)
                self.teacher.model(x)
        for handle in handles:
            handle.remove()
        return {
            name: (torch.cat(kept[0][name], 1).numpy(), torch.cat(kept[1][name], 1).numpy())
            for name in self.pairs
        }

    def corrcoef(self) -> None:
        """Store the activations and call numpy."""
        with np.errstate(invalid="ignore"):
            for s, t in self.stored().values():
                np.corrcoef(s, t)

    def torch_cka(self) -> None:
        """The package torch-cka, whose hooks stay on the models that it is given."""
        from torch_cka import CKA

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            cka = CKA(
                copy.deepcopy(self.student.model),
                copy.deepcopy(self.teacher.model),
                model1_layers=self.writers,
                model2_layers=self.writers,
            )
            cka.compare(self.batches)

    def errors(self) -> tuple[float, float, float]:
        """Largest error of all positions; root mean square and 99th percentile of the default ones."""
        np.seterr(invalid="ignore")
        every, some = self.observe(None), self.observe("auto")
        worst, apart = 0.0, []
        for name, (s, t) in self.stored().items():
            alive = np.outer(s.std(1) > 0, t.std(1) > 0)
            reference = np.corrcoef(s[s.std(1) > 0].astype(np.float64), t[t.std(1) > 0].astype(np.float64))
            split = int((s.std(1) > 0).sum())
            full = _correlation(every, name)[alive]
            worst = max(worst, float(np.abs(full - reference[:split, split:].ravel()).max(initial=0)))
            if some.pairs[name].n < every.pairs[name].n:
                apart.append(_correlation(some, name)[alive] - full)
        difference = np.concatenate(apart) if apart else np.zeros(1)
        difference = difference[np.isfinite(difference)]
        return (
            worst,
            float(np.sqrt(np.square(difference).mean())),
            float(np.quantile(np.abs(difference), 0.99)),
        )


def _store(model: nn.Module, reading: Any, store: list[Tensor]) -> Any:
    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        channels = channels_first(args[0], reading.reader.channel_dim)
        chosen = channels[:, torch.as_tensor(reading.reader.coords[:, 0])]
        store.append(chosen.transpose(0, 1).flatten(1).clone())

    return model.get_submodule(reading.reader.module).register_forward_pre_hook(hook)


def _correlation(observed: Observation, name: str) -> np.ndarray:
    moments = observed.pairs[name]
    scale = torch.outer(moments.var_s(), moments.var_t()).sqrt()
    return (moments.cov() / scale).numpy()


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("architectures", nargs="*", default=ARCHITECTURES)
    parser.add_argument(
        "--samples", type=int, default=2048, help="samples that the default positions are for"
    )
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-repeats", type=int, default=1)
    parser.add_argument("--error-batches", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    count = options.batch_size * max(options.batches, options.error_batches)
    with tempfile.TemporaryDirectory() as folder:
        stream = tsd.open_data(
            str(crops(shipped((*SEEN, *UNSEEN)), count, Path(folder) / "crops", 0)),
            tsd.info_of(timm.create_model("resnet18")).input,
            inputs={"batch_size": options.batch_size},
        )
        images = [x for x, _ in stream]
    rows: dict[str, list[str]] = {}
    progress = Console(stderr=True, highlight=False)

    def say(row: str, figure: str) -> None:
        rows.setdefault(row, []).append(figure)
        progress.print(f"{architecture}: {row}: {figure}")

    for architecture in options.architectures:
        timed = Comparison(architecture, Batches(images[: options.batches], options.samples))
        ways = {
            "moments, default positions": partial(timed.observe, "auto"),
            "moments, all positions": partial(timed.observe, None),
            "covariances of the student instead": partial(timed.observe, "auto", own=True),
            "strength of both": timed.strength,
            "stored activations, numpy.corrcoef": timed.corrcoef,
            "torch-cka": timed.torch_cka,
        }
        for name, way in ways.items():
            peer = name in ("stored activations, numpy.corrcoef", "torch-cka")
            try:
                repeats = options.peer_repeats if peer else options.repeats
                say(name, f"{timed.batches.ratio(way, timed.bare, repeats):.3f}")
            except Exception as error:  # a peer may be missing, or not get through
                if not peer:
                    raise
                say(name, type(error).__name__)
        start = time.perf_counter()
        trace(timed.student.model, images[0][:1])
        traced = time.perf_counter() - start
        say(
            "tracing with its check, in forwards of one sample",
            f"{traced / _forward(timed, images[0][:1]):.1f}",
        )
        seen = images[: options.error_batches]
        error = Comparison(architecture, Batches(seen, sum(len(x) for x in seen)))
        worst, rms, high = error.errors()
        say("largest error of a correlation, all positions", f"{worst:.1e}")
        say("standard error, default positions", f"{rms:.4f}")
        say("99 % of errors below, default positions", f"{high:.4f}")
    table = Table("in bare forwards of both models", *options.architectures)
    for row, figures in rows.items():
        table.add_row(row, *figures)
    Console(width=140).print(table)


def _forward(timed: Comparison, x: Tensor) -> float:
    with torch.no_grad():
        timed.student.model(x)
        return statistics.median(_seconds(lambda: timed.student.model(x)) for _ in range(3))


if __name__ == "__main__":
    main()
