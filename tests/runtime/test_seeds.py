"""Seeds of several numbers: the same everywhere, another for other numbers."""

import random

import numpy as np
import torch

from tsdistill.runtime.seeds import mixed_seed, seeded_draws


def test_numbers_next_to_one_another_have_seeds_of_their_own():
    pairs = [(seed, index) for seed in range(-20, 20) for index in range(-20, 20)]
    seeds = {mixed_seed(*pair) for pair in pairs}
    assert len(seeds) == len(pairs)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_is_the_same_on_every_machine():
    assert mixed_seed(0, 1) == 2918264622725855778


def test_all_generators_draw_by_the_numbers_and_are_put_back():
    def drawn():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    before = random.getstate(), torch.get_rng_state()
    with seeded_draws(3, 1):
        first = drawn()
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    with seeded_draws(3, 1):
        assert drawn() == first
    with seeded_draws(3, 2):
        assert drawn() != first
