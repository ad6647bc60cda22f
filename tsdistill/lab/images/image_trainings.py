"""The trainings of a teacher, its pruned version and students; each resumes after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.distillation import distill, train
from tsdistill.distillation.alignment_tracker import AlignmentTracker
from tsdistill.distillation.students import student_of
from tsdistill.evaluation import evaluate
from tsdistill.files import atomic_file, made_folder
from tsdistill.lab.images.image_sets import ImageSet
from tsdistill.models import example_input, load, save
from tsdistill.pruning import prune_result
from tsdistill.tracing import trace

NETWORKS = "tsdistill.lab.images.networks"
METRICS = ["output_mse", "agreement", "top1"]
ALIGNMENT_IMAGES = 512
"""Evaluation images on which alignment is measured after each epoch: each has many positions."""

EpochCallback = Callable[[int], None]
"""Called with the number of epochs done."""


class Trainings:
    """The trainings of one experiment; results are stored in a folder and read from it when finished.

    Args:
        images: the data.
        network: ``plain`` or ``strided``, see `tsdistill.lab.images.networks`.
        folder: folder of the results.
        samples: number of training and of evaluation images; 0: all.
        batch_size: of every training.
        device: of every training.
    """

    def __init__(
        self, images: ImageSet, network: str, folder: Path, samples: int, batch_size: int, device: str
    ) -> None:
        self._images, self._folder, self._device = images, folder, device
        self._batch_size = batch_size
        self._train = images.part("train", samples, seed=0)
        self._test = images.part("test", samples, seed=0)
        self._arch = f"{NETWORKS}:{network}_{images.colours}"

    def dense(self, epochs: int, seed: int, report_epoch: EpochCallback) -> nn.Module:
        """The teacher 64-64-64-64 before it is pruned, trained on the labels by SGD.

        Args:
            epochs: number of epochs.
            seed: of the initial weights and of the order of the images.
            report_epoch: called with the number of epochs done.
        """
        look = {"input_size": self._images.size, "mean": self._images.mean, "std": self._images.std}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = load(self._arch, inputs=look, device=self._device)
        return train(
            fresh,
            data=self._train,
            out=self._built("teacher"),
            resume=True,
            options={
                "epochs": epochs,
                "batch_size": self._batch_size,
                "optimizer": "sgd",
                "lr": 0.1,
                "weight_decay": 5e-4,
                "warmup": 1 if epochs > 1 else 0,
                "label_smoothing": 0.05,
                "augment": "standard",
                "seed": seed,
                "device": self._device,
            },
            report=lambda line: report_epoch(line["epoch"]),
        ).model

    def strong(self, dense: nn.Module, kept: int, rounds: int, samples: int) -> nn.Module:
        """The teacher: the strong nodes of ``dense``, re-aligned without labels or gradient steps.

        Args:
            dense: the teacher before pruning.
            kept: nodes that stay in each layer.
            rounds: rounds of pruning.
            samples: number of training images for pruning, without labels.
        """
        path = self._folder / f"strong-{kept}.safetensors"
        if not path.exists():
            model = prune_result(
                dense,
                data=self._train.x[:samples],
                budget={"nodes": str(kept * len(self.nodes(dense)))},
                selection={"min_nodes": kept, "keep_strong": True},
                realignment={"rounds": rounds},
                inputs={"batch_size": min(128, samples)},
            ).model
            save(model, path)
        return load(path, arch=self._arch, device=self._device).eval()

    def student(
        self, teacher: nn.Module, width: float, seed: int, epochs: int, report_epoch: EpochCallback
    ) -> dict[str, Any]:
        """One student with new weights, trained on the teacher's outputs alone.

        Args:
            teacher: the pruned teacher.
            width: width relative to the teacher.
            seed: of its start and of the order of the images.
            epochs: how many.
            report_epoch: of its epochs.

        Returns:
            ``width``, ``seed`` and ``epochs``: a mapping for each epoch, from 0 on, of ``loss`` (in
            training), ``output_mse``, ``agreement``, ``top1`` (on evaluation images) and the figures of
            `tsdistill.distillation.alignment_tracker.AlignmentTracker`.
        """
        folder = self._built(f"width-{width:g}-seed-{seed}-epochs-{epochs}")
        file = folder / "figures.json"
        known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"epochs": []}
        known |= {"width": width, "seed": seed}
        if len(known["epochs"]) > epochs:
            report_epoch(epochs)
            return known
        start = student_of(teacher, width, seed=seed + 1)
        student = start.model.to(self._device)
        tracker = AlignmentTracker(
            student, teacher, self._observed(), pairs={name: name for name in start.widths}
        )

        def look(line: Mapping[str, Any]) -> None:
            figures = {**self.judged(student, teacher), **tracker.measure(f"epoch {line['epoch']}")}
            known["epochs"][line["epoch"] :] = [{"loss": line.get("loss"), **figures}]
            with atomic_file(file) as temporary:
                temporary.write_text(json.dumps(known, indent=1))
            report_epoch(line["epoch"])

        if not known["epochs"]:
            look({"epoch": 0})
        distill(
            student,
            teacher,
            data=self._train,
            out=folder,
            resume=True,
            options={
                "epochs": epochs,
                "batch_size": self._batch_size,
                "loss": "logits",
                "optimizer": "adamw",
                "lr": 3e-3,
                "weight_decay": 0.0,
                "augment": "standard",
                "seed": seed,
                "track": False,
                "device": self._device,
            },
            report=look,
        )
        return known

    def judged(self, model: nn.Module, reference: nn.Module) -> dict[str, float]:
        """Evaluation loss (squared error over the variance of the reference), agreement, accuracy."""
        return evaluate(model, self._test, METRICS, reference, inputs={"batch_size": 250})

    def nodes(self, model: nn.Module) -> dict[str, int]:
        """Number of nodes of each layer by name, in forward order."""
        return dict(trace(model, example_input(model)).widths)

    def _observed(self) -> list[tuple[Any, Any]]:
        """Batches of evaluation images for alignment."""
        return [(x.to(self._device), None) for x in self._test.x[:ALIGNMENT_IMAGES].split(128)]

    def _built(self, name: str) -> Path:
        return made_folder(self._folder / name)
