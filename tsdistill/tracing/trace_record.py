"""The record of one labelled forward: steps, contractions, costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tsdistill.runtime.randomness import Drawn
from tsdistill.tracing.data_dependent import Choices
from tsdistill.tracing.label_classes import resolve
from tsdistill.tracing.labels import Constraints, Labels

ALIGNED = 8
"""Values of a row that lies on 16 bytes, in half precision and in any wider one."""


@dataclass(eq=False)
class Step:
    """One operator call of the traced forward, and what a cut changes about it.

    Attributes:
        op: operator name, such as ``"aten.view.default"``.
        module: dotted name of the innermost module that was running.
        sizes: ``(argument, index in that argument or None, labels)``: an integer argument that equals the
            number of labels that stay.
        shape: of a view, what came out.
        spans: ``(argument, dim, labels)``: the operator computes statistics over this labelled dimension.
        contracted: ``(argument, dim, labels)``: the operator sums over this labelled dimension.
        touched: labels of everything that went in.
        output_labels: labels of the result of an operator that sums or chooses.
        chosen: what an operator chose by the values that went in.
        factor: the number that an operator multiplies by, where it is a fraction.
        pairs: whether an operator sums products of two activations (queries and keys, say).
        drawn: what a random operator gave.
        call: number of the call of a function (`runtime.BY_SIZES`) that picks its operators by the sizes that
            it is given, if the operator is part of one; 0 for all others.
    """

    op: str
    module: str
    sizes: list[tuple[int, int | None, np.ndarray]] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    spans: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    contracted: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    touched: list[np.ndarray] = field(default_factory=list)
    output_labels: list[np.ndarray] = field(default_factory=list)
    chosen: Choices = ()
    factor: float | None = None
    pairs: bool = False
    drawn: Drawn | None = None
    call: int = 0


@dataclass(frozen=True, eq=False)
class Contraction:
    """A weight that meets an activation: who writes and who reads.

    Attributes:
        module: the innermost module that was running.
        kind: ``"conv"``, ``"matmul"``, ``"embedding"``, or ``"constant"`` for a parameter that is an
            activation by itself.
        contracted: labels of the weight along the contracted dimension (None for the raw input).
        activation: labels of the activation along the contracted dimension (for a convolution in several
            groups: all input channels).
        written: labels of the weight along its output dimension.
        mixes: False where every node goes its own way, as in a depthwise convolution.
    """

    module: str
    kind: str
    contracted: np.ndarray | None
    activation: np.ndarray | None
    written: np.ndarray | None
    mixes: bool = True


@dataclass(frozen=True, eq=False)
class Cost:
    """MACs of one operator: ``coefficient`` times the number of labels that stay on each factor."""

    name: str
    coefficient: int
    factors: tuple[tuple[int, np.ndarray | None], ...]


@dataclass(eq=False)
class Trace:
    """The record of one labelled forward.

    Attributes:
        constraints: those of the operators on the labels.
        steps: the operators in order.
        contractions: where weights meet activations.
        costs: MACs.
        unknown: operators without a rule, with how often they ran.
        tracked: ``(module, attribute)`` -> the labels whose number it is (or a multiple or a part of it),
            predicted, or found by the first cut that had to change it, so that the next one changes it at
            once.
        predicted: those of ``tracked`` that no cut has confirmed yet.
        aligned: labels of which only multiples of `ALIGNED` can stay.
        read: ``(module, attribute)`` of the numbers, and rows of them, that the forward read -> how many
            operators had run by then.
        reads_training: whether code outside PyTorch's own modules read the training mode of a module.
        cached: whether the traced forward relies on tensors that modules compute in their first forward and
            keep.
        further_runs: runs on other inputs, for what this one does not run; they share ``constraints``.
        unrun: parameters that neither this run nor one on other inputs reads.
        companion_labels: labels of the companions' outputs, tensor by tensor.
        unread: those of ``unrun`` that no companion reads either.
    """

    constraints: Constraints
    steps: list[Step]
    contractions: list[Contraction]
    costs: list[Cost]
    unknown: dict[str, int]
    tracked: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)
    predicted: set[tuple[str, str]] = field(default_factory=set)
    aligned: list[np.ndarray] = field(default_factory=list)
    read: dict[tuple[str, str], int] = field(default_factory=dict)
    reads_training: bool = True
    cached: bool = False
    further_runs: list[Run] = field(default_factory=list)
    unrun: frozenset[str] = frozenset()
    companion_labels: list[Labels] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)

    @property
    def every(self) -> tuple[Trace, ...]:
        """This trace and those of the further runs."""
        return (self, *(run.trace for run in self.further_runs))


@dataclass(frozen=True, eq=False)
class Run:
    """A run of the model on other inputs than the example.

    Attributes:
        inputs: what the model is called on.
        trace: what its labelled forward wrote down.
        companions: name of a module -> modules that are called behind it, on its arguments, because nothing
            else runs them.
    """

    inputs: Any
    trace: Trace
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Record:
    """The trace behind a node graph, kept so that a cut can be checked against it.

    Attributes:
        trace: what the labelled forward wrote down.
        node_of: for every label its node, numbered over all groups in order, or -1 where it always stays.
        axes: name of a block that may go by rows or by columns -> the axis that was decided for.
        head_size_axes: name of a block that is cut by whole heads -> the axis of the size of a head.
        companions: those of the `Run`, where the trace is that of a further one.
    """

    trace: Trace
    node_of: np.ndarray
    axes: Mapping[str, int]
    head_size_axes: Mapping[str, int] = field(default_factory=dict)
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def runs(self, example: Any) -> list[tuple[Any, Record]]:
        """Everything a cut is checked on: inputs, and the record of their run; the ``example`` first."""
        further = (
            (run.inputs, replace(self, trace=run.trace, companions=run.companions))
            for run in self.trace.further_runs
        )
        return [(example, self), *further]

    def keeps(self, labels: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """Which of ``labels`` stay when the nodes with ``gone`` set go (boolean, same shape)."""
        nodes = self.node_of[labels]
        return (nodes < 0) | ~gone[nodes]

    @cached_property
    def untied(self) -> np.ndarray:
        """For every label what it goes with by itself, were no width taken from another one in code; -1 where
        it always stays."""
        if not self.trace.constraints.couplings:
            return self.node_of
        classes = resolve(self.trace.constraints, self.axes, tied=False)
        return np.where((self.node_of < 0) | classes.fixed[classes.of], -1, classes.of)

    @cached_property
    def places(self) -> dict[int, int]:
        """The identity of a step -> its place in the trace."""
        return {id(step): place for place, step in enumerate(self.trace.steps)}

    @cached_property
    def behind(self) -> dict[int, int]:
        """The number of a call -> the place of the first step behind it."""
        return {step.call: place + 1 for place, step in enumerate(self.trace.steps) if step.call}

    @cached_property
    def chooses(self) -> bool:
        """Whether values decide what goes on (as in a detector), so that the output alone says little."""
        return any(self.forces(step) for step in self.trace.steps)

    def forces(self, step: Step) -> bool:
        """Whether a run beside the trace takes over what ``step`` has chosen."""
        return bool(step.chosen) and self._whole(step)

    def judges(self, step: Step) -> bool:
        """Whether a cut is judged by what ``step`` gives, too: whole sums of a model that chooses."""
        return bool(step.contracted) and not step.call and self.chooses and self._whole(step)

    def _whole(self, step: Step) -> bool:
        return all((self.node_of[labels] < 0).all() for labels in step.output_labels)
