"""The teacher's outputs in a training step: computed, read from a cache, or by a sharded teacher (FSDP)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.augmentation import needs_teacher, opened
from tsdistill.distillation.checksums import checksums
from tsdistill.distillation.losses import Combined, Features
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.evaluation.named_outputs import batch_outputs
from tsdistill.files import atomic_file
from tsdistill.options.option_fields import written
from tsdistill.runtime.forward import forward
from tsdistill.runtime.nests import tensors
from tsdistill.schema import LARGEST_OPTIONS
from tsdistill.untrusted import read_guard, read_text

if TYPE_CHECKING:
    from accelerate import Accelerator

FORMAT = 2
"""Version of the files of cached outputs; files of another version are computed again."""

_SMALLEST_BLOCK = 1_000_000
"""Parameters from which a module is gathered on its own: 4 MB of float32. Smaller modules are gathered with
their parent, as the latency of a collective operation would outweigh its data."""


Within = Callable[[], AbstractContextManager[Any]]
TeacherOutputs = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
"""The teacher's outputs by name (empty without a teacher), and its features by tap."""


class NoTeacher:
    """Stands in for a teacher in a training without one."""

    teacher: nn.Module | None = None

    def __call__(self, _x: Any, _index: Tensor | None) -> TeacherOutputs:
        """Neither outputs nor features."""
        return {}, {}


class TeacherForward:
    """A teacher in eval mode and without gradients.

    Args:
        teacher: on the device of the samples.
        taps: names of features that losses read.
        within: the context of its forward, such as autocast.
        inside: the model that has these features: the teacher, or the first of several.
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

    def __call__(self, x: Any, _index: Tensor | None) -> TeacherOutputs:
        """The outputs of inputs ``x`` in float32, by name, and the features by tap."""
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
    """A teacher that runs once for each sample; its outputs are cached in a file by sample number.

    A batch whose outputs are all in the file is read from it. An output counts as cached where it was
    computed from the same input, by its checksum (see `tsdistill.distillation.checksums`): samples that
    have changed, with the data or from epoch to epoch, are computed again. Outputs that were written
    before a process was killed remain valid; a partly written one is computed again. Processes of one machine
    (or with one file system) share the file.

    Args:
        teaching: computes outputs that are not in the file.
        folder: where ``teacher.npy`` (float32 ``[samples, values]``, the outputs of a sample one behind the
            other), ``teacher.known.npy`` (int64, the checksum of
            the input of each sample, 0 where its output is not there) and ``teacher.json`` (names and shapes)
            lie.
        samples: how many numbers there are.
        identity: what the outputs depend on; files of another identity are replaced.
        writes: whether this process makes the files.
        barrier: returns when all processes have called it.

    Raises:
        TsdistillError: the files cannot be made, because the disk is full.
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
                    f"{shape} for a sample of another; leave {written('cache_teacher')} out"
                )
        parts = [outputs[name].reshape(samples, -1).cpu().numpy() for name in self._shapes]
        return np.concatenate(parts, 1)

    def _split(self, values: Tensor) -> dict[str, Tensor]:
        """The inverse of `_joined`."""
        parts = values.split([math.prod(shape) for shape in self._shapes.values()], 1)
        return {
            n: part.reshape(-1, *shape) for (n, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _open(self, outputs: Mapping[str, Tensor], samples: int) -> None:
        """Map the files into memory; files of another identity are replaced.

        Args:
            outputs: of one batch, by name.
            samples: in that batch.
        """
        for name, tensor in outputs.items():
            if len(tensor) != samples:
                raise TsdistillError(
                    f"teacher outputs cannot be kept: {name} of shape {tuple(tensor.shape)} has no entry for "
                    f"each of {samples} samples; leave {written('cache_teacher')} out"
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
    """Write an array of zeros with its space allocated: a full disk would otherwise be a bus error later."""
    with atomic_file(path, ValueError) as temporary:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape).flush()
        if hasattr(os, "posix_fallocate"):
            with open(temporary, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(temporary))


def shard(teacher: nn.Module, accelerator: Accelerator, loss: Combined | None, augment: str) -> None:
    """Shard every weight of the teacher over the processes, in place (FSDP; not undone afterwards).

    A forward gathers one block after the other and frees it again, so the memory of a process is that of the
    teacher's parameters divided by the number of processes, and of one gathered block. All processes run the
    same forward at the same time; losses and augmentations that need other passes are refused.

    Args:
        teacher: on any device; the shard of a process is moved to the device of that process.
        accelerator: accelerate's object for this process.
        loss: the losses, ``None`` for those of outputs.
        augment: name of the augmentation.

    Raises:
        TsdistillError: there is one process only, PyTorch cannot shard this model, or the loss or the
            augmentation needs more of it than its outputs.
    """
    if accelerator.num_processes < 2:
        raise TsdistillError(
            f"{written('shard_teacher')} spreads a teacher over several processes; start some"
        )
    terms = () if loss is None else loss.terms
    readers = [f"the loss {term.name}" for term in terms if term.loss.needs_teacher and term.reads_features]
    if augment != "none" and needs_teacher(opened(augment)):
        readers.append(f"the augmentation {augment}")
    if readers:
        raise TsdistillError(
            f"{readers[0]} reads more of the teacher than its outputs, and a sharded teacher gives "
            f"only these; "
            f"leave {written('shard_teacher')} out, or give a loss of outputs "
            f"({written('loss', 'soft-targets')})"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    try:
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for block in _blocks(teacher):
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(teacher, mesh=mesh, reshard_after_forward=True)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        raise TsdistillError(
            f"the teacher cannot be sharded: {cause_of(error)}; leave {written('shard_teacher')} out"
        ) from error


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The smallest modules below ``model`` that have enough parameters, none within another."""
    blocks: list[nn.Module] = []
    for child in model.children():
        below = _blocks(child)
        if below:
            blocks += below
        elif sum(parameter.numel() for parameter in child.parameters()) >= _SMALLEST_BLOCK:
            blocks.append(child)
    return blocks
