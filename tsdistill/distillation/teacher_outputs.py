"""The teacher's side of a step: its outputs, run or read back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.distillation.checksums import checksums
from tsdistill.distillation.losses import Features
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import batch_outputs
from tsdistill.files import atomic_file
from tsdistill.runtime.forward import forward
from tsdistill.runtime.nests import tensors
from tsdistill.schema import LARGEST_OPTIONS
from tsdistill.untrusted import read_guard, read_text

FORMAT = 2
"""Version of the files of cached outputs; files of another version are computed again."""

Within = Callable[[], AbstractContextManager[Any]]
TeacherOutputs = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
"""The teacher's outputs by name, none without a teacher, and its features by place."""


class NoTeacher:
    """Nobody teaches."""

    teacher: nn.Module | None = None

    def __call__(self, x: Any, index: Tensor | None) -> TeacherOutputs:
        """Neither outputs nor features."""
        return {}, {}


class TeacherForward:
    """A teacher in eval mode and without gradients.

    Args:
        teacher: on the device of the samples.
        taps: places whose features losses read.
        within: the context of its forward, such as autocast.
        inside: the model that has these places: the teacher, or of several the first.
    """

    def __init__(
        self,
        teacher: nn.Module,
        taps: Sequence[str] = (),
        within: Within = nullcontext,
        inside: nn.Module | None = None,
    ) -> None:
        self.teacher: nn.Module | None = teacher
        self._run = teacher.eval()
        self._within = within
        self._features = Features(inside or teacher, taps, "teacher") if taps else None

    def __call__(self, x: Any, index: Tensor | None) -> TeacherOutputs:
        """The outputs in float32, by name, and the features by place."""
        with torch.no_grad(), self._within():
            if self._features is None:
                return self._outputs(x), {}
            with self._features:
                outputs = self._outputs(x)
            return outputs, self._features.seen

    def _outputs(self, x: Any) -> dict[str, Tensor]:
        outputs = batch_outputs(forward(self._run, x, "teacher"), "teacher")
        return {name: tensor.float() for name, tensor in outputs.items()}


class CachedTeacher:
    """A teacher that is asked once for each sample; its outputs are kept in a file by sample number.

    A batch of which every output is known costs a read. An output is known where it was computed from the
    same input, by its checksum (see `tsdistill.distillation.checksums`): samples that have changed, with the
    data or from epoch to epoch, are computed again. What was computed before a process was killed is still
    there after it; what was half written is computed again. Processes of one machine (or with one file
    system) share the file.

    Args:
        teaching: what computes outputs that are not known.
        folder: where ``teacher.npy`` (float32 ``[samples, values]``, the outputs of a sample one behind the
            other), ``teacher.known.npy`` (int64, the checksum of
            the input of each sample, 0 where its output is not there) and ``teacher.json`` (names and shapes)
            lie.
        samples: how many numbers there are.
        identity: what the outputs depend on; files of another identity are replaced.
        writes: whether this process makes the files.
        barrier: waits for the other processes.

    Raises:
        TsdistillError: the files cannot be made, for want of space.
    """

    def __init__(
        self,
        teaching: TeacherForward,
        folder: Path,
        samples: int,
        identity: Mapping[str, Any],
        writes: bool = True,
        barrier: Callable[[], None] = lambda: None,
    ) -> None:
        self.teacher: nn.Module | None = None
        self._forward, self._folder = teaching, folder
        self._samples, self._identity = samples, json.loads(json.dumps(dict(identity)))
        self._writes, self._barrier = writes, barrier
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._values: np.ndarray | None = None
        self._known: np.ndarray | None = None

    def __call__(self, x: Any, index: Tensor | None) -> TeacherOutputs:
        """The outputs in float32, by name; no features.

        Raises:
            TsdistillError: an output has no value for each sample, or another shape than in other batches.
        """
        if index is None:
            raise TsdistillError("teacher outputs are kept by sample number, and these data have none")
        numbers = index.cpu().numpy()
        outputs: Mapping[str, Tensor] | None = None
        if self._values is None:
            outputs, _ = self._forward(x, index)
            self._open(outputs, len(numbers))
        assert self._values is not None
        assert self._known is not None
        sums = checksums(x).numpy()
        if (self._known[numbers] == sums).all():
            device = next((tensor.device for tensor in tensors(x)), None)
            return self._split(torch.from_numpy(self._values[numbers]).to(device)), {}
        if outputs is None:
            outputs, _ = self._forward(x, index)
        self._values[numbers] = self._joined(outputs, len(numbers))
        self._known[numbers] = sums
        return outputs, {}

    def _joined(self, outputs: Mapping[str, Tensor], samples: int) -> np.ndarray:
        """The values of each sample, ``[samples, values]``."""
        for name, shape in self._shapes.items():
            shape_here = tuple(outputs[name].shape)
            if shape_here != (samples, *shape):
                raise TsdistillError(
                    f"teacher outputs cannot be kept: {name} has the shape {shape_here} in one batch and "
                    f"{shape} for a sample of another; leave --cache-teacher out"
                )
        parts = [outputs[name].reshape(samples, -1).cpu().numpy() for name in self._shapes]
        return np.concatenate(parts, 1)

    def _split(self, values: Tensor) -> dict[str, Tensor]:
        """What `_joined` has joined."""
        parts = values.split([math.prod(shape) for shape in self._shapes.values()], 1)
        return {
            n: part.reshape(-1, *shape) for (n, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _open(self, outputs: Mapping[str, Tensor], samples: int) -> None:
        """Map the files, made anew where they are those of something else."""
        for name, tensor in outputs.items():
            if len(tensor) != samples:
                raise TsdistillError(
                    f"teacher outputs cannot be kept: {name} of shape {tuple(tensor.shape)} has no entry for "
                    f"each of {samples} samples; leave --cache-teacher out"
                )
        self._shapes = {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()}
        values, known = self._folder / "teacher.npy", self._folder / "teacher.known.npy"
        identity_file = self._folder / "teacher.json"
        shapes = {name: list(shape) for name, shape in self._shapes.items()}
        identity = {**self._identity, "format": FORMAT, "samples": self._samples, "outputs": shapes}
        if self._writes:
            try:
                same = json.loads(read_text(identity_file, LARGEST_OPTIONS, "")) == identity
            except (TsdistillError, ValueError, RecursionError):
                same = False
            if not same or not values.exists() or not known.exists():
                identity_file.unlink(missing_ok=True)
                width = sum(math.prod(shape) for shape in self._shapes.values())
                _reserve(values, (self._samples, width), np.float32)
                _reserve(known, (self._samples,), np.int64)
                with atomic_file(identity_file) as temporary:
                    temporary.write_text(json.dumps(identity) + "\n", encoding="utf-8")
        self._barrier()
        with read_guard(f"the teacher's outputs in {self._folder}", "remove them to compute them anew"):
            self._values = np.load(values, mmap_mode="r+", allow_pickle=False)
            self._known = np.load(known, mmap_mode="r+", allow_pickle=False)
            width = sum(math.prod(shape) for shape in self._shapes.values())
            if self._values.shape != (self._samples, width) or self._known.shape != (self._samples,):
                raise ValueError("they are of another shape")
            if self._known.dtype != np.int64:
                raise ValueError("they are of another type")


def _reserve(path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    """An array of zeros in a file whose space is really there: a full disk would be a bus error later."""
    with atomic_file(path, ValueError) as temporary:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape).flush()
        if hasattr(os, "posix_fallocate"):
            with open(temporary, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(temporary))
