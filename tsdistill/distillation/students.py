"""Students of the teacher's architecture at other widths, with newly drawn parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.models import attach, example_input, info_of
from tsdistill.models.plain_tensors import named_tensors
from tsdistill.models.sources import catalog
from tsdistill.pruning.plan_file import PruningPlan
from tsdistill.runtime.forward import forward, to_model
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import tensors
from tsdistill.tracing import remove_branches, trace
from tsdistill.tracing.graph import NodeGraph
from tsdistill.tracing.repair import repair
from tsdistill.tracing.replay import CutRun
from tsdistill.tracing.surgery import take_coordinates
from tsdistill.tracing.trace_record import Record

_LARGEST_FACTOR = 100.0
"""Largest factor of a width. Parameters grow with its square, 10,000 times at 100; a larger factor is taken
for a typing error."""

Width = float | Mapping[str, float] | PruningPlan


@dataclass(frozen=True, eq=False)
class Student:
    """A student and its widths.

    Attributes:
        model: the student, in training mode, on the teacher's device; `tsdistill.save` writes it.
        widths: number of nodes of every group.
        before: number of nodes of every group of the teacher.
        kept: groups that keep the teacher's width although another was asked for, with the reason.
    """

    model: nn.Module
    widths: Mapping[str, int]
    before: Mapping[str, int]
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """For people: ``"width 2: 688 nodes in 12 groups become 1376"``."""
        was, now = sum(self.before.values()), sum(self.widths.values())
        left = f"; {len(self.kept)} stay as they are: {', '.join(self.kept)}" if self.kept else ""
        return f"{was} nodes in {len(self.before)} groups become {now}{left}"


def student_of(
    teacher: nn.Module,
    width: Width = 1.0,
    *,
    example: Any = None,
    seed: int = 0,
    graph: NodeGraph | None = None,
) -> Student:
    """The teacher's architecture with other widths, its parameters drawn anew.

    The width of every group of nodes is multiplied by a factor (rounded, at least one node). Widths that
    are not prunable, such as that of the output, are kept. Shape constants in modules are repaired as after a
    cut, and the student's outputs have the shapes of the teacher's.

    Args:
        teacher: any module; it is left as it was.
        width: a factor for all groups (above 1 over-realised, below 1 slimmed), factors by group, or a
        pruning plan, whose branches and nodes are removed.
        example: one input (batch 1), needed where the teacher does not state its input size.
        seed: of the parameters.
        graph: the teacher's node graph, if it has been traced already.

    Raises:
        TsdistillError: a factor that is not above 0, a group that the teacher does not have, or an
            architecture that does not run at these widths.
    """
    inputs = to_model(example, teacher) if example is not None else example_input(teacher)
    if isinstance(width, PruningPlan) and width.branches:
        teacher, graph = _without_branches(teacher, width.branches, inputs), None
    node_graph = graph or trace(teacher, inputs)
    if node_graph.record is None:
        raise TsdistillError("this node graph was built by hand; leave graph= out")
    copies = _copies(node_graph, width)
    sizes = {name: int(counts.sum()) for name, counts in copies.items()}
    copies = {name: counts for name, counts in copies.items() if (counts != 1).any()}
    kept: dict[str, str] = {}
    model = _model_with_copies(teacher, node_graph, copies, inputs)
    if isinstance(model, str):
        model, kept = _resizable_groups(teacher, node_graph, copies, inputs)
        sizes.update({name: node_graph.widths[name] for name in kept})
    reinitialise(model, seed, like=teacher)
    return Student(model.train(), sizes, dict(node_graph.widths), kept)


def _without_branches(teacher: nn.Module, names: tuple[str, ...], inputs: Any) -> nn.Module:
    bare = remove_branches(teacher, names, inputs)
    if bare.put_back:
        first = bare.put_back[0]
        raise TsdistillError(f"width: the branch {first.name} cannot be removed: {first.cause}")
    return bare.model


def _copies(graph: NodeGraph, width: Width) -> dict[str, np.ndarray]:
    """The number of copies of each node of each group, int64 ``[nodes]``."""
    if isinstance(width, PruningPlan):
        width.check(graph)
        copies = {name: np.ones(size, dtype=np.int64) for name, size in graph.widths.items()}
        for name, nodes in width.removed.items():
            copies[name][nodes] = 0
        return copies
    factors = dict(width) if isinstance(width, Mapping) else dict.fromkeys(graph.widths, width)
    unknown = next((name for name in factors if name not in graph.widths), None)
    if unknown is not None:
        known = ", ".join(list(graph.widths)[:5])
        raise TsdistillError(f"width: the teacher has no group {unknown!r}; its groups: {known}, …")
    for factor in factors.values():
        if not 0 < factor <= _LARGEST_FACTOR:
            raise TsdistillError(f"width {factor:g}: give a factor above 0, at most {_LARGEST_FACTOR:g}")
    return {name: _spread(size, factors.get(name, 1.0)) for name, size in graph.widths.items()}


def _spread(size: int, factor: float) -> np.ndarray:
    """``round(size · factor)`` copies, at least one, spread evenly over the nodes."""
    wanted = max(1, round(size * factor))
    return np.diff(np.arange(size + 1) * wanted // size)


def _resizable_groups(
    teacher: nn.Module, graph: NodeGraph, copies: Mapping[str, np.ndarray], inputs: Any
) -> tuple[nn.Module, dict[str, str]]:
    """Resize the groups one after the other, and keep those with which the model runs.

    Returns:
        the model, and the reason for every group that keeps its width.

    Raises:
        TsdistillError: none can.
    """
    taken: dict[str, np.ndarray] = {}
    unchanged: dict[str, str] = {}
    model: nn.Module | None = None
    for name, counts in copies.items():
        attempt = _model_with_copies(teacher, graph, {**taken, name: counts}, inputs)
        if isinstance(attempt, str):
            unchanged[name] = attempt
        else:
            taken[name], model = counts, attempt
    if model is None:
        name, cause = next(iter(unchanged.items()))
        raise TsdistillError(f"the teacher does not run at another width ({name}: {cause})")
    return model, unchanged


class _CopyRecord(Record):
    """A trace record in which a label counts once for every copy of its node."""

    def keeps(self, labels: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """The number of copies of each of ``labels``; ``gone`` has that of every node."""
        nodes = self.node_of[labels]
        return np.where(nodes < 0, 1, gone[nodes])


def _model_with_copies(
    teacher: nn.Module, graph: NodeGraph, copies: Mapping[str, np.ndarray], inputs: Any
) -> nn.Module | str:
    """A model with the given copies of the teacher's nodes, or the reason why it does not run."""
    assert graph.record is not None
    model, buffers = _resized(teacher, graph, copies)
    counts = [copies.get(group.name, np.ones(group.size, dtype=np.int64)) for group in graph.groups]
    record = _CopyRecord(graph.record.trace, graph.record.node_of, graph.record.axes)
    numbers = np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
    attributes, replayed = repair(CutRun(model, inputs, record, numbers))
    if replayed.broken is not None:
        return f"{replayed.broken or 'the model'} breaks: {replayed.cause}"
    if replayed.stale:
        first = replayed.stale[0]
        return f"{first.step.module or 'the model'} computes {first.computed} where it has {first.wanted}"
    try:
        with evaluation_mode(model, teacher), torch.no_grad():
            outputs, teacher_outputs = (list(tensors(forward(each, inputs))) for each in (model, teacher))
    except TsdistillError as error:
        return str(error)
    if [tensor.shape for tensor in outputs] != [tensor.shape for tensor in teacher_outputs]:
        return "its outputs have other shapes"
    info = info_of(teacher)
    known = {(each.module, each.name): each for each in (*info.attributes, *attributes)}
    attach(
        model,
        replace(
            info,
            attributes=tuple(known.values()),
            buffers=tuple(dict.fromkeys((*info.buffers, *buffers))),
        ),
    )
    return model


