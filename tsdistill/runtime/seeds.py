"""Global generators of random numbers: put back after a block, and seeded inside one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tsdistill.runtime.exclusive import exclusive


def mixed_seed(*numbers: int) -> int:
    """A seed below 2**63 from several numbers, the same in every process and on every machine."""
    signs = sum(1 << place for place, number in enumerate(numbers) if number < 0)
    sequence = np.random.SeedSequence([abs(n) for n in numbers], spawn_key=(signs,) if signs else ())
    return int(sequence.generate_state(2, np.uint32).view(np.uint64)[0]) >> 1


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Put back the global generators of Python, NumPy and torch (CPU, CUDA, MPS) when the block ends."""
    with exclusive():
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
            if cuda is not None:
                torch.cuda.set_rng_state_all(cuda)
            if mps is not None:
                torch.mps.set_rng_state(mps)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of Python, NumPy and torch in the state of ``seed`` inside the block, so that
    forwards in it draw the same numbers every time; after it they are as they were."""
    with preserved_generators():
        random.seed(seed % 2**32)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(seed)
        yield


@contextmanager
def seeded_draws(*numbers: int) -> Iterator[None]:
    """While the block runs the global generators on the CPU give what ``numbers`` (a seed, an epoch, a batch,
    a sample) say; after it they are as they were."""
    seed = mixed_seed(*numbers)
    with preserved_generators():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield
