"""The example plugin, really installed, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "plugins" / "tsdistill-gratings"

USE = """
import json, torch
from types import SimpleNamespace
from tsdistill import plugins
from tsdistill.models import InputSpec

x = torch.randn(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
t = 3 * x[:, :1] - 1
moments = SimpleNamespace(
    var_s=lambda: x.var(0, correction=0),
    var_t=lambda: t.var(0, correction=0),
    cov=lambda: (x - x.mean(0)).T @ (t - t.mean(0)) / len(x),
)
r2 = plugins.get("alignment metric", "r2").from_moments(moments)
counts = plugins.get("alignment metric", "overlap").start(2, 1)
counts.update(x[:300], t[:300])
rest = plugins.get("alignment metric", "overlap").start(2, 1)
rest.update(x[300:], t[300:])
counts.merge(rest)
either = ((x > 0) | (t > 0)).sum(0)
gained = plugins.get("augmentation", "gain")(torch.ones(3, 1, 2, 2), torch.Generator().manual_seed(0))
data = plugins.get("data source", "gratings")("6", InputSpec((3, 8, 8)))
y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
from tsdistill.cli.builtin_commands import COMMANDS
from tsdistill.distillation.losses import Step, parse
cosine = parse("output-cosine")
print(json.dumps({
    "cosine": [float(cosine(Step(None, None, scale * y, y, torch.nn.Identity()))) for scale in (3, -1)],
    "r2": r2.flatten().tolist(),
    "overlap": counts.finish().flatten().tolist(),
    "both": (((x > 0) & (t > 0)).sum(0) / either).tolist(),
    "gain": gained.flatten(1).std(1).tolist() + [gained.min().item(), gained.max().item()],
    "labels": [data[i][1] for i in range(len(data))],
    "shape": list(data[0][0].shape),
    "columns_equal": bool((data[0][0][0, 0] == data[0][0][0, 5]).all()),
    "commands": sorted(set(plugins.items("command")) - set(COMMANDS)),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / PACKAGE.name
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        (source / name).write_bytes((PACKAGE / name).read_bytes())
    (source / "tsdistill_gratings").mkdir()
    for file in (PACKAGE / "tsdistill_gratings").glob("*.py"):
        (source / "tsdistill_gratings" / file.name).write_bytes(file.read_bytes())
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run([*pip, "--target", str(target), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def run(target, *arguments, **environment):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT)]), **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env)


def test_hooks_work_when_installed(installed):
    done = run(installed, "-c", USE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["r2"][0] == pytest.approx(1.0)
    assert found["r2"][1] < 0.05
    assert found["overlap"] == pytest.approx(found["both"])
    assert 0.1 < found["overlap"][1] < found["overlap"][0] < 1
    assert found["gain"][:3] == [0, 0, 0]
    assert 0.5 <= found["gain"][3] < found["gain"][4] <= 1.5
    assert found["labels"] == [0, 1, 2, 3, 0, 1]
    assert found["shape"] == [3, 8, 8]
    assert found["columns_equal"]
    assert found["cosine"] == pytest.approx([0, 2], abs=1e-5)
    assert found["commands"] == ["layers"]


def test_switched_off_by_the_environment(installed):
    code = "from tsdistill import plugins; print('gratings' in plugins.names('data source'))"
    assert run(installed, "-c", code).stdout.strip() == "True"
    assert run(installed, "-c", code, TSDISTILL_PLUGINS="").stdout.strip() == "False"


def test_command_counts_parameters(installed):
    done = run(installed, "-m", "tsdistill", "layers", "timm:resnet18,pretrained=false")
    assert done.returncode == 0, done.stderr
    counts = dict(line.split() for line in done.stdout.splitlines())
    assert counts == {"Conv2d": "11,166,912", "Linear": "513,000", "BatchNorm2d": "9,600"}
