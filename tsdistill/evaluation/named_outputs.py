"""The floating tensors of a model's output, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import judged
from tsdistill.runtime.nests import entries, is_graph, tensors

PREFERRED = ("logits", "out", "last_hidden_state")
"""Names under which models return their main output."""

WHOLE = "output"
"""The name of an output that is one tensor."""


def named_outputs(output: Any) -> dict[str, Tensor]:
    """Every floating tensor of an output, by name, in the order in which the model gives them.

    The names are the keys of a mapping, the fields of a named tuple or dataclass, or the positions in a
    sequence (``"0"``, ``"1"``); those of nested structures are joined by a dot. One tensor alone is
    ``"output"``. Left out are tensors without dimensions (a loss that the model computes), and of outputs of
    transformers what comes along (hidden states, key-value caches, outputs of the encoder).

    A sequence of mappings, one for each sample, as detectors give it, has no tensors over the batch: the
    result is empty.
    """
    if isinstance(output, (tuple, list)) and output and all(isinstance(item, Mapping) for item in output):
        return {}
    if isinstance(output, Tensor):
        return {WHOLE: output} if output.is_floating_point() and output.ndim else {}
    return dict(_walk(judged(output), ""))


def main_name(outputs: Mapping[str, Any]) -> str:
    """The name of the output that stands for the whole: ``logits``, ``out`` or ``last_hidden_state``, else
    the first."""
    for wanted in PREFERRED:
        for name in outputs:
            if name.rpartition(".")[2] == wanted:
                return name
    return next(iter(outputs))


def outputs_or_main(output: Any) -> dict[str, Tensor]:
    """`named_outputs`, or where there are none the first floating tensor at all (boxes of the first sample).

    Raises:
        TsdistillError: the output has no floating tensor.
    """
    outputs = named_outputs(output)
    first = None if outputs else next((t for t in tensors(output) if t.is_floating_point()), None)
    if not outputs and first is None:
        raise TsdistillError(
            f"the model returns a {type(output).__name__} without a floating tensor to evaluate"
        )
    return outputs if first is None else {WHOLE: first}


def main_output(output: Any) -> Tensor:
    """The one tensor that an output is compared by, as `main_name` says.

    Raises:
        TsdistillError: the output has no floating tensor.
    """
    outputs = outputs_or_main(output)
    return outputs[main_name(outputs)]


def batch_outputs(output: Any, role: str) -> dict[str, Tensor]:
    """`named_outputs` of a model whose outputs are trained or taught.

    Args:
        output: what the model returned.
        role: the model in words, for messages: ``"student"``.

    Raises:
        TsdistillError: the output has no floating tensor over the batch, such as lists of boxes.
    """
    outputs = named_outputs(output)
    if not outputs:
        raise TsdistillError(
            f"the {role} returns {describe(output)} and no tensor over the batch, which losses compare; "
            "give a model whose forward returns the tensors before they become such"
        )
    return outputs


def describe(output: Any) -> str:
    """An output in words, for messages: ``"a list of mappings"``, ``"a tensor of shape (4, 10)"``."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, (tuple, list)) and output and all(isinstance(item, Mapping) for item in output):
        return f"a {type(output).__name__} of mappings"
    return f"a {type(output).__name__}"


def _walk(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.ndim:
            yield name, value
        return
    for key, item in _items(value):
        yield from _walk(item, f"{name}.{key}" if name else str(key))


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a structure with their names; of any other object what it has under a usual name of
    outputs."""
    inner = None if is_graph(value) else entries(value)
    if inner is None:
        inner = [(name, getattr(value, name)) for name in PREFERRED if hasattr(value, name)]
    yield from inner
