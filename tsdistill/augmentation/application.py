"""Application of a strategy: preparation, use on every batch, checks of its results."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor

from tsdistill.augmentation.strategy_protocol import MixesLabels, Prepares, Setting, Strategy
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.options.option_fields import written
from tsdistill.runtime.finite import non_finite


def needs_teacher(strategy: Strategy) -> bool:
    """Whether a strategy cannot do without a teacher."""
    return bool(getattr(strategy, "needs_teacher", False))


def expansion(strategy: Strategy) -> int:
    """How many samples a strategy makes of each."""
    return int(getattr(strategy, "expands", 1))


def title(strategy: Strategy) -> str:
    """What a strategy is called in messages."""
    return str(getattr(strategy, "name", None) or getattr(strategy, "__name__", type(strategy).__name__))


def prepared(strategy: Strategy, setting: Setting) -> Strategy:
    """The strategy, ready to be used on batches.

    Raises:
        TsdistillError: it needs a teacher and there is none, or the teacher or the data do not suit it.
    """
    if needs_teacher(strategy) and setting.teacher is None:
        raise TsdistillError(
            f"the augmentation {title(strategy)} moves samples by what a teacher computes, and none is "
            f"given; give {written('teacher')}, or use teacher-agnostic"
        )
    return strategy.prepare(setting) if isinstance(strategy, Prepares) else strategy


def augmented(
    strategy: Strategy, x: Tensor, y: Any, generator: Generator, classes: int | None = None
) -> tuple[Tensor, Any]:
    """The batch to use in place of ``x``, and its labels.

    Args:
        strategy: ready to be used (see `prepared`).
        x: samples ``(n, ...)``.
        y: their labels: ``None``, class numbers int64 ``(n,)``, or any tensor of ``n`` rows. Class numbers
            become float ``(n, classes)`` where the strategy mixes samples.
        generator: of everything random, on the CPU.
        classes: how many classes there are; strategies that mix leave ``y`` as it is without it.

    Raises:
        TsdistillError: the strategy fails, or gives something other than it promises.
    """
    mixes = (
        classes is not None
        and isinstance(strategy, MixesLabels)
        and isinstance(y, Tensor)
        and y.ndim == 1
        and not y.is_floating_point()
    )
    try:
        if mixes:
            samples, labels = strategy.mix(x, y, classes, generator)  # type: ignore[attr-defined]
        else:
            samples, labels = strategy(x, generator), y
    except TsdistillError:
        raise
    except Exception as error:
        raise TsdistillError(
            f"the augmentation {title(strategy)} fails on samples of shape {tuple(x.shape[1:])}: "
            f"{cause_of(error)}"
        ) from error
    times = expansion(strategy)
    _check(strategy, x, samples, times)
    if times > 1 and not mixes and isinstance(labels, Tensor):
        labels = labels.repeat(times, *[1] * (labels.ndim - 1))
    return samples, labels


def _check(strategy: Strategy, x: Tensor, samples: Any, times: int) -> None:
    shape = (times * len(x), *x.shape[1:])
    if not isinstance(samples, Tensor):
        raise TsdistillError(
            f"the augmentation {title(strategy)} gives {type(samples).__name__}, not a tensor of "
            f"shape {shape}"
        )
    if tuple(samples.shape) != shape:
        raise TsdistillError(
            f"the augmentation {title(strategy)} makes a batch of shape {tuple(samples.shape)} of one of "
            f"shape {tuple(x.shape)}; {shape} was expected"
        )
    if samples.dtype != x.dtype or samples.device != x.device:
        raise TsdistillError(
            f"the augmentation {title(strategy)} gives {samples.dtype} on {samples.device}, not {x.dtype} on "
            f"{x.device}"
        )
    if non_finite(samples) is not None:
        raise TsdistillError(f"the augmentation {title(strategy)} makes samples that are not finite")
