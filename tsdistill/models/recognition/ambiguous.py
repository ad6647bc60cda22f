"""Choice among architectures that share all names and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec
from tsdistill.models.recognition import batchnorm_evidence
from tsdistill.models.sources.specs import Built
from tsdistill.options.option_fields import written
from tsdistill.torch_private import BatchNorm

_TOLERANCE = 1e-4
"""Largest difference of two outputs that count as the same function, over the largest output: some thousand
rounding errors of single precision (6e-8), as many as deep networks add up.
"""

_BATCH = 2
"""Random samples that candidates are compared on."""


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, with lines for the user."""

    built: Built
    notes: tuple[str, ...]


def rank(arch: str) -> tuple[bool, int, str]:
    """Order of preference among equals: timm's first, then short names, then the alphabet."""
    return (not arch.startswith("timm:"), len(arch), arch)


def choose(candidates: Sequence[Built], path: Path) -> Choice:
    """Choose among candidates that hold the same weights.

    Those that compute the same function count as one. Between different functions the batch norms decide (see
    `evidence`), when they do so clearly.

    Raises:
        TsdistillError: nothing decides; names the candidates.
    """
    ordered = sorted(candidates, key=lambda built: rank(built.arch))
    families = _families(ordered)
    if len(families) == 1:
        return Choice(families[0][0], _equals(families[0]))
    images = _images(families)
    figures = [
        batchnorm_evidence.distances(family[0].model, x) if x is not None else []
        for family, x in zip(families, images, strict=True)
    ]
    for number, family in enumerate(families):
        verdicts = [
            batchnorm_evidence.compare(figures[number], figures[o])
            for o in range(len(families))
            if o != number
        ]
        if all(verdict.clear for verdict in verdicts):
            others = [f[0].arch for o, f in enumerate(families) if o != number]
            lines = tuple(_verdict(family[0].arch, o, v) for o, v in zip(others, verdicts, strict=True))
            return Choice(family[0], (*lines, *_equals(family)))
    names = " or ".join(family[0].arch for family in families)
    raise TsdistillError(
        f"{path}: the names and shapes fit {names}, which compute different things, and the weights do not "
        f"tell which; name one with {written('arch')}"
    )


def _verdict(arch: str, other: str, verdict: batchnorm_evidence.Verdict) -> str:
    return (
        f"{arch} rather than {other}: run on crops of a photograph, its activations agree better with "
        f"the stored batch-norm statistics (distance {verdict.distance:.4f} against {verdict.other:.4f}, "
        f"smaller in {verdict.share:.0%} of the layers, t = {verdict.t:.1f})"
    )


def _families(ordered: Sequence[Built]) -> list[list[Built]]:
    """Candidates grouped by what they compute on a few seeded inputs."""
    families: list[tuple[list[torch.Tensor] | None, list[Built]]] = []
    for built in ordered:
        outputs = _outputs(built, ordered[0].input)
        for known, family in families:
            if outputs is not None and known is not None and _close(outputs, known):
                family.append(built)
                break
        else:
            families.append((outputs, [built]))
    return [family for _, family in families]


def _outputs(built: Built, spec: InputSpec | None) -> list[torch.Tensor] | None:
    """Outputs on seeded Gaussian inputs; ``None`` when the model does not run on such inputs."""
    if spec is None:
        return None
    generator = torch.Generator().manual_seed(0)
    dtype = next((p.dtype for p in built.model.parameters() if p.is_floating_point()), torch.float32)
    x = torch.randn(_BATCH, *spec.size, generator=generator).to(dtype)
    try:
        with torch.no_grad():
            return _flat(built.model(x))
    except Exception:
        return None


def _flat(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, Mapping) else output
    return [tensor for value in values for tensor in _flat(value)]


def _close(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    if len(one) != len(other):
        return False
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= _TOLERANCE * b.abs().max())
        for a, b in zip(one, other, strict=True)
    )


def _images(families: Sequence[Sequence[Built]]) -> list[torch.Tensor | None]:
    return [
        batchnorm_evidence.photographs(family[0].input)
        if family[0].input is not None and any(isinstance(m, BatchNorm) for m in family[0].model.modules())
        else None
        for family in families
    ]


def _equals(family: Sequence[Built]) -> tuple[str, ...]:
    if len(family) == 1:
        return ()
    first, others = family[0], family[1:]
    lines = [f"{first.arch} computes the same as {', '.join(b.arch for b in others)}"]
    unlike = [
        b
        for b in others
        if b.input is not None and first.input is not None and _look(b.input) != _look(first.input)
    ]
    if unlike and first.input is not None:
        lines.append(
            f"inputs are taken as {first.arch} has them ({_look(first.input)}); {unlike[0].arch} has "
            f"{_look(unlike[0].input)}: give {written('mean')} and {written('std')} if they are meant"
        )
    return tuple(lines)


def _look(spec: InputSpec | None) -> str:
    if spec is None or spec.mean is None or spec.std is None:
        return "as they are"
    mean, std = (" ".join(f"{v:g}" for v in values) for values in (spec.mean, spec.std))
    return f"mean {mean}, std {std}"
