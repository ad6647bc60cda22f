"""The checkout that is measured: its command line in a subprocess, and figures of what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from pinned_runs.digests import json_digest, tensor_digest
from pinned_runs.inputs import images

Figures = dict[str, Any]

JUDGED = 2000
"""Test images of Fashion-MNIST that accuracy is measured on: a standard error of 0.6 points at 90 %."""


def tsdistill(folder: Path, *arguments: str) -> Any:
    """Run a command of the toolkit in ``folder``.

    Returns:
        What it writes with ``--json``.

    Raises:
        RuntimeError: the command failed; the message has the end of what it wrote to stderr.
    """
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tsdistill", *arguments, "--quiet", "--json", result.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(result.read_text())


def plan_figures(plan: dict[str, Any]) -> Figures:
    """The digest of a plan, and the sizes that it leads to."""
    after = plan["after"]
    return {"plan": json_digest(plan), **{name: after[name] for name in ("params", "macs", "nodes")}}


def weight_figures(path: Path) -> Figures:
    """The digest of the tensors in a ``.safetensors`` file, and the sum of their absolute values."""
    tensors = load_file(path)
    total = sum(float(tensor.double().abs().sum()) for tensor in tensors.values())
    return {"weights": tensor_digest(tensors), "sum of |weights|": total}


@torch.no_grad()
def test_figures(model: nn.Module) -> Figures:
    """Accuracy on the first test images of Fashion-MNIST (percent), and the digest of the outputs."""
    x, y = (torch.from_numpy(array) for array in images("t10k", JUDGED))
    outputs = torch.cat([model(some) for some in x.split(100)])
    accuracy = 100 * float((outputs.argmax(1) == y).double().mean())
    return {"accuracy, %": accuracy, "outputs": tensor_digest({"outputs": outputs})}
