"""What a page says in words: heading, facts, captions, beside a teacher and without one."""

from __future__ import annotations

from tsdistill.alignment.report import AlignmentReport
from tsdistill.printable import html_text
from tsdistill.report.numbers import amount, counted, seconds
from tsdistill.report.report_text import causes, certainty, strength_cost

PAPER = "arXiv 1909.13458"
SHORT = 0.0005
"""Seconds below which a phase is not listed: half a millisecond rounds to 0 ms."""

_BESIDE = {
    "aligned_label": "Aligned at",
    "lede": (
        "Which student nodes have learnt which teacher node, how much the output depends on each, and "
        "what could go."
    ),
    "overview_caption": (
        "From input to output. Choose a row, with the mouse or the arrow keys, to see its nodes below. "
        "The dot on the right shows how well this group's teacher nodes are matched on average."
    ),
    "curve_caption": (
        "Each dot is a student node. Far right: it has learnt a teacher node. High up: the layers that "
        "read it rely on it. In a well-trained student that is larger than it needs to be, the dots hug "
        "the floor and the right-hand wall: a node that matches no teacher node fades out and can go "
        f"({PAPER}, Theorem 3)."
    ),
    "heat_caption": (
        "A row a student node, a column a teacher node. Blocks on the diagonal are student nodes that "
        "share one teacher node; empty columns are teacher nodes that nobody has learnt."
    ),
    "counts_title": "Student nodes per teacher node",
    "counts_caption": (
        f"Strong teacher nodes gather more student nodes than weak ones ({PAPER}, Theorems 4 and 5). A "
        "gap is a teacher node without any."
    ),
    "ladder_title": "Strong nodes are learnt first",
    "ladder_caption": (
        "Teacher nodes from weak to strong with the best similarity that any student node reaches. "
        f"Theory says that it rises to the right while the student is still learning ({PAPER}, Theorems 4 "
        "and 5)."
    ),
}
_ALONE = {
    "aligned_label": "Twins at",
    "lede": (
        "Which nodes resemble each other, how much the output depends on each, and what could go. The "
        "model is its own teacher: a node's best match is its most alike other node."
    ),
    "overview_caption": (
        "From input to output. Choose a row, with the mouse or the arrow keys, to see its nodes below. "
        "The dot on the right shows how alike a node and its most alike other node are on average."
    ),
    "curve_caption": (
        "Each dot is a node. Far right: another node does nearly the same. High up: the layers that read "
        "it rely on it. Nothing relies on nodes on the floor, and of those at the right-hand wall one of "
        f"each pair can go (after {PAPER})."
    ),
    "heat_caption": (
        "The same nodes on both sides, alike ones together. Blocks on the diagonal are nodes that do the "
        "same."
    ),
    "counts_title": "Twins per node",
    "counts_caption": (
        "How many other nodes resemble each node. In an over-large network strong features are held by "
        f"several nodes (after {PAPER})."
    ),
    "ladder_title": "Are strong nodes unique?",
    "ladder_caption": "Nodes from weak to strong with the similarity of their most alike other node.",
}
HISTORY = (
    "Mean best similarity that the strong, middle and weak third of the teacher nodes get from any "
    f"student node, checkpoint by checkpoint. Strong nodes are expected to rise first ({PAPER}, Theorems "
    "4 and 5)."
)


def words(report: AlignmentReport) -> dict[str, str]:
    """Headings and captions, as HTML."""
    model, teacher = _names(report)
    other = teacher if report.has_teacher else "itself"
    texts = {name: html_text(text) for name, text in (_BESIDE if report.has_teacher else _ALONE).items()}
    return {
        **texts,
        "title": html_text(f"{_file(model)} beside {_file(other)} · tsdistill"),
        "heading": f'{html_text(_file(model))} <span class="than">beside</span> {html_text(_file(other))}',
        "facts": "\n".join(_facts(report)),
        "notes": _notes(report),
        "footer": "This page needs no network: data, scripts and the drawing library are in the file. "
        f"A node is aligned when its best {html_text(report.metric)} reaches the threshold; a candidate is "
        f"dead, weak (below {100 * report.thresholds.weak:g} % of its group's largest strength) or "
        "explained by the nodes that stay. "
        f"Theory: Yuandong Tian, Student Specialization in Deep ReLU Networks, {PAPER}.",
    }


def _names(report: AlignmentReport) -> tuple[str, str]:
    model = report.name or report.arch or "the given model"
    return model, report.teacher_name or report.teacher_arch or "the given teacher"


def _built(name: str | None, arch: str | None) -> str:
    """The architecture, where the name does not say it."""
    return f"{arch}; " if arch and name and arch != name else ""


def _file(name: str) -> str:
    """A factory in a file without the folders before it."""
    return name.rpartition("/")[2] or name


def _facts(report: AlignmentReport) -> list[str]:
    model, teacher = _names(report)
    nodes = sum(group.size for group in report.groups)
    groups = counted(len(report.groups), "group")
    paired = sum(group.teacher_group is not None for group in report.groups)
    measured = [name for name in report.metrics if name not in report.failed]
    facts = [
        (
            "Student" if report.has_teacher else "Model",
            model,
            f"{_built(report.name, report.arch)}{amount(report.params)} parameters, "
            f"{amount(report.macs)} MACs",
        ),
        (
            "Teacher",
            teacher,
            f"{_built(report.teacher_name, report.teacher_arch)}beside {paired} of {groups}"
            f"{_match_method(report)}",
        )
        if report.has_teacher
        else ("Teacher", "the model itself", ""),
        ("Nodes", f"{nodes:,} in {groups}", _not_prunable(report)),
        (
            "Metrics" if len(measured) > 1 else "Metric",
            ", ".join(measured) or "none",
            f"failed: {', '.join(report.failed)}" if report.failed else "",
        ),
        ("Strength", certainty(report.strength_estimate), strength_cost(report.strength_estimate)),
        (
            "Data",
            report.data,
            f"{report.samples:,} samples" + ("" if _input_in_data(report) else f", {report.input}"),
        ),
    ]
    if report.seconds:
        spent = {phase: value for phase, value in report.seconds.items() if value >= SHORT}
        phases = ", ".join(f"{phase} {seconds(value)}" for phase, value in spent.items())
        facts.append(("Time", seconds(sum(report.seconds.values())), phases))
    return [_fact(*fact) for fact in facts]


def _input_in_data(report: AlignmentReport) -> bool:
    return report.input.partition("(")[2] in report.data


def _fact(term: str, value: str, small: str) -> str:
    kind = ' class="wide"' if term in ("Strength", "Data", "Time") else ""
    more = f"<small>{html_text(small)}</small>" if small else ""
    return f"    <div{kind}><dt>{term}</dt><dd>{html_text(value)}{more}</dd></div>"


def _match_method(report: AlignmentReport) -> str:
    return f", matched {report.matching.how}" if report.matching else ""


def _not_prunable(report: AlignmentReport) -> str:
    frozen = report.graph.frozen
    if not frozen:
        return ""
    return f"{counted(len(frozen), 'layer width')} not prunable: {causes(item.cause for item in frozen)}"


def _notes(report: AlignmentReport) -> str:
    lines = [*report.notes, *(f"metric {name} failed: {message}" for name, message in report.failed.items())]
    if not lines:
        return ""
    items = "".join(f"<li>{html_text(line)}</li>" for line in lines)
    return f'  <ul class="notes" aria-label="Notes">{items}</ul>'
