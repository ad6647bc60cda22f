import io
from typing import Any

import torch
from rich.console import Console
from torch import nn

import tsdistill as tsd
from tsdistill.report import tables


def text(table: Any) -> str:
    console = Console(file=io.StringIO(), width=300, color_system=None)
    console.print(table)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def cells(table: Any, first: str) -> list[str]:
    return next(line.split() for line in text(table).splitlines() if line.split()[:1] == [first])


def test_groups_beside_a_teacher(report: tsd.AlignmentReport) -> None:
    group = report.groups[0]
    row = cells(tables.groups_table(report), "0")
    assert row[:6] == ["0", "9", "0", "3", "of", "3"]
    flags = (group.dead, group.weak, group.redundant, group.candidate)
    assert row[6:10] == [str(int(flag.sum())) for flag in flags]
    assert f"{int(group.candidate.sum())} of 9 nodes" in text(tables.groups_table(report))


def test_groups_beside_itself(alone: tsd.AlignmentReport) -> None:
    shown = text(tables.groups_table(alone))
    assert "with a twin" in shown
    assert "teacher" not in shown
    assert cells(tables.groups_table(alone), "0")[2] == "6"


def test_nodes_come_by_strength_with_words(report: tsd.AlignmentReport) -> None:
    group = report.groups[0]
    shown = text(tables.nodes_table(report, group)).splitlines()
    rows = [line.split() for line in shown if line.split() and line.split()[0].isdigit()]
    assert sorted(int(row[0]) for row in rows) == list(range(9))
    strengths = [float(row[1]) for row in rows]
    assert strengths == sorted(strengths, reverse=True)


def test_words(report: tsd.AlignmentReport) -> None:
    group = report.groups[0]
    assert tables.words(group, 6) == "dead, candidate"
    assert tables.words(group, 0).startswith("aligned")
    assert tables.words(group, 7) == "weak, candidate"
    assert tables.words(group, 8) == "unaligned"


def test_the_curve_counts_every_node(report: tsd.AlignmentReport) -> None:
    shown = text(tables.curve_table(report, report.groups[0]))
    assert cells(tables.curve_table(report, report.groups[0]), "0.99")[3] == "6"
    assert "█" in shown


def test_plan(report: tsd.AlignmentReport) -> None:
    plan = tsd.plan(report, nodes=0.5)
    shown = text(tables.plan_table(plan))
    assert cells(tables.plan_table(plan), "0")[1:3] == ["9", str(plan.after["nodes"])]
    for word in plan.reasons["0"]:
        assert word in shown
    assert "put back" in text(tables.plan_table(plan, {"0"}))
    assert f"{plan.after['params']:,}" in text(tables.costs_table(plan))


def test_comparison(student: nn.Module, teacher: nn.Module, samples: torch.Tensor) -> None:
    compared = tsd.compare({"wide": student, "slim": teacher}, samples, example_input=samples[:1])
    shown = text(tables.comparison_table(compared, "some samples"))
    assert "agreement with wide" in shown
    assert "Measured on some samples: " in shown
    assert cells(tables.comparison_table(compared), "parameters")[1:] == ["83", "29", "(34.9", "%)"]


def test_offers() -> None:
    shown = text(tables.offers_table({"metric": {"a": "here", "b": "there"}, "command": {}}))
    assert [line.split() for line in shown.splitlines()[-4:] if line.strip()] == [
        ["metric", "a", "here"],
        ["b", "there"],
        ["command", "none"],
    ]