def _resized(
    teacher: nn.Module, graph: NodeGraph, copies: Mapping[str, np.ndarray]
) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy whose coordinates are repeated as their nodes are, and the names of its resized non-persistent
    buffers."""
    sides = {name: tensor.shape for name, tensor in named_tensors(teacher, remove_duplicate=False)}
    repeats: dict[tuple[str, int], np.ndarray] = {}
    for name, counts in copies.items():
        for slot in graph.by_name[name].slots:
            place = slot.param, slot.dim
            times = repeats.setdefault(place, np.ones(sides[slot.param][slot.dim], dtype=np.int64))
            times[slot.coords] = counts[:, None]
    taken = {place: np.repeat(np.arange(len(times)), times) for place, times in repeats.items()}
    return take_coordinates(teacher, taken)


def reinitialise(model: nn.Module, seed: int, like: nn.Module | None = None) -> None:
    """Reinitialise all parameters of ``model``, in place; running means become 0, running variances 1.

    ``reset_parameters`` is called on every module that has it. A parameter of another module (a position
    table, a layer scale) is drawn from a normal distribution of the mean and spread that it has in a fresh
    build of the architecture, and of its own in ``like`` where the architecture is not known. The same seed
    gives the same parameters; the global generators stay as they were.

    Args:
        model: the model; changed in place.
        seed: of the random numbers.
        like: a model of the same architecture at any width; ``model`` itself if ``None``.
    """
    fresh = _fresh(model)
    known = fresh or dict((like or model).named_parameters())
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for leaf, parameter in module.named_parameters(prefix=name, recurse=False):
                _draw(parameter, known.get(leaf, parameter))


def _draw(parameter: Tensor, like: Tensor) -> None:
    values = like.detach().float()
    spread = float(values.std()) if values.numel() > 1 else 0.0
    parameter.normal_().mul_(spread).add_(float(values.mean()))


def _fresh(model: nn.Module) -> Mapping[str, Tensor]:
    """The parameters of a new model of the same architecture; empty where that is not known."""
    arch = info_of(model).arch
    if arch is None:
        return {}
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return dict(catalog.build(arch, weights=False).model.named_parameters())
    except TsdistillError:
        return {}
