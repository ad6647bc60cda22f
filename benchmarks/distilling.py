"""Distillation measured: its speed, and what it makes of pruned networks.

``python benchmarks/distilling.py speed`` compares samples a second with a loop written by hand;
``python benchmarks/distilling.py pruned`` trains ResNet-20 at 0.3 and 0.2 of its MACs for 1 and 5 epochs of
Fashion-MNIST, ours beside Torch-Pruning and torchdistill. ``--images`` makes either small. What
``pruned`` has trained is kept: a run goes on where the last one was stopped.
"""

from __future__ import annotations

import argparse


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    speed = parts.add_parser("speed", help="samples a second of the same step")
    speed.add_argument("--images", type=int, default=512)
    speed.add_argument("--rounds", type=int, default=3)
    speed.add_argument("--width", type=float, default=0.7, help="of the student; 0.7 is half the operations")
    pruned = parts.add_parser("pruned", help="accuracy after a few epochs")
    pruned.add_argument("--budgets", type=float, nargs="+", default=[0.3, 0.2])
    pruned.add_argument("--epochs", type=int, nargs="+", default=[1, 5])
    pruned.add_argument("--images", type=int, help="training images an epoch; all 60,000 without it")
    pruned.add_argument("--calibration", type=int, default=2048)
    pruned.add_argument("--fresh", action="store_true", help="train anew what has been trained already")
    given = parser.parse_args()
    if given.part == "speed":
        from distilled.speed import measure as measure_speed

        lines = measure_speed(given.images, given.rounds, given.width)
    else:
        from distilled.pruned import measure as measure_pruned

        lines = measure_pruned(given.budgets, given.epochs, given.images, given.calibration, given.fresh)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
