"""What an architecture must pass: from a bare state dict to a training step of what was cut and saved."""

from __future__ import annotations

import copy
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import tsdistill as tsd
from tsdistill.models import InputSpec, ModelInfo, attach
from tsdistill.models.files.stored_weights import shapes_of
from tsdistill.models.recognition.architecture_index import shipped
from tsdistill.models.sources import catalog
from tsdistill.models.sources.specs import CATALOGS
from tsdistill.runtime.modes import call
from tsdistill.runtime.nests import tensors
from tsdistill.tracing.surgery import remove_coordinates

KEPT = 0.5
"""The part of the MACs that is asked for."""

MOST = 0.55
"""The largest part that passes."""

LARGEST = 0.9
"""The largest part of a group that leaves."""

SAMPLES = 8
"""Images that are looked at."""

FEW = {"samples": SAMPLES, "batch_size": SAMPLES}
"""Options of reading them, all in one batch."""

FORWARDS = 20
"""What tracing, surgery and the equality check may cost together, in forward passes at batch 1."""

ALIKE = 2e-3
"""How far outputs at two batch sizes may be apart, as a part of the largest."""


class Failure(Exception):
    """An architecture does not pass; the text says why."""


@dataclass
class Timed:
    """Seconds of each step.

    Attributes:
        seconds: by step, in order.
        cpu: likewise, of this process alone.
        step: the one that is running.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    step: str = ""

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time a block, as ``timeit`` does: without the collector of Python's garbage, whose walks through
        everything that was ever imported may come up in any block."""
        self.step = step
        gc.disable()
        try:
            start, busy = time.perf_counter(), time.process_time()
            yield
            self.seconds[step] = round(time.perf_counter() - start, 4)
            self.cpu[step] = round(time.process_time() - busy, 4)
        finally:
            gc.enable()


