"""One run in a process of its own: ``python -m pinned_runs.one NAME FILE`` writes its figures as JSON."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pinned_runs.runs import RUNS


def machine() -> dict[str, Any]:
    """What the last bits of figures depend on beside the code."""
    packages = ("torch", "torchvision", "timm", "transformers", "numpy", "scipy")
    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def main() -> None:
    """Run one of `RUNS` in a new folder."""
    name, file = sys.argv[1:]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = RUNS[name](Path(folder).resolve())
    Path(file).write_text(json.dumps({"figures": figures, "machine": machine()}))


if __name__ == "__main__":
    main()
