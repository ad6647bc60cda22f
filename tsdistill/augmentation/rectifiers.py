"""Pre-activations of a teacher's nodes, wherever its rectifiers are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tsdistill.runtime.forward import forward

RECTIFIERS = frozenset(
    {
        "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "rrelu", "prelu", "elu", "elu_", "celu",
        "selu", "gelu", "silu", "mish", "hardswish", "clamp_min", "clamp_min_", "threshold", "threshold_",
    }
)  # fmt: skip
"""Functions with the sign of their argument, or a bend where it is zero, by name."""

_CHANNELS_LAST = ("linear", "layer_norm")

RectifierCallback = Callable[[int, Tensor, Callable[[], Tensor], int], Tensor]
"""What is known of a rectifier: which call of the forward pass it is, its argument, a function that goes
through with the call, and the dimension of the argument that counts the nodes. Its result takes the call's
place."""


class StopForward(BaseException):
    """Raised by `RectifierCallback` when it has seen all it wants: nothing behind is computed."""


def run_with_callback(model: nn.Module, x: Tensor, see: RectifierCallback) -> Any:
    """The model's output; ``None`` when `StopForward` was raised.

    Args:
        model: the model.
        x: samples ``(n, ...)``.
        see: is called in place of each rectifier.
    """
    try:
        with _RectifierMode(see):
            return forward(model, x, "teacher")
    except StopForward:
        return None


class _RectifierMode(TorchFunctionMode):
    def __init__(self, see: RectifierCallback) -> None:
        super().__init__()
        self._see, self._calls = see, 0
        self._last: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in RECTIFIERS or not args or not _has_nodes(args[0]):
            result = func(*args, **kwargs)
            if name in _CHANNELS_LAST:
                self._last = result
            return result
        before = args[0]
        dim = before.ndim - 1 if before is self._last or before.ndim == 3 else 1
        self._calls += 1
        return self._see(self._calls - 1, before, lambda: func(*args, **kwargs), dim)


def _has_nodes(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


def by_node(values: Tensor, dim: int) -> Tensor:
    """``[samples, nodes, positions]``."""
    return values.movedim(dim, 1).flatten(2) if values.ndim > 2 else values[:, :, None]
