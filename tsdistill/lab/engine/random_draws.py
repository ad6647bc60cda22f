"""Random teachers, students and samples, each decided by a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from tsdistill.lab.engine.network_stack import Networks

TEACHER_DRAW, STUDENT_DRAW, PROBE_SAMPLES = 1, 2, 4096
"""Keys of the random streams of teachers and students, and samples on which boundaries of `deep_teachers` are
placed, so that a share of samples is exact to 1/4096."""


def generator_of(*parts: int) -> torch.Generator:
    """A generator whose seed mixes ``parts``, the same for the same parts on every machine."""
    mixed = 0
    for part in parts:
        mixed = (mixed * 1_000_003 + part + 1) % (2**61 - 1)
    return torch.Generator().manual_seed(mixed)


def decaying_teachers(
    seeds: Sequence[int],
    inputs: int,
    nodes: int,
    outputs: int,
    decay: float,
    *,
    biases: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Networks:
    """Two-layer teachers whose node j has fan-out norm 1/j^p (the strength decay of arXiv 1909.13458).

    Fan-in weights are unit vectors in random directions, so that pre-activations of x ~ N(0, I) have
    variance 1; biases are uniform in ±1/2; fan-out directions are random. Teachers of one seed differ
    in their strengths only.

    Args:
        seeds: one for each teacher.
        inputs: d.
        nodes: m.
        outputs: c.
        decay: p; at 0 all nodes have the same strength.
        biases: whether nodes have biases.
        dtype: of the weights; the draw is the same in each.
        device: of the weights.

    Returns:
        fan-in ``[S, m, d]``, fan-out ``[S, m, c]``, biases ``[S, m]`` or none.
    """
    fan_in, bias, fan_out = [], [], []
    strength = torch.arange(1, nodes + 1, dtype=torch.float64) ** -decay
    for seed in seeds:
        generator = generator_of(TEACHER_DRAW, seed)
        fan_in.append(_unit(_normal(generator, nodes, inputs)))
        bias.append(torch.rand(nodes, generator=generator, dtype=torch.float64) - 0.5)
        fan_out.append(_unit(_normal(generator, nodes, outputs)) * strength[:, None])
    teachers = Networks((torch.stack(fan_in), torch.stack(fan_out)), (torch.stack(bias),) if biases else ())
    return teachers.to(dtype=dtype, device=device)


def deep_teachers(
    seeds: Sequence[int],
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    decay: float = 0.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Networks:
    """Deep teachers all of whose boundaries lie within the data.

    On x ~ N(0, I) every node's pre-activation is scaled to variance 1 and shifted so that it is positive for
    a share of the samples that is uniform in [0.35, 0.65]: the condition of Theorem 2 of arXiv 1909.13458
    that samples lie on both sides of each boundary. Fan-out norms to the output are 1/j^p with p = ``decay``.

    Args:
        seeds: one for each teacher.
        inputs: d.
        widths: m_l of each hidden layer.
        outputs: c.
        decay: p.
        dtype: of the weights; the draw is the same in each.
        device: of the weights.
    """
    drawn = [_seen(generator_of(TEACHER_DRAW, seed), inputs, widths, outputs, decay) for seed in seeds]
    weights = tuple(torch.stack(layer) for layer in zip(*(each[0] for each in drawn), strict=True))
    biases = tuple(torch.stack(layer) for layer in zip(*(each[1] for each in drawn), strict=True))
    return Networks(weights, biases).to(dtype=dtype, device=device)


def random_students(
    seeds: Sequence[int],
    inputs: int,
    widths: Sequence[int],
    outputs: int,
    *,
    scale: float | None = None,
    gain: float = 1.0,
    biases: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Networks:
    """Students before training: Gaussian weights, biases 0.

    Args:
        seeds: one for each student.
        inputs: d.
        widths: n_l of each hidden layer.
        outputs: c.
        scale: for two layers: expected norm of each node's fan-in and fan-out weights; ``None``: standard
            deviations ``gain`` · sqrt(2 / fan-in).
        gain: 1 keeps the size of activations over depth; below 1 a deep student starts with outputs near 0.
        biases: whether nodes have biases.
        dtype: of the weights; the draw is the same in each.
        device: of the weights.
    """
    sizes = [inputs, *widths, outputs]
    stacks: list[list[Tensor]] = [[] for _ in sizes[1:]]
    for seed in seeds:
        generator = generator_of(STUDENT_DRAW, seed)
        for layer, (read, written) in enumerate(pairwise(sizes)):
            shape = (written, read) if layer == 0 else (read, written)
            last = layer == len(sizes) - 2
            spread = gain * math.sqrt(2 / read)
            if scale is not None:
                spread = scale / math.sqrt(written if last else read)
            stacks[layer].append(_normal(generator, *shape) * spread)
    zeros = tuple(torch.zeros(len(seeds), n) for n in widths) if biases else ()
    return Networks(tuple(torch.stack(stack) for stack in stacks), zeros).to(dtype=dtype, device=device)


def _seen(
    generator: torch.Generator, inputs: int, widths: Sequence[int], outputs: int, decay: float
) -> tuple[list[Tensor], list[Tensor]]:
    h = _normal(generator, PROBE_SAMPLES, inputs)
    weights, biases = [], []
    for layer, nodes in enumerate(widths):
        weight = _normal(generator, nodes, h.shape[1])
        z = (h - h.mean(0)) @ weight.T
        weight /= z.std(0)[:, None]
        z = h @ weight.T
        share = 0.35 + 0.3 * torch.rand(nodes, generator=generator, dtype=torch.float64)
        places = ((1 - share) * (PROBE_SAMPLES - 1)).round().long()
        bias = -z.sort(0).values.gather(0, places[None])[0]
        weights.append(weight if layer == 0 else weight.T.contiguous())
        biases.append(bias)
        h = (z + bias).relu()
    strength = torch.arange(1, widths[-1] + 1, dtype=torch.float64) ** -decay
    weights.append(_unit(_normal(generator, widths[-1], outputs)) * strength[:, None])
    return weights, biases


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


SAMPLE_DRAW = 3
"""Key of the random stream of samples."""


class Samples(Protocol):
    """A source of training inputs.

    Attributes:
        shared: whether all networks get the same samples.
    """

    shared: bool

    def rows(self, count: int) -> Tensor:
        """The next ``count`` samples: ``[count, d]`` if shared, else ``[S, count, d]``."""


class GaussianSamples:
    """x ~ N(0, I), each sample drawn once.

    Args:
        seed: of the draw.
        inputs: d.
        networks: ``None``: all networks of a stack share the samples, which costs one draw instead of S and
            makes the lowest layer one matrix product; results of different networks are then coupled by the
            samples. A number S: separate samples for S networks.
        dtype: of the returned samples; they are drawn in float32.
        device: of the returned samples.
    """

    def __init__(
        self,
        seed: int,
        inputs: int,
        *,
        networks: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shared = networks is None
        self._lead = () if networks is None else (networks,)
        self._inputs, self._dtype, self._device = inputs, dtype, device
        self._generator = generator_of(SAMPLE_DRAW, seed)

    def rows(self, count: int) -> Tensor:
        """The next ``count`` samples: ``[count, d]`` if shared, else ``[S, count, d]``."""
        drawn = torch.randn((*self._lead, count, self._inputs), generator=self._generator)
        return drawn.to(dtype=self._dtype, device=self._device)


class FiniteSamples:
    """Samples drawn with replacement from finite sets.

    Args:
        x: ``[N, d]``, one set and one order for all networks, or ``[S, N, d]``, one set for each network.
        seed: of the order.
    """

    def __init__(self, x: Tensor, seed: int) -> None:
        self.shared = x.dim() == 2
        self._x = x
        self._generator = generator_of(SAMPLE_DRAW, seed)

    def rows(self, count: int) -> Tensor:
        """The next ``count`` samples: ``[count, d]`` if shared, else ``[S, count, d]``."""
        sets, size = self._x.shape[:-2], self._x.shape[-2]
        drawn = torch.randint(size, (*sets, count), generator=self._generator).to(self._x.device)
        if self.shared:
            return self._x[drawn]
        return self._x[torch.arange(sets[0], device=self._x.device)[:, None], drawn]
