"""Which teacher group is paired with which student group: by name, by similarity in depth order, as given."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tsdistill.alignment.matching.coarse_activations import CoarseActivations, TracedModel
from tsdistill.alignment.matching.pair_preference import pair_penalty
from tsdistill.alignment.matching.similarity import FEWEST, linear_cka, ordered_matching
from tsdistill.errors import TsdistillError
from tsdistill.models import info_of
from tsdistill.options.option_fields import written
from tsdistill.runtime.forward import head
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count

__all__ = ["GroupMatching", "TracedModel", "common_inputs", "match_groups"]

BY_NAME = 0.9
"""Part of the larger model's groups that both models have by name to count as one architecture."""

THRESHOLD = 0.1
"""Linear CKA that a pair needs beyond its penalty; of independent activations it is 0 in the mean."""

_ROUGH = 32
"""Number of samples below which a note says that similarities are imprecise."""

_NAMED = 8
"""Names that a note lists in full; messages stay one readable line."""


@dataclass(frozen=True)
class GroupMatching:
    """Student groups and their partners in the teacher.

    Attributes:
        pairs: student group -> teacher group, in the student's forward order (where they were found by
            similarity: in the order in which the groups are last read, which the matching keeps).
        how: how they were found, for people: ``"by name"``, ``"by similarity in depth order"``,
            ``"as given"``, or ``"2 as given, the others ..."``.
        similarity: linear CKA of each pair that was found by it; empty otherwise.
        unmatched: groups of the student that can be observed and have no partner.
        teacher_unmatched: the same of the teacher.
        notes: lines for the user; groups without a partner are named.
    """

    pairs: Mapping[str, str]
    how: str
    similarity: Mapping[str, float] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    teacher_unmatched: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _SimilarPair:
    pairs: dict[str, str]
    order: list[str]
    similarity: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def match_groups(
    student: TracedModel,
    teacher: TracedModel,
    batches: Iterable[tuple[Any, Any]],
    *,
    fixed: Mapping[str, str] | None = None,
    samples: int = 64,
) -> GroupMatching:
    """Pair the groups of two models.

    The same architecture (at least 90 % of the larger model's observable groups have the same name in the
    other, in the same order) is paired by name. Otherwise both models are driven over the first samples,
    groups are compared by linear CKA of their activations on a common coarse grid, and the monotone
    one-to-one matching, in the order in which the groups are read, is taken whose sum of (CKA - 0.1 - what
    ``preference.pair_penalty`` takes off) is the largest. A group with positions (a map, tokens) only meets
    one with positions, a vector only a vector, heads only heads. The same data give the same matching.

    Args:
        student: the one model.
        teacher: the other.
        batches: yields ``(x, y)``; at most the first ``samples`` samples are taken, none where names do.
        fixed: student group -> teacher group, taken as they are; the others are matched without these.
        samples: number of samples for the similarities.

    Raises:
        TsdistillError: a given group does not exist or cannot be observed, the models have different inputs,
            activations are not finite, there are fewer than four samples, or nothing matches.
    """
    students, teachers = student.observable, teacher.observable
    fixed = _checked(fixed or {}, student, teacher)
    left = [name for name in students if name not in fixed]
    right = [name for name in teachers if name not in set(fixed.values())]
    named = _shared(student, teacher)
    if not left or not right:
        how, matched = "as given", _SimilarPair({}, students)
    elif named is not None:
        how = "by name"
        matched = _SimilarPair({name: name for name in named if name in left and name in right}, students)
    else:
        how = "by similarity in depth order"
        matched = _by_similarity(student, teacher, left, right, batches, samples)
    pairs = {**fixed, **matched.pairs}
    if not pairs:
        raise TsdistillError(
            f"no group of the student has a partner in the teacher ({len(students)} and "
            f"{len(teachers)} groups can be observed); give another teacher, or pairs by {written('pairs')}"
        )
    order = [*matched.order, *(name for name in students if name not in set(matched.order))]
    if fixed and matched.pairs:
        how = f"{len(fixed)} as given, the others {how}"
    elif fixed:
        how = "as given"
    unmatched = tuple(name for name in students if name not in pairs)
    teacher_unmatched = tuple(name for name in right if name not in set(pairs.values()))
    notes = matched.notes
    for side, rest in (("student", unmatched), ("teacher", teacher_unmatched)):
        if rest:
            notes.append(f"groups of the {side} without a partner: {_listed(rest)}")
    return GroupMatching(
        {name: pairs[name] for name in order if name in pairs},
        how,
        matched.similarity,
        unmatched,
        teacher_unmatched,
        tuple(notes),
    )


