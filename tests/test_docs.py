"""The examples of docs/plugins.md, installed as plugins and used."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

USE = """
import torch
import tsdistill as tsd

torch.manual_seed(0)
model = tsd.load("tiny:6")
report = tsd.analyze(model, data="ramps:50", metric=["covariance", "winners"], augment="noise")
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
print("all used")
"""


def test_every_example_works_as_an_installed_plugin(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)
    assert len(blocks) == 8
    info = tmp_path / "examples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    entries = "".join(f"example{n} = docs_example{n}\n" for n in range(len(blocks)))
    (info / "entry_points.txt").write_text(f"[tsdistill]\n{entries}")
    for n, block in enumerate(blocks):
        (tmp_path / f"docs_example{n}.py").write_text(block)
    names = ",".join(f"example{n}" for n in range(len(blocks)))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "TSDISTILL_PLUGINS": names}
    done = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, env=environment)
    assert done.stdout == "all used\n", done.stderr
