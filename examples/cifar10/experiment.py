"""Over-realised students of a pruned ConvNet: are wider ones better aligned, and do they generalise better?

``python examples/cifar10/experiment.py`` trains the teacher, prunes it to its strong nodes, trains students
of 1, 2, 5 and 10 times its width on its outputs, and writes a table and two figures to ``out/cifar10``.
Killed at any moment and called again, it goes on where it was. README.md says what it does and what came out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from outcome import write_outcome
from rich.console import Console
from torch import nn

import tsdistill as tsd
from tsdistill.distillation.students import student_of
from tsdistill.distillation.tracking import Tracker
from tsdistill.evaluation import evaluate
from tsdistill.files import replacing

NETWORKS = Path(__file__).parent / "networks.py"
METRICS = ["output_mse", "agreement", "top1"]
OBSERVED = 512


@dataclass(frozen=True)
class Data:
    """One data set: its name, where it is, and how a network reads it."""

    name: str
    folder: Path
    colours: str
    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def part(self, split: str) -> str:
        """What ``tsdistill.open_data`` takes."""
        return f"{self.name}:{self.folder},split={split}"


DATA = {
    "fashion-mnist": Data(
        "fashion-mnist", Path("/usr/share/datasets/fashion-mnist"), "gray", (1, 28, 28), (0.2860,), (0.3530,)
    ),
    "cifar10": Data(
        "cifar10",
        Path("out/cifar10-data"),
        "rgb",
        (3, 32, 32),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
}


def main() -> None:
    """Read the command line and do what is not done yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", choices=list(DATA), default="fashion-mnist", help="cifar10 is downloaded")
    parser.add_argument("--data-dir", type=Path, help="where the data set is, or is put")
    parser.add_argument("--out", type=Path, default=Path("out/cifar10"), help="folder for everything written")
    parser.add_argument("--network", choices=["plain", "strided"], default="plain", help="see networks.py")
    parser.add_argument("--teacher-epochs", type=int, default=4)
    parser.add_argument("--kept", type=int, default=6, help="strong nodes that stay in each layer, of 64")
    parser.add_argument("--widths", type=float, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4, help="of the students; the step budget goes with it")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--samples", type=int, help="use so many training images, for a quick look")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    Experiment(given, console).run()