def built(spec: str, size: tuple[int, ...] | None = None) -> nn.Module:
    """The architecture with random weights none of which hides a fault; ``size`` of one sample, in place of
    its own."""
    made = catalog.build(spec, weights=False)
    known = made.input
    if size is not None:
        mean, std = (known.mean, known.std) if known is not None else (None, None)
        known = InputSpec(tuple(size), mean, std, source="the sweep")
    attach(made.model, ModelInfo(arch=made.arch, input=known))
    return randomised(made.model).eval()


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """``model`` with values in norms, layer scales and whatever else begins at 0 or 1 that show faults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
            if isinstance(mean, Tensor) and isinstance(var, Tensor):
                mean.normal_(0, 0.3, generator=generator)
                var.uniform_(0.5, 1.5, generator=generator)
        for parameter in model.parameters():
            if parameter.ndim <= 1 or parameter.std() < 1e-3:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def first(
    spec: str,
    folder: Path,
    timed: Timed,
    size: tuple[int, ...] | None = None,
    quick: bool = False,
    inputs: Callable[[int], Any] | None = None,
) -> dict[str, Any]:
    """All but the reload; the cut model, an input and its output are left in ``folder``.

    Args:
        spec: of the architecture.
        folder: for files.
        timed: takes the seconds of each step.
        size: of one sample, in place of the architecture's own.
        quick: the nodes are drawn at random, the same part of every group, and nothing absorbs them, in place
            of analysis and planning.
        inputs: a seed -> the inputs of a forward, where the model does not say them.

    Raises:
        Failure: a check does not hold.
    """
    _warm_up()
    with timed("build"):
        model = built(spec, size)
    example = inputs(0) if inputs else tsd.example_input(model)
    images = [inputs(seed) for seed in range(SAMPLES)] if inputs else _images(model, example)
    row: dict[str, Any] = {"params": sum(p.numel() for p in model.parameters())}
    with torch.no_grad():
        other = copy.deepcopy(model)  # the first forward of the model itself is the trace's, as for a user
        whole = tensors(call(other, example))
        with timed("forward"):
            call(other, example)
        del other
    if not all(bool(torch.isfinite(t).all()) for t in whole if t.is_floating_point()):
        raise Failure("the dense model's output is not finite")
    if spec.partition(":")[0] in CATALOGS:
        with timed("recognise"):
            _recognised(model, spec)
    with timed("trace"):
        graph = tsd.trace(model, example)
    if quick:
        removed = drawn(graph)
    else:
        with timed("analyze"):
            report = tsd.analyze(
                model,
                None,
                images,
                analysis={"strength_samples": SAMPLES, "positions": 64},
                inputs={**FEW, "example_input": example},
            )
        graph = report.graph
        with timed("prune"):
            result = _pruned(model, example, images, report)
        removed = result.plan.removed
        if result.put_back:
            raise Failure(f"put back: {result.put_back[0]}")
    row["groups"] = len(graph.groups)
    row["whole"] = sorted({f"{item.name}: {item.cause}" for item in graph.frozen})[:12]
    row["left"] = Counter(item.cause.partition(" (")[0] for item in graph.frozen)
    with timed("cut"):
        checked = tsd.cut(model, graph, removed, example)
    if checked.put_back:
        raise Failure(f"put back: {checked.put_back[0]}")
    small = checked.model if quick else result.model
    kept = {name: size - len(removed.get(name, ())) for name, size in graph.widths.items()}
    row["macs"] = round(graph.macs(kept) / graph.macs(), 4)
    _unchecked(model, example, timed)
    forward = row["forward"] = timed.cpu["forward"]
    row["forwards"] = round((timed.cpu["trace"] + timed.cpu["cut"]) / max(forward, 1e-4), 2)
    row["unchecked"] = round((timed.cpu["graph"] + timed.cpu["surgery"]) / max(forward, 1e-4), 2)
    with timed("run"):
        _runs(small, model, example, whole)
    with timed("save"):
        tsd.save(small, folder / "cut.safetensors")
        with torch.no_grad():
            torch.manual_seed(0)
            held = {"input": example, "output": tensors(call(small, example))}
        torch.save(held, folder / "kept.pt")
    with timed("train"):
        _trains(model, small, example)
    if row["macs"] > MOST:
        raise Failure(f"{row['macs']:.2f} of the MACs are left")
    return row


def _unchecked(model: nn.Module, example: Any, timed: Timed) -> None:
    """Half of every group as a library without trial cuts and equality check would do it."""
    with timed("graph"):
        graph = tsd.trace(model, example, check=False)
    half = {group.name: np.arange(group.size // 2) for group in graph.groups if group.size > 1}
    with timed("surgery"):
        remove_coordinates(model, graph, half)


def _warm_up() -> None:
    """Load what a first trace and cut load, which is no part of what they cost."""
    tiny, example = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 4)
    graph = tsd.trace(tiny, example)
    tsd.cut(tiny, graph, {"0": [0]}, example)


def second(folder: Path, timed: Timed) -> None:
    """In another process: what was saved gives the same outputs, bit for bit.

    Raises:
        Failure: it does not.
    """
    kept = torch.load(folder / "kept.pt", weights_only=True)
    with timed("reload"):
        model = tsd.load(folder / "cut.safetensors", trust=True)
        with torch.no_grad():
            torch.manual_seed(0)
            found = tensors(call(model, kept["input"]))
    if not all(torch.equal(a, b) for a, b in zip(found, kept["output"], strict=True)):
        raise Failure("the reloaded model gives another output")


def drawn(graph: tsd.NodeGraph) -> dict[str, list[int]]:
    """The same part of every group that can be observed, so much that the MACs are halved.

    Raises:
        Failure: they cannot be.
    """
    groups = [group for group in graph.groups if any(reader.module for reader in group.readers)]
    part, kept = 0.0, dict(graph.widths)
    while graph.macs(kept) > KEPT * graph.macs():
        part += 0.01
        if part > LARGEST:
            if graph.macs(kept) <= MOST * graph.macs():
                break
            raise Failure(f"{graph.macs(kept) / graph.macs():.2f} of the MACs are left at least")
        kept = {group.name: _stays(group, part) for group in groups}
    rng = np.random.default_rng(0)
    return {group.name: rng.permutation(group.size)[kept[group.name] :].tolist() for group in groups}


def _stays(group: tsd.tracing.Group, part: float) -> int:
    """How many nodes stay when ``part`` of a group is to leave."""
    kept = (group.size - int(part * group.size)) // group.step * group.step
    return kept if kept or group.step == 1 else group.size


def _pruned(model: nn.Module, example: Any, images: Any, report: tsd.AlignmentReport) -> tsd.PruneResult:
    """Cut to half of the MACs, or to as few as pass where half cannot be had."""
    how: dict[str, Any] = {"data": images, "report": report, "realignment": {"realign": False}}
    how["inputs"] = {**FEW, "example_input": example}
    try:
        return tsd.prune_result(model, macs=KEPT, **how)
    except tsd.TsdistillError as error:
        if "cannot be met" not in str(error):
            raise
        return tsd.prune_result(model, macs=MOST, **how)


def _images(model: nn.Module, example: Any) -> Any:  # noqa: ARG001
    """A handful of samples as this model takes them."""
    if isinstance(example, Tensor):
        return None
    generator = torch.Generator().manual_seed(1)
    shape = tensors(example)[0].shape
    return [[torch.rand(shape, generator=generator) for _ in range(2)] for _ in range(SAMPLES // 2)]


def _recognised(model: nn.Module, spec: str) -> None:
    shapes = shapes_of(model.state_dict())
    names = {entry.spec.partition(",")[0] for entry, _ in shipped().matches(shapes)}
    if spec.partition(",")[0] not in names:
        raise Failure(f"recognised as {', '.join(sorted(names)) or 'nothing'}")


def _runs(small: nn.Module, dense: nn.Module, example: Any, whole: list[Tensor]) -> None:
    """The cut model gives outputs of the same shapes, finite ones, and takes any batch that the dense one
    takes (whose output may be another there, too, where it picks the best of many)."""
    with torch.no_grad():
        single = tensors(call(small, example))
        if not isinstance(example, Tensor):
            return
        if [t.shape for t in single] != [t.shape for t in whole]:
            raise Failure("outputs of other shapes")
        if not all(bool(torch.isfinite(t).all()) for t in single):
            raise Failure("the cut model's output is not finite")
        two = torch.cat([example, -example])
        if _alike(single, tensors(small(two))) or not _alike(whole, tensors(dense(two))):
            return
        wide = copy.deepcopy(small).double()  # rounding in float32 may be blown up to anything
        if not _alike(tensors(wide(example.double())), tensors(wide(two.double()))):
            raise Failure("another output in a batch of two")


def _alike(single: list[Tensor], pair: list[Tensor]) -> bool:
    """Whether the outputs of a batch of two begin with those of its first sample."""
    return all(
        float((both[:1] - one).abs().max()) <= ALIKE * float(one.abs().max())
        for one, both in zip(single, pair, strict=True)
        if one.shape[0] == 1 and both.shape[0] == 2
    )


def _trains(dense: nn.Module, small: nn.Module, example: Any) -> None:
    reached = [_reached(model, example) for model in (dense, small)]
    if reached[0] != reached[1]:
        apart = sorted(reached[0] ^ reached[1])
        raise Failure(f"gradients reach {len(apart)} other parameters: {', '.join(apart[:3])}")


def _reached(model: nn.Module, example: Any) -> set[str]:
    """Names of the parameters that have a gradient after one training step (on two samples where a norm
    spans them; a detector on its losses for two images)."""
    inputs = example
    if isinstance(example, Tensor):
        model.train()
        spans = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
        inputs = torch.cat([example, -example]) if spans else example
    elif type(model).__module__.startswith("torchvision.models.detection"):
        model.train()
        images = [*example[0], *example[0]]
        inputs = (images, [_target(image) for image in images])
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    losses = [t.float().pow(2).mean() for t in tensors(call(model, inputs)) if t.requires_grad]
    loss = torch.stack(losses).sum()
    loss.backward()
    names = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    optimizer.step()
    model.zero_grad(set_to_none=True)
    model.eval()
    return names


def _target(image: Tensor) -> dict[str, Tensor]:
    """What torchvision's detectors are trained on: one object, with its mask and keypoints."""
    height, width = image.shape[-2:]
    box = torch.tensor([[width / 8, height / 8, width / 2, height / 2]])
    points = torch.tensor([[width / 4, height / 4, 1.0]]).expand(1, 17, 3)
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[:, height // 8 : height // 2, width // 8 : width // 2] = 1
    return {"boxes": box, "labels": torch.ones(1, dtype=torch.int64), "masks": mask, "keypoints": points}
