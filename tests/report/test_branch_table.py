from dataclasses import replace

import torch

import tsdistill as tsd
from tests.report.console import text
from tests.tracing.branch_networks import network
from tsdistill.report.branch_table import branches_table
from tsdistill.report.tables import plan_table


def test_a_row_a_branch_with_its_part_of_the_model():
    model, example = network("nested")
    branches = tsd.trace_branches(model, example, graph=tsd.trace(model, example))
    shown = text(branches_table(branches, 1000, 2 * branches[0].macs), 100)
    rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith("layer1")}
    assert set(rows) == {branch.name for branch in branches}
    assert "50.0 %" in rows["layer1.0.inner"]
    assert "layer1.0" in rows["layer1.0.inner"].split()[-1]
    assert "stem" in rows["layer1.0"]


def test_a_plan_names_the_branches_that_leave():
    model, x = network("basic")[0], torch.randn(40, 3, 9, 9)
    drop = tsd.prune_result(model, data=x, budget={"drop": "layer1.1"}, realignment={"realign": False}).plan
    assert "layer1.1" in text(plan_table(drop))
    nodes = tsd.prune_result(model, data=x, macs=0.8, realignment={"realign": False}).plan
    both = text(plan_table(replace(nodes, branches=("layer1.1",))))
    assert "layer1.1" in both
    assert "stay" in both
