"""The demo with a student that is trained for a moment only, all the way through, in its own process."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_demo_runs_through(tmp_path: Path) -> None:
    arguments = ["examples/digits/demo.py", "--steps", "300", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "bit for bit the same" in done.stdout
    written = {"test.npz", "teacher.safetensors", "student.safetensors", "small.safetensors"}
    assert {file.name for file in tmp_path.iterdir()} == {*written, "l_curve.png", "report.html"}
    small = re.search(r"pruned to 20 nodes +(\d+) +([\d,]+)", done.stdout)
    assert small is not None
    assert small.groups() == ("20", "1,510")
    taught = re.search(r"([\d.]+) % of the test digits right", done.stdout)
    assert taught is not None
    assert float(taught.group(1)) > 95
