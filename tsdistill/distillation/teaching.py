"""The teacher's side of a step: its outputs, run or read back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.distillation.losses import Features
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.forward import main_output
from tsdistill.files import replacing
from tsdistill.tracing import runtime
from tsdistill.tracing.runtime import plain_attention

Within = Callable[[], AbstractContextManager[Any]]
Taught = tuple[Tensor | None, Mapping[str, Tensor]]


class NoTeacher:
    """Nobody teaches."""

    teacher: nn.Module | None = None

    def __call__(self, x: Any, index: Tensor | None) -> Taught:
        """Neither outputs nor features."""
        return None, {}


class Teaching:
    """A teacher in eval mode and without gradients.

    Args:
        teacher: on the device of the samples.
        taps: places whose features losses read.
        within: the context of its forward, such as autocast.
    """

    def __init__(self, teacher: nn.Module, taps: Sequence[str] = (), within: Within = nullcontext) -> None:
        self.teacher: nn.Module | None = teacher
        self._run = teacher.eval()
        self._within = within
        self._features = Features(teacher, taps, "teacher") if taps else None

    def __call__(self, x: Any, index: Tensor | None) -> Taught:
        """The main output in float32, ``[N, classes]``, and the features by place."""
        with torch.no_grad(), self._within():
            if self._features is None:
                return main_output(runtime.call(self._run, x)).float(), {}
            with self._features, plain_attention():
                output = main_output(runtime.call(self._run, x)).float()
            return output, self._features.seen


class CachedTeaching:
    """A teacher that is asked once for each sample; its outputs are kept in a file by sample number.

    A batch of which every output is known costs a read. What was computed before a process was killed is
    still there after it; what was half written is computed again. Processes of one machine (or with one file
    system) share the file.

    Args:
        teaching: what computes outputs that are not known.
        folder: where ``teacher.npy`` (float32 ``[samples, classes]``), ``teacher.known.npy`` and
            ``teacher.json`` lie.
        samples: how many numbers there are.
        identity: what the outputs depend on; files of another identity are replaced.
        writes: whether this process makes the files.
        barrier: waits for the other processes.

    Raises:
        TsdistillError: the files cannot be made, for want of space.
    """

    def __init__(
        self,
        teaching: Teaching,
        folder: Path,
        samples: int,
        identity: Mapping[str, Any],
        writes: bool = True,
        barrier: Callable[[], None] = lambda: None,
    ) -> None:
        self.teacher: nn.Module | None = None
        self._teaching, self._folder = teaching, folder
        self._samples, self._identity = samples, json.loads(json.dumps(dict(identity)))
        self._writes, self._barrier = writes, barrier
        self._outputs: np.ndarray | None = None
        self._known: np.ndarray | None = None

    def __call__(self, x: Any, index: Tensor | None) -> Taught:
        """The main output in float32, ``[N, classes]``; no features."""
        if index is None:
            raise TsdistillError("teacher outputs are kept by sample number, and these data have none")
        numbers = index.cpu().numpy()
        output: Tensor | None = None
        if self._outputs is None:
            output, _ = self._teaching(x, index)
            assert output is not None
            self._open(tuple(output.shape[1:]))
        assert self._outputs is not None
        assert self._known is not None
        if self._known[numbers].all():
            device = x.device if isinstance(x, Tensor) else None
            return torch.from_numpy(self._outputs[numbers]).to(device), {}
        if output is None:
            output, _ = self._teaching(x, index)
        assert output is not None
        self._outputs[numbers] = output.cpu().numpy()
        self._known[numbers] = True
        return output, {}

    def _open(self, shape: tuple[int, ...]) -> None:
        """Map the files, made anew where they are those of something else."""
        values, known = self._folder / "teacher.npy", self._folder / "teacher.known.npy"
        said = self._folder / "teacher.json"
        identity = {**self._identity, "shape": [self._samples, *shape]}
        if self._writes:
            try:
                same = json.loads(said.read_text(encoding="utf-8")) == identity
            except (OSError, ValueError):
                same = False
            if not same or not values.exists() or not known.exists():
                said.unlink(missing_ok=True)
                _reserve(values, (self._samples, *shape), np.float32)
                _reserve(known, (self._samples,), np.bool_)
                with replacing(said) as beside:
                    beside.write_text(json.dumps(identity) + "\n", encoding="utf-8")
        self._barrier()
        self._outputs = np.load(values, mmap_mode="r+")
        self._known = np.load(known, mmap_mode="r+")


def _reserve(path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    """An array of zeros in a file whose space is really there: a full disk would be a bus error later."""
    with replacing(path, ValueError) as beside:
        np.lib.format.open_memmap(beside, mode="w+", dtype=dtype, shape=shape).flush()
        if hasattr(os, "posix_fallocate"):
            with open(beside, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(beside))


def fingerprint(model: nn.Module) -> str:
    """A short hash of a model's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
