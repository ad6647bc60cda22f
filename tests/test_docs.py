"""The examples of docs/plugins.md, installed as plugins and used."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tsdistill.distillation.run_folder import FILES
from tsdistill.models.files.header import Header, dump
from tsdistill.models.info import ModelInfo
from tsdistill.models.replacements import Replacement
from tsdistill.pruning.plan_file import PruningPlan

ROOT = Path(__file__).parents[1]

USE = """
import torch
import tsdistill as tsd

torch.manual_seed(0)
model = tsd.load("tiny:6")
chosen = {"metric": ["covariance", "winners"]}
report = tsd.analyze(model, data="ramps:50", analysis=chosen, inputs={"augment": "noise"})
assert (report.metric, report.samples, report.failed) == ("covariance", 50, {}), report
winners = report.groups[0].matches["winners"].table
assert winners.diagonal().max() == 1 and winners.sum() == winners.diagonal().sum(), winners
confidence = tsd.evaluate(model, torch.randn(20, 4), ["confidence"])["confidence"]
assert 50 <= confidence <= 100, confidence
boxes = [{"boxes": torch.tensor([[0.0, 0, 4, 4]])}, {"boxes": torch.tensor([[0.0, 0, 2, 4], [1.0, 0, 3, 4]])}]
targets = [{"boxes": torch.tensor([[0.0, 0, 4, 2]])}, {"boxes": torch.zeros(0, 4)}]
from tsdistill.distillation.losses import Step, parse
y, ranks = torch.randn(9, 4), parse("ranks:scale=2")
assert abs(ranks(Step(None, None, 3 * y + 1, y, model))) < 1e-4 < ranks(Step(None, None, -y, y, model)) - 3.9
detector = type("Detector", (torch.nn.Module,), {"forward": lambda self, x: boxes})()
assert tsd.evaluate(detector, [(torch.zeros(2, 3, 8, 8), targets)], ["iou"]) == {"iou": 50}
group = tsd.plan(report, budget={"nodes": 0.5}, selection={"importance": "spread"}).groups["0"]
assert group.removed == tuple(model[0].weight.std(1).argsort()[:3].tolist()), group
energy = tsd.plan(report, budget={"energy": 0.6})
assert 0 < energy.after["nodes"] < energy.before["nodes"] and "0.6 of the energy" in energy.budget, energy
class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Linear(4, 4) for _ in range(3))
    def forward(self, x):
        x = self.b(torch.ops.docs.softcap(self.a(x)))
        return self.c(x) * torch.ops.docs.mean_of_squares(x)[:, None]
graph = tsd.trace(Own().eval(), torch.zeros(1, 4))
assert graph.widths == {"a": 4}, graph
from tsdistill.cli.lazy_group import imported
place = tsd.plugins.items("command")["shout"].place
imported(place, "shout")(["quiet"], standalone_mode=False)
done = tsd.export(model, "small.npz")
assert (done.format, done.check.by, done.check.batches) == ("NumPy", "NumPy", (1, 3, 2)), done
print("all used")
"""


def test_every_example_works_as_an_installed_plugin(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    assert len(blocks) == 13
    info = tmp_path / "examples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    entries = "".join(f"example{n} = docs_example{n}\n" for n in range(len(blocks)))
    (info / "entry_points.txt").write_text(f"[tsdistill]\n{entries}")
    for n, block in enumerate(blocks):
        (tmp_path / f"docs_example{n}.py").write_text(block)
    names = ",".join(f"example{n}" for n in range(len(blocks)))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "TSDISTILL_PLUGINS": names}
    done = subprocess.run(
        [sys.executable, "-c", USE], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.stdout == "QUIET\nall used\n", done.stderr


def _fields_of(section: str) -> set[str]:
    text = (ROOT / "docs" / "files.md").read_text()
    part = text.partition(f"\n## {section}")[2].partition("\n## ")[0]
    return {
        name
        for row in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
        for name in re.findall(r"`(.*?)`", row)
    }


def test_the_format_of_models_is_documented_field_by_field() -> None:
    replaced = (Replacement("layer1.0", 0, passes=True),)
    header = json.loads(dump(Header(ModelInfo(arch="timm:resnet18"), replaced=replaced)))
    assert _fields_of("Models") == set(header)


def test_the_format_of_plans_is_documented_field_by_field() -> None:
    costs = {"params": 1, "macs": 1, "nodes": 1}
    plan = PruningPlan("timm:resnet18", "macs 0.5", True, "noise", {}, costs, costs)
    assert _fields_of("Plans") == set(plan.to_dict()) - {"format", "kind"}


def test_every_file_of_a_run_is_documented() -> None:
    assert _fields_of("Folders of runs") == set(FILES)


def test_the_architecture_page_lists_every_folder() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    folders = {file.parent.name for file in (ROOT / "tsdistill").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"`(\w+)/`", text))
