"""Which teacher group stands beside which student group."""

from __future__ import annotations

from tsdistill.alignment.sites import Sites
from tsdistill.errors import TsdistillError
from tsdistill.tracing.graph import NodeGraph


def match_groups(
    student: NodeGraph, teacher: NodeGraph, student_sites: Sites, teacher_sites: Sites
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Pair groups by name, or in depth order when the names do not fit and there are as many.

    Groups without a layer whose input can be observed stay out.

    Returns:
        student group -> teacher group, and notes for the user (groups without a partner are named).

    Raises:
        TsdistillError: the two models cannot be paired.
    """
    mine = [group.name for group in student.groups if student_sites.primary(group.name)]
    theirs = [group.name for group in teacher.groups if teacher_sites.primary(group.name)]
    shared = [name for name in mine if name in set(theirs)]
    notes: list[str] = []
    if shared and 2 * len(shared) >= max(len(mine), len(theirs)):
        pairs = {name: name for name in shared}
    elif mine and len(mine) == len(theirs):
        pairs = dict(zip(mine, theirs, strict=True))
        notes.append(f"the {len(mine)} groups were paired in depth order: their names differ")
    else:
        raise TsdistillError(
            f"the teacher's groups do not fit the student's: {len(theirs)} and {len(mine)} groups with "
            f"{len(shared)} names in common; give a teacher of the same architecture (any width)"
        )
    for name, other in list(pairs.items()):
        left, right = student_sites.primary(name), teacher_sites.primary(other)
        assert left is not None
        assert right is not None
        if left.reader.coords.shape[1] != right.reader.coords.shape[1]:
            notes.append(
                f"group {name!r} is left out: its nodes have another number of positions in the teacher"
            )
            del pairs[name]
    unmatched = [name for name in mine if name not in pairs]
    if unmatched:
        notes.append(f"groups without a partner in the teacher: {', '.join(unmatched)}")
    if not pairs:
        raise TsdistillError("no group of the student has a partner in the teacher; give another teacher")
    return pairs, tuple(notes)
