"""What a figure is that says how good a model is, and how it tells what it wants.

A metric is a class without constructor arguments: ``update`` takes one batch, ``compute`` gives the figure
over all of them. Its class attributes say what it is given and how the figure is read; all but ``needs`` may
be left out:

- ``needs``: what it is given besides the model's outputs: ``"labels"``, ``"reference"`` (the outputs of
  another model on the same samples), or nothing;
- ``wants``: ``"main"`` (the default): the tensor that an output is judged by, and labels in a tensor;
  ``"positions"``: the same in rows, those that count alone: outputs ``(positions, classes)``, labels
  ``(positions,)`` or ``(positions, classes)``, padding and ignored labels left out;
  ``"outputs"``: a mapping from the name of every output to such rows, without labels; of several outputs
  the class scores come without their mean over the classes, which changes no probability;
  ``"raw"``: the model's whole output, and the whole target as the data gave it (boxes, several heads, ...);
  ``"model"``: once, in place of batches, the model itself, what stands behind ``@`` in the metric's name, and
  the reference model;
- ``higher_is_better``: whether larger figures are better ones; true unless said;
- ``unit``: behind the figure, such as ``"%"``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from tsdistill import plugins
from tsdistill.errors import TsdistillError

KIND = "evaluation metric"
MAIN, POSITIONS, OUTPUTS, RAW, MODEL = "main", "positions", "outputs", "raw", "model"


class Metric(Protocol):
    """What ``register_evaluation_metrics`` takes (the class, not an instance)."""

    needs: ClassVar[frozenset[str]]

    def update(self, outputs: Any, labels: Any, reference_outputs: Any) -> None:
        """Add one batch, all of it on the model's device.

        Args:
            outputs: outputs of the model, in the form that ``wants`` names.
            labels: labels of the batch; may be ``None`` if the metric does not need them.
            reference_outputs: outputs of the reference model; may be ``None`` if the metric does not need
                them.
        """

    def compute(self) -> float:
        """The figure over all batches."""


@dataclass(frozen=True)
class Traits:
    """How a figure is read.

    Attributes:
        unit: ``"%"``, ``"nats"``, or nothing.
        higher_is_better: whether larger figures are better ones.
    """

    unit: str = ""
    higher_is_better: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def traits_of(kind: Any) -> Traits:
    """The `Traits` of a metric's class, with defaults for missing attributes."""
    return Traits(str(getattr(kind, "unit", "")), bool(getattr(kind, "higher_is_better", True)))


def wants_of(kind: Any, name: str) -> str:
    """The form of the arguments of ``update``: one of `MAIN`, `POSITIONS`, `OUTPUTS`, `RAW`, `MODEL`.

    Raises:
        TsdistillError: the class states another value.
    """
    wants = getattr(kind, "wants", MAIN)
    forms = (MAIN, POSITIONS, OUTPUTS, RAW, MODEL)
    if wants not in forms:
        raise TsdistillError(f"the metric {name} wants {wants!r}; it can want {', '.join(map(repr, forms))}")
    return str(wants)


def metric_kind(name: str) -> Any:
    """The class of a metric by its name, ``"kl"`` or, of one output, ``"kl@scores"``.

    Raises:
        TsdistillError: there is no such metric.
    """
    return plugins.get(KIND, name if isinstance(name, plugins.NamedObject) else name.partition("@")[0])


class RunningMean:
    """A running mean in double precision, to build metrics on."""

    def __init__(self) -> None:
        self._total = 0.0
        self._count = 0

    def _add(self, total: float, count: int) -> None:
        self._total += total
        self._count += count

    def compute(self) -> float:
        """The mean over all added values.

        Raises:
            TsdistillError: no value was added.
        """
        if not self._count:
            raise TsdistillError("there were no samples to evaluate on; give data that has some")
        return self._total / self._count


def labels_given(labels: Any, metric: str) -> Tensor:
    """The labels as a tensor.

    Raises:
        TsdistillError: there are none.
    """
    if not isinstance(labels, Tensor):
        raise TsdistillError(
            f"{metric} needs labels but the data have none; leave it out or give labelled data"
        )
    return labels


def reference_given(reference: Any, metric: str) -> Any:
    """The outputs of the reference model.

    Raises:
        TsdistillError: there are none.
    """
    if reference is None:
        raise TsdistillError(f"{metric} needs a reference model to compare with; give one")
    return reference
