"""From a teacher and a student ten times too wide to a student cut to the teacher's size, on real digits.

Run it with ``make demo``; it writes to ``out/digits``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from networks import STUDENT_NODES, TEACHER_NODES
from rich.console import Console
from sklearn.datasets import load_digits
from torch import Tensor, nn
from training import NOISE, STEPS, Samples, train_student, train_teacher

import tsdistill as tsd
from tsdistill.report.curve_figure import save_l_curve
from tsdistill.report.page import save_page
from tsdistill.report.tables import curve_table, groups_table, table

HERE = Path(os.path.relpath(Path(__file__).parent))
COMMAND = os.path.relpath(Path(sys.executable).parent / "tsdistill")
TRAINING = 1297
OBSERVED = 4096

RELOAD = """
import hashlib, sys
import numpy as np, torch, tsdistill
model = tsdistill.load(sys.argv[1], arch=sys.argv[2])
with torch.no_grad():
    output = model(torch.from_numpy(np.load(sys.argv[3])["x"]))
print(hashlib.sha256(output.numpy().tobytes()).hexdigest())
"""


def main() -> None:
    """Train, look, cut, write, load again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/digits"), help="folder for what is written")
    parser.add_argument(
        "--steps",
        type=int,
        default=STEPS,
        help="training steps of the student; with few it has not specialised",
    )
    options = parser.parse_args()
    run(options.out, options.steps)


def run(out: Path, steps: int) -> None:
    """The demo, written to ``out``, with ``steps`` training steps of the student."""
    start = time.perf_counter()
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)

    x, y, test_x, test_y = digits()
    np.savez(out / "test.npz", x=test_x.numpy(), y=test_y.numpy())
    console.print(f"[bold]1. Data[/]: {len(x)} handwritten digits to learn from, {len(test_x)} to test on")

    console.print(f"[bold]2. Teacher[/]: {TEACHER_NODES} hidden nodes, trained on the labels")
    teacher = network("teacher", seed=0)
    train_teacher(teacher, x, y)
    console.print(f"   {accuracy(teacher, test_x, test_y):.1f} % of the test digits right")

    console.print(
        f"[bold]3. Student[/]: {STUDENT_NODES} hidden nodes, trained on the teacher's outputs for noisy "
        "digits, without a label"
    )
    student = network("student", seed=1)
    train_student(
        student, teacher, x, lambda step, loss: console.print(f"   step {step:6d}  loss {loss:.2g}"), steps
    )
    tsd.save(teacher, out / "teacher.safetensors")
    tsd.save(student, out / "student.safetensors")

    console.print("[bold]4. Which student node has learnt which teacher node?[/]")
    noisy, _ = Samples(x, NOISE, seed=3).draw(OBSERVED)
    report = tsd.analyze(
        student, teacher, data=noisy, analysis={"metric": ["correlation", "gates", "weights"]}
    )
    (group,) = report.groups
    figure = save_l_curve(report, out / "l_curve.png", title="A student of 200 nodes beside a teacher of 20")
    console.print(groups_table(report))
    console.print(curve_table(report, group))
    page = save_page(report, out / "report.html")
    console.print(f"   drawn in {figure}; to look into: {page}")

    console.print("[bold]5. Cutting[/]")
    unaligned = np.flatnonzero(~group.aligned)
    chance = np.random.default_rng(4).choice(group.size, len(unaligned), replace=False)
    example = tsd.example_input(student)
    plan = tsd.plan(report, budget={"nodes": TEACHER_NODES / STUDENT_NODES})
    small = tsd.prune(student, plan, data=noisy)
    written = out / "small.safetensors"
    tsd.save(small, written)
    rows = {
        "teacher": teacher,
        "student": student,
        "its unaligned nodes cut, nothing else changed": tsd.cut(
            student, report.graph, {group.name: unaligned.tolist()}, example
        ).model,
        "as many cut at random": tsd.cut(student, report.graph, {group.name: chance.tolist()}, example).model,
        f"pruned to {TEACHER_NODES} nodes": small,
    }
    console.print(results(rows, test_x, test_y))

    console.print("[bold]6. Loading it again, in another process[/]")
    same = reloaded(written, out / "test.npz") == digest(small, test_x)
    console.print(f"   {written}: outputs {'bit for bit the same' if same else 'differ'}")
    console.print(
        f"   look again: {COMMAND} analyze {out / 'student.safetensors'} "
        f"--arch {HERE / 'networks.py'}:student --teacher {out / 'teacher.safetensors'} "
        f"--teacher-arch {HERE / 'networks.py'}:teacher --data {out / 'test.npz'}",
        soft_wrap=True,
    )
    console.print(f"   done in {time.perf_counter() - start:.0f} s")
    if not same:
        raise SystemExit(1)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """scikit-learn's digits, shuffled and standardised: pictures and labels to learn from and to test on."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(data.data, dtype=torch.float32)[order]
    y = torch.tensor(data.target, dtype=torch.int64)[order]
    x = (x - x[:TRAINING].mean()) / x[:TRAINING].std()
    return x[:TRAINING], y[:TRAINING], x[TRAINING:], y[TRAINING:]


def network(name: str, seed: int) -> nn.Module:
    """One of the factories of ``networks.py``, loaded as the user's own code."""
    torch.manual_seed(seed)
    return tsd.load(f"{HERE / 'networks.py'}:{name}", inputs={"input_size": (64,)})


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Percent of the digits that the model gets right."""
    with torch.no_grad():
        return 100 * (model(x).argmax(1) == y).float().mean().item()


def results(models: dict[str, nn.Module], x: Tensor, y: Tensor) -> object:
    """A table with a row a model; agreement is with the student."""
    compared = tsd.compare(
        {"student": models["student"], **{k: v for k, v in models.items() if k != "student"}}, [(x, y)]
    ).to_dict()
    figures = {row["name"]: row for row in compared["models"]}
    made = table(
        f"On the {len(x)} test digits",
        "<model",
        "nodes",
        "params",
        "MACs",
        "digits right",
        "agrees with student",
    )
    for name, model in models.items():
        row = figures[name]
        nodes = next(module.out_features for module in model.modules() if isinstance(module, nn.Linear))
        made.add_row(
            name,
            str(nodes),
            f"{row['params']:,}",
            f"{row['macs']:,}",
            f"{row['metrics']['top1']:.1f} %",
            f"{row['metrics']['agreement']:.1f} %",
        )
    return made


def digest(model: nn.Module, x: Tensor) -> str:
    """A hash of the outputs' bytes."""
    with torch.no_grad():
        return hashlib.sha256(model(x).numpy().tobytes()).hexdigest()


def reloaded(path: Path, data: Path) -> str:
    """`digest` of the model in a file, from a process that has nothing but the file and the factory."""
    arguments = [str(path), f"{HERE / 'networks.py'}:student", str(data)]
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