class Experiment:
    """All of it.

    Args:
        given: the command line's options.
        console: where progress is told.
    """

    def __init__(self, given: argparse.Namespace, console: Console) -> None:
        self._given, self._console, self._out = given, console, given.out
        data = DATA[given.data]
        self._data = Data(data.name, given.data_dir or data.folder, *list(vars(data).values())[2:])
        self._reading: dict[str, Any] = {"input_size": data.size, "mean": data.mean, "std": data.std}
        self._arch = f"{NETWORKS}:{given.network}_{data.colours}"

    def run(self) -> None:
        """Teacher, strong nodes, students, table and figures; what is there already is taken from there."""
        if self._data.name == "cifar10":
            _download(self._data.folder)
        dense = self._dense()
        teacher = self._strong(dense)
        (self._out / "runs").mkdir(exist_ok=True)
        for seed in self._given.seeds:
            for width in sorted(self._given.widths):
                self._student(teacher, width, seed)
        facts = {
            "data": self._data.name,
            "network": self._given.network,
            "dense": self._judged(dense, dense),
            "teacher": self._judged(teacher, dense),
            "nodes": tsd.trace(teacher, tsd.example_input(teacher)).widths,
            "budget": f"Students: {self._given.epochs} epochs of batches of {self._given.batch_size}.",
        }
        self._console.print(write_outcome(self._out, facts))

    def _dense(self) -> nn.Module:
        """The teacher 64-64-64-64, trained on the labels."""
        self._console.print(f"[bold]Teacher[/] 64-64-64-64 on {self._data.name}")
        torch.manual_seed(0)
        return tsd.train(
            tsd.load(self._arch, **self._reading),
            data=self._data.part("train"),
            out=self._out / "teacher",
            resume=True,
            epochs=self._given.teacher_epochs,
            samples=self._given.samples,
            batch_size=self._given.batch_size,
            optimizer="sgd",
            lr=0.1,
            weight_decay=5e-4,
            warmup=1 if self._given.teacher_epochs > 1 else 0,
            label_smoothing=0.05,
            augment="standard",
            report=self._tell,
        ).model

    def _strong(self, dense: nn.Module) -> nn.Module:
        """The teacher with its strong nodes only: structured pruning, the rest re-aligned without labels."""
        path = self._out / f"strong-{self._given.kept}.safetensors"
        if path.exists():
            return tsd.load(path, arch=self._arch).eval()
        self._console.print(f"[bold]Pruning[/] to the {self._given.kept} strongest nodes of each layer")
        model = dense
        for layer in reversed(tsd.trace(dense, tsd.example_input(dense)).widths):
            widths = tsd.trace(model, tsd.example_input(model)).widths
            model = tsd.prune_result(
                model,
                data=self._data.part("train"),
                nodes=str(sum(widths.values()) - widths[layer] + self._given.kept),
                only=[layer],
                min_nodes=self._given.kept,
                keep_strong=True,
                samples=min(2048, self._given.samples or 2048),
            ).model
        tsd.save(model, path)
        return tsd.load(path, arch=self._arch).eval()

    def _student(self, teacher: nn.Module, width: float, seed: int) -> None:
        """One student, trained on the teacher's outputs only; what each epoch gave is in figures.json."""
        name = f"width-{width:g}-seed-{seed}"
        folder = self._out / "runs" / name
        folder.mkdir(exist_ok=True)
        file = folder / "figures.json"
        known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"epochs": {}}
        known |= {"width": width, "seed": seed}
        made = student_of(teacher, width, seed=seed + 1)
        student, pairs = made.model, {group: group for group in made.widths}
        tracker = Tracker(student, teacher, self._observed(teacher), given=pairs)

        def look(line: Mapping[str, Any]) -> None:
            figures = {**self._judged(student, teacher), **tracker.look(f"epoch {line['epoch']}")}
            known["epochs"][str(line["epoch"])] = {"loss": line.get("loss"), **figures}
            with replacing(file) as beside:
                beside.write_text(json.dumps(known, indent=1))
            self._console.print(
                f"   {name}, epoch {line['epoch']}: evaluation loss {figures['output_mse']:.4f}, "
                f"mean best correlation {figures['alignment']:.3f}"
            )

        if len(known["epochs"]) > self._given.epochs:
            return
        if not known["epochs"]:
            look({"epoch": 0})
        tsd.distill(
            student,
            teacher,
            data=self._data.part("train"),
            out=folder,
            resume=True,
            epochs=self._given.epochs,
            samples=self._given.samples,
            batch_size=self._given.batch_size,
            loss="logits",
            optimizer="adamw",
            lr=3e-3,
            weight_decay=0.0,
            augment="standard",
            seed=seed,
            track=False,
            report=look,
        )

    def _observed(self, model: nn.Module) -> list[tuple[Any, Any]]:
        """Batches of evaluation images for alignment."""
        spec = tsd.info_of(model).input
        return list(tsd.open_data(self._data.part("test"), spec, samples=OBSERVED, batch_size=128))

    def _judged(self, model: nn.Module, reference: nn.Module) -> dict[str, float]:
        """Evaluation loss (squared error over the variance of the reference), agreement, accuracy."""
        samples = self._given.samples
        data = self._data.part("test")
        return evaluate(model, data, METRICS, reference, samples=samples, batch_size=250)

    def _tell(self, line: Mapping[str, Any]) -> None:
        self._console.print(f"   epoch {line['epoch']}: loss {line['loss']:.4f}, {line['seconds']:.0f} s")


def _download(folder: Path) -> None:
    """CIFAR-10 by torchvision, where it is not there yet."""
    from torchvision.datasets import CIFAR10

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "cifar-10-batches-py").exists():
        CIFAR10(str(folder), download=True)


if __name__ == "__main__":
    main()