@contextmanager
def common_inputs(student: nn.Module, teacher: nn.Module) -> Iterator[None]:
    """Around what runs the teacher on the student's inputs: where that fails and the two models are known to
    have inputs of different sizes, the message says so.

    Raises:
        TsdistillError: the block does.
    """
    try:
        yield
    except TsdistillError as error:
        size_s, size_t = (
            info.input.size if info.input else None for info in map(info_of, (student, teacher))
        )
        if size_s == size_t and size_s is not None:
            raise
        known = [
            f"{role} is made for {'x'.join(map(str, size))}"
            for role, size in (("the student", size_s), ("the teacher", size_t))
            if size is not None
        ]
        sizes = f" ({', '.join(known)})" if known else ""
        raise TsdistillError(
            f"the teacher does not take the student's inputs{sizes}; give two models that see the same "
            f"samples: {error}"
        ) from error


def _checked(pairs: Mapping[str, str], student: TracedModel, teacher: TracedModel) -> dict[str, str]:
    for role, side, names in (("student", student, pairs), ("teacher", teacher, pairs.values())):
        known = list(side.graph.by_name)
        for name in names:
            if name not in side.graph.by_name:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
                raise TsdistillError(
                    f"{written('pairs')}: the {role} has no group {name!r}; nearest: "
                    f"{', '.join(near) or 'none'}"
                    f" (a group is a set of nodes named after the first layer that writes them; `tsdistill "
                    f"analyze` lists the {len(known)} of a model)"
                )
            if side.sites.primary(name) is None:
                raise TsdistillError(
                    f"{written('pairs')}: group {name!r} of the {role} has no linear layer or "
                    "convolution that reads it, so its activations cannot be observed; give another group"
                )
    return dict(pairs)


def _shared(student: TracedModel, teacher: TracedModel) -> list[str] | None:
    """The names that both models have, when these make them the same architecture."""
    students, teachers = student.observable, teacher.observable
    shared = [name for name in students if name in teachers and _kind(student, name) == _kind(teacher, name)]
    common = set(shared)
    same_order = [name for name in teachers if name in common] == shared
    return (
        shared
        if shared and same_order and len(shared) >= BY_NAME * max(len(students), len(teachers))
        else None
    )


def _kind(side: TracedModel, name: str) -> int | None:
    reading = side.sites.primary(name)
    return None if reading is None else reading.reader.channel_dim


def _by_similarity(
    student: TracedModel,
    teacher: TracedModel,
    left: list[str],
    right: list[str],
    batches: Iterable[tuple[Any, Any]],
    samples: int,
) -> _SimilarPair:
    activations_s, activations_t = (
        CoarseActivations(student, "student"),
        CoarseActivations(teacher, "teacher"),
    )
    seen = 0
    with evaluation_mode(student.model, teacher.model), torch.no_grad():
        for x, _ in batches:
            x = head(x, samples - seen)
            with common_inputs(student.model, teacher.model):
                activations_t.collect(x)
            activations_s.collect(x)
            seen += count(x)
            if seen >= samples:
                break
        if seen < FEWEST:
            raise TsdistillError(
                f"matching groups by similarity needs {FEWEST} samples or more, there are {seen}; give more "
                f"({written('samples')}), or pairs by {written('pairs')}"
            )
        ours, others = activations_s.finish(), activations_t.finish()
        a, b = [name for name in ours if name in left], [name for name in others if name in right]
        table = linear_cka((ours[name] for name in a), (others[name] for name in b))
    values = table.double().cpu().numpy()
    matching = ordered_matching(
        values - THRESHOLD - pair_penalty(student, activations_s, a, teacher, activations_t, b)
    )
    pairs = {a[i]: b[j] for i, j in matching}
    similarity = {a[i]: float(values[i, j]) for i, j in matching}
    notes = []
    if pairs:
        low, high = min(similarity.values()), max(similarity.values())
        notes.append(
            f"these are two architectures: {len(pairs)} groups were matched by similarity in depth order "
            f"(linear CKA {low:.2f} to {high:.2f} on {seen} samples); {written('pairs')} overrides"
        )
    if seen < _ROUGH:
        notes.append(
            f"{seen} samples are few to match groups by similarity; give more ({written('samples')})"
        )
    for role, names, known in (("student", left, ours), ("teacher", right, others)):
        silent = [name for name in names if name not in known]
        if silent:
            notes.append(
                f"groups of the {role} that the forward passes do not show sample by sample, left out of the "
                f"matching: {_listed(silent)}"
            )
    return _SimilarPair(pairs, list(ours), similarity, notes)


def _listed(names: Sequence[str]) -> str:
    """Names for people; of a long list the first ones and how many more."""
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
