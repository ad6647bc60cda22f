from dataclasses import replace
from typing import Any

import torch
from torch import nn

import tsdistill as tsd
from tests.report.console import text
from tsdistill.report import tables


def cells(table: Any, first: str, width: int = 300) -> list[str]:
    return next(line.split() for line in text(table, width).splitlines() if line.split()[:1] == [first])


def test_groups_beside_a_teacher(report: tsd.AlignmentReport) -> None:
    group = report.groups[0]
    row = cells(tables.teacher_table(report), "0")
    assert row[:6] == ["0", "9", "0", "3", "of", "3"]
    assert row[6:] == [f"{group.teacher_best.mean():.3f}", "1.000"]
    shown = text(tables.groups_table(report))
    assert "paired by name" in shown
    assert "Aligned: correlation of 0.9 or more" in shown
    assert "as a whole" not in shown


def test_what_may_go(report: tsd.AlignmentReport) -> None:
    group = report.groups[0]
    row = cells(tables.candidates_table(report), "0")
    flags = (group.dead, group.weak, group.redundant, group.saturated, group.candidate)
    assert row[:7] == ["0", "9", *(str(int(flag.sum())) for flag in flags)]
    assert f"{int(group.candidate.sum())} of 9 nodes" in text(tables.groups_table(report))


def test_every_metric_has_its_column(student: nn.Module, teacher: nn.Module, samples: torch.Tensor) -> None:
    names = ["cka", "correlation", "gates"]
    report = tsd.analyze(student, teacher, samples, analysis={"metric": names})
    group = report.groups[0]
    header, *_ = [line for line in text(tables.teacher_table(report)).splitlines() if "aligned" in line]
    assert header.split()[-6:] == ["correlation", "gates", "one", "to", "one", "cka"]
    row = cells(tables.teacher_table(report), "0")
    assert row[7] == f"{group.matches['gates'].teacher_similarity.mean():.3f}"
    assert row[-1] == f"{group.scores['cka']:.3f}"
    shown = text(tables.groups_table(report))
    assert "correlation, gates: mean over the teacher's nodes" in shown
    assert "cka: of the groups as a whole" in shown
    assert "gates" in text(tables.nodes_table(report, group))


def test_a_group_without_a_partner_is_shown(report: tsd.AlignmentReport) -> None:
    group = report.groups[0]
    alone = replace(group, name="alone", teacher_group=None, matches={}, scores={}, compared="")
    shown = tables.teacher_table(replace(report, groups=(group, alone)))
    assert cells(shown, "alone") == ["alone", "9", "none"]


def test_where_groups_are_compared_is_said_where_it_differs(report: tsd.AlignmentReport) -> None:
    group = report.groups[0]
    other = replace(group, name="other", compared="pooled to 7x7 positions")
    assert "compared" not in text(tables.teacher_table(report))
    shown = tables.teacher_table(replace(report, groups=(group, other)))
    assert cells(shown, "other")[-2:] == ["7x7", "pooled"]


def test_narrow_terminals_fold_headers_and_no_figures(alone: tsd.AlignmentReport) -> None:
    group = alone.groups[0]
    wide = replace(group, name="layer4.1.conv2", size=1024, params_saved=16_600_000)
    report = replace(alone, groups=(wide,))
    assert "redundant" in text(tables.candidates_table(report))
    for shown in (tables.candidates_table(report), tables.nodes_table(report, group)):
        lines = text(shown, 80).splitlines()
        assert max(map(len, lines)) <= 80
        assert any("re" in line and "-" in line for line in lines)
    row = cells(tables.candidates_table(report), "layer4.1.conv2", 80)
    assert row[1] == "1024"
    assert "16.6M" in row


def test_groups_beside_itself(alone: tsd.AlignmentReport) -> None:
    shown = text(tables.groups_table(alone))
    assert "beside" not in shown
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
    plan = tsd.plan(report, budget={"nodes": 0.5})
    shown = text(tables.plan_table(plan))
    assert cells(tables.plan_table(plan), "0")[1:3] == ["9", str(plan.after["nodes"])]
    for word in plan.reasons["0"]:
        assert word in shown
    assert "put back" in text(tables.plan_table(plan, {"0"}))
    assert f"{plan.after['params']:,}" in text(tables.costs_table(plan))


def test_offers() -> None:
    shown = text(tables.offers_table({"metric": {"a": "here", "b": "there"}, "command": {}}))
    assert [line.split() for line in shown.splitlines()[-4:] if line.strip()] == [
        ["metric", "a", "here"],
        ["b", "there"],
        ["command", "none"],
    ]
