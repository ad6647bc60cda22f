"""Random numbers in a forward: the cut model draws those of the whole one, at the coordinates that stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_SIZED = frozenset(("randn", "rand"))
_ALIKE = frozenset(("randn_like", "rand_like"))
_FILLS = frozenset(("normal_", "uniform_", "exponential_", "log_normal_", "cauchy_", "geometric_", "random_"))


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a random operator of the traced forward gave.

    Attributes:
        shape: of the tensor.
        labels: one entry a dimension, as the tracer gave them.
    """

    shape: tuple[int, ...]
    labels: tuple[np.ndarray | None, ...]


def draws(func: Any) -> bool:
    """Whether an operator takes numbers from a random generator."""
    return torch.Tag.nondeterministic_seeded in func.tags


def draw(
    func: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    drawn: Drawn,
    stays: Sequence[np.ndarray | None],
    seed: int,
) -> Any:
    """The result of a random operator from a state of the generators that ``seed`` alone determines.

    The numbers are drawn for the shape that the whole model asked for; those at the coordinates that stay
    are taken.

    Args:
        func: the operator.
        args: its arguments in the model that runs.
        kwargs: likewise.
        drawn: what it gave in the traced forward.
        stays: one entry a dimension, flags of the coordinates that stay, ``None`` for all.
        seed: of the numbers.
    """
    with _seeded(seed, kwargs.get("generator")):
        name = func._schema.name.split("::")[-1]
        small = tuple(
            size if flags is None else int(flags.sum())
            for size, flags in zip(drawn.shape, stays, strict=True)
        )
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        if any(tensor.shape != small for tensor in tensors):
            return func(*args, **kwargs)

        def taken(whole: torch.Tensor) -> torch.Tensor:
            for dim, flags in enumerate(stays):
                if flags is not None:
                    places = torch.from_numpy(np.flatnonzero(flags)).to(whole.device)
                    whole = whole.index_select(dim, places)
            return whole

        if name in _SIZED:
            return taken(func(list(drawn.shape), *args[1:], **kwargs))
        if not tensors:
            return func(*args, **kwargs)
        first = tensors[0]
        if name in _ALIKE:
            return taken(func(first.new_empty(drawn.shape), *args[1:], **kwargs))
        if name in _FILLS or (name == "bernoulli_" and len(tensors) == 1):
            return first.copy_(taken(func(first.new_empty(drawn.shape), *args[1:], **kwargs)))
        generator = kwargs.get("generator")
        if name in ("bernoulli", "bernoulli_"):
            chance = args[1] if len(args) > 1 and args[1] is not None else first
            result = (taken(_uniform(first, drawn.shape, generator)) < chance).to(first.dtype)
            return first.copy_(result) if name == "bernoulli_" else result
        if name == "normal":
            noise = torch.randn(drawn.shape, generator=generator, dtype=first.dtype, device=first.device)
            return args[0] + args[1] * taken(noise)
        if name == "native_dropout" and args[2] is not False:
            mask = taken(_uniform(first, drawn.shape, generator)) >= args[1]
            return first * mask / max(1 - args[1], 1e-30), mask
        return func(*args, **kwargs)


def _uniform(like: torch.Tensor, shape: Sequence[int], generator: Any) -> torch.Tensor:
    kind = like.dtype if like.is_floating_point() else torch.float32
    return torch.rand(tuple(shape), generator=generator, dtype=kind, device=like.device)


@contextmanager
def _seeded(seed: int, generator: torch.Generator | None) -> Iterator[None]:
    """Seed the global generators, or the one that the operator was given, which is put back."""
    if generator is None:
        torch.manual_seed(seed)
        yield
        return
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
