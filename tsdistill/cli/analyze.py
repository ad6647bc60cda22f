"""``tsdistill analyze``: which nodes carry what the model has learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli import options, output
from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from rich.console import Console

    from tsdistill.alignment import AlignmentReport, GroupReport


@click.command("analyze", epilog=" ".join(options.MODEL_HELP.split()))
@click.argument("model", metavar="MODEL")
@options.teacher_options
@options.model_options
@options.data_options
@click.option("--nodes", "named", multiple=True, metavar="GROUP", help="Show every node of this group.")
@click.option("--all-nodes", is_flag=True, help="Show every node of every group.")
@click.option("--curve", metavar="FILE", help="Draw the L-shaped curve (.png, .svg, .pdf).")
@click.option("--json", "json_file", metavar="FILE|-", help="Write the report as JSON; - for stdout.")
def command(
    model: str,
    named: tuple[str, ...],
    all_nodes: bool,
    curve: str | None,
    json_file: str | None,
    **given: Any,
) -> None:
    """Lay a teacher's nodes beside those of MODEL and show which have learnt which, and what can go.

    Without --teacher MODEL is its own teacher: a node's best match is then looked for among the other nodes.
    """
    output.check_writable(json_file)
    output.check_writable(curve)
    import tsdistill as tsd

    with output.working(f"loading {model}"):
        student, teacher = options.load_models(model, given)
    with output.working("observing the nodes"):
        report = tsd.analyze(student, teacher, given["data"], **options.observing(given))
    groups = _chosen(report, named, all_nodes)
    if curve:
        from tsdistill.report.figures import save_l_curve

        save_l_curve(report, curve)
    if json_file:
        output.write_json(json_file, report.to_dict())
    if json_file != output.STDOUT:
        _show(output.console(), report, groups, tsd.info_of(student).notes)


def _chosen(report: AlignmentReport, named: tuple[str, ...], every: bool) -> list[GroupReport]:
    known = report.by_name
    for name in named:
        if name not in known:
            raise TsdistillError(f"--nodes {name}: there is no such group; groups are {', '.join(known)}")
    return list(report.groups) if every else [known[name] for name in named]


def _show(
    console: Console, report: AlignmentReport, groups: list[GroupReport], notes: tuple[str, ...]
) -> None:
    from tsdistill.report.tables import curve_table, groups_table, nodes_table
    from tsdistill.report.text import heading

    for line in heading(report, notes):
        console.print(line)
    console.print()
    console.print(groups_table(report))
    for group in groups:
        console.print()
        console.print(curve_table(report, group))
        console.print(nodes_table(report, group))
