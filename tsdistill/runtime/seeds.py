"""Random numbers that depend on several numbers alone: a seed, an epoch, a batch, a sample."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tsdistill.runtime.unchanged import preserved_generators


def mixed_seed(*numbers: int) -> int:
    """A seed below 2**63 from several numbers, the same in every process and on every machine."""
    signs = sum(1 << place for place, number in enumerate(numbers) if number < 0)
    sequence = np.random.SeedSequence([abs(n) for n in numbers], spawn_key=(signs,) if signs else ())
    return int(sequence.generate_state(2, np.uint32).view(np.uint64)[0]) >> 1


@contextmanager
def seeded_draws(*numbers: int) -> Iterator[None]:
    """While the block runs the global generators of Python, NumPy and torch give what ``numbers`` say; after
    it they are as they were."""
    seed = mixed_seed(*numbers)
    with preserved_generators():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield
