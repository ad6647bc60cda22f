"""What tracing costs, in forward passes of the same model at batch 1, beside Torch-Pruning's graph.

    python benchmarks/tracing.py [ARCHITECTURE ...]

Torch-Pruning is measured when it is installed (``pip install torch-pruning``); a dash means that it does not
get through.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import timm
import torch
from rich.console import Console
from rich.table import Table

from tsdistill.tracing import trace

ARCHITECTURES = (
    "resnet50",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "densenet121",
    "vit_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    "convnext_tiny",
    "dpn68",
)


def median(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of ``repeats`` runs after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peer(model: torch.nn.Module, x: torch.Tensor) -> None:
    """Build Torch-Pruning's dependency graph."""
    import torch_pruning

    torch_pruning.DependencyGraph().build_dependency(model, example_inputs=x)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", default=ARCHITECTURES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-peer", action="store_true", help="leave Torch-Pruning out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table("architecture", "groups", "forward, ms", "trace", "trace + trial cut", "Torch-Pruning")
    for name in arguments.architectures:
        model = timm.create_model(name).eval()
        x = torch.randn(1, *timm.data.resolve_model_data_config(model)["input_size"])
        with torch.no_grad():
            forward = median(partial(model, x), arguments.repeats)
        bare = median(partial(trace, model, x, check=False), arguments.repeats)
        checked = median(partial(trace, model, x), arguments.repeats)
        other = "–"
        if not arguments.no_peer:
            with suppress(Exception):
                other = f"{median(partial(peer, model, x), arguments.repeats) / forward:.1f}"
        groups = str(len(trace(model, x).groups))
        table.add_row(
            name, groups, f"{forward * 1e3:.0f}", f"{bare / forward:.1f}", f"{checked / forward:.1f}", other
        )
    Console(width=100).print(table, "all but the forward in forward passes at batch 1")


if __name__ == "__main__":
    main()
