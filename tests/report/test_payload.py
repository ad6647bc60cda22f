import base64
import json
from typing import Any

import numpy as np
import pytest

from tests.report.made import made_report, renamed
from tsdistill.report.payload import FINENESS, FLAGS, node_metrics, payload


def array(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), f"<{kind}")


def cost(terms: list[Any], kept: list[int]) -> int:
    total = 0
    for coefficient, factors in terms:
        for fixed, parts in factors:
            coefficient *= fixed + sum(m * kept[place] for place, m in parts)
        total += coefficient
    return total


def test_costs_are_those_of_the_graph() -> None:
    report = made_report()
    data = json.loads(json.dumps(payload(report)))
    for kept in ([40, 24, 16], [1, 24, 7], [13, 2, 16]):
        widths = dict(zip(report.graph.widths, kept, strict=True))
        assert cost(data["sizes"], kept) == report.graph.params(widths)
        assert cost(data["operations"], kept) == report.graph.macs(widths)


def test_what_thresholds_are_compared_with_is_exact() -> None:
    report = made_report()
    for group, stored in zip(report.groups, payload(report)["groups"], strict=True):
        assert array(stored["figures"]["leaving_r2"], "f8").tolist() == group.leaving_r2.tolist()
        assert array(stored["figures"]["strength"], "f8").tolist() == group.strength.tolist()
        flags = array(stored["flags"], "u1")
        for bit, name in enumerate(FLAGS):
            assert ((flags >> bit) & 1).tolist() == getattr(group, name).astype(int).tolist()
        for name, matches in group.matches.items():
            kept = stored["matches"][name]
            assert array(kept["similarity"], "f8").tolist() == matches.similarity.tolist()
            assert array(kept["teacherSimilarity"], "f8").tolist() == matches.teacher_similarity.tolist()


@pytest.mark.parametrize("own", [False, True])
def test_student_nodes_per_teacher_node(own: bool) -> None:
    report = made_report(own=own)
    group = report.groups[0]
    matches = group.matches["correlation"]
    stored = payload(report)["groups"][0]["matches"]["correlation"]["alike"]
    steps = np.split(array(stored["steps"], "u2"), np.cumsum(array(stored["counts"], "u1"))[:-1])
    table = np.where(np.eye(group.size, dtype=bool), 0, matches.table) if own else matches.table
    for level in (0.5, 0.75, 0.9):
        expected = (table >= level).sum(0)
        assert [(part >= level * FINENESS).sum() for part in steps] == expected.tolist()


def test_a_group_without_a_partner_has_no_matches() -> None:
    *_, third = payload(made_report())["groups"]
    assert third["matches"] == {}
    assert third["teacher"] is None


def test_metrics_that_compare_nodes() -> None:
    assert node_metrics(made_report()) == ["correlation", "cosine"]
    assert node_metrics(made_report(groups=())) == ["correlation"]


def test_groups_of_any_name() -> None:
    names = {"first": "__proto__", "second": "</script>"}
    data = payload(renamed(made_report(), names))
    assert [group["name"] for group in data["groups"]] == ["__proto__", "</script>", "third"]
