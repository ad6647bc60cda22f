"""Stochastic gradient descent of many students on their teachers, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.engine.network_stack import Networks
from tsdistill.lab.engine.random_draws import Samples

_gate = torch.ops.aten.threshold_backward.grad_input


class BatchedStep:
    """Forward and backward pass of S networks on batches of B samples, in reused buffers.

    Activations are stored as ``[S, n_l, B]``, so that products with the weights are batched matrix products.
    The negative gradient of J = E‖y − f(x)‖²/2 with respect to a layer's pre-activation is ``_back``; a step
    adds its products with the layer's inputs to the weights.

    Args:
        networks: their weights are changed in place.
        batch: B.
        shared: whether all networks get the same inputs.
    """

    def __init__(self, networks: Networks, batch: int, shared: bool) -> None:
        self._of, self._batch, self._shared = networks, batch, shared
        self._acts = [networks.fan_in.new_empty(networks.count, n, batch) for n in networks.widths]
        self._back = [torch.empty_like(act) for act in self._acts]
        self._residual = networks.fan_in.new_empty(networks.count, networks.outputs, batch)

    def step(self, x: Tensor, y: Tensor, rate: float) -> None:
        """One step of gradient descent on a batch.

        Args:
            x: ``[B, d]`` if shared, else ``[S, B, d]``.
            y: targets ``[S, c, B]``.
            rate: step size, for the gradient of the mean over the batch.
        """
        self._forward(x)
        self._residual.copy_(y).baddbmm_(self._of.fan_out.transpose(1, 2), self._acts[-1], alpha=-1)
        self._backward(x, rate / self._batch)

    def _forward(self, x: Tensor) -> None:
        for layer, weight in enumerate(self._of.weights[:-1]):
            act = self._acts[layer]
            if layer:
                torch.bmm(weight.transpose(1, 2), self._acts[layer - 1], out=act)
            elif self._shared:
                torch.mm(weight.flatten(0, 1), x.T, out=act.flatten(0, 1))
            else:
                torch.bmm(weight, x.transpose(1, 2), out=act)
            if self._of.biases:
                act += self._of.biases[layer][:, :, None]
            act.relu_()

    def _backward(self, x: Tensor, rate: float) -> None:
        above = self._residual
        for layer in range(self._of.depth, 0, -1):
            weight, act, back = self._of.weights[layer], self._acts[layer - 1], self._back[layer - 1]
            torch.bmm(weight, above, out=back)
            _gate(back, act, 0, grad_input=back)
            weight.baddbmm_(act, above.transpose(1, 2), alpha=rate)
            if self._of.biases:
                self._of.biases[layer - 1].add_(back.sum(2), alpha=rate)
            above = back
        if self._shared:
            self._of.fan_in.flatten(0, 1).addmm_(above.flatten(0, 1), x, alpha=rate)
        else:
            self._of.fan_in.baddbmm_(above, x, alpha=rate)


CACHE_BYTES = 1 << 20
"""Bytes of weights of one part: about the second-level cache of a core (1 MiB)."""
LARGE_BYTES = 1 << 21
"""Bytes of weights of one network from which on PyTorch's threads share its matrices (2 MiB): smaller
matrices take less time than the threads' synchronisation."""
DRAW_BYTES = 1 << 25
"""Bytes of samples that are drawn at once, 32 MiB: small beside the memory of any machine."""
STEPS_A_PART = 16
"""Steps of one part of the networks before the next part is trained: its weights stay in the cache, and 16
steps repay loading them."""

Rate = float | Callable[[int], float]
RecordCallback = Callable[[int, Networks], None]
"""Called with the number of steps done and the students, which it must not change."""


def train(
    students: Networks,
    teachers: Networks,
    samples: Samples,
    *,
    steps: int,
    batch: int,
    rate: Rate,
    record: RecordCallback | None = None,
    at: Sequence[int] = (),
) -> None:
    """Train student s on the outputs of teacher s, for every s, in place.

    Each step takes ``batch`` samples and descends the gradient of J = ‖f*(x) − f(x)‖²/2, averaged over them:
    the SGD of the experiments of arXiv 1909.13458. On the CPU the stack is cut into parts whose weights fit
    into the cache of a core, and parts are trained on ``torch.get_num_threads()`` threads; results do not
    depend on the number of threads.

    Args:
        students: S networks, changed.
        teachers: S networks with the same inputs and outputs, of any depth and width.
        samples: source of the batches; continues at its present position.
        steps: number of steps.
        batch: B.
        rate: step size, or a function of the step's number.
        record: called after the steps in ``at``; 0 is before the first step.
        at: increasing numbers of steps, at most ``steps``.

    Raises:
        TsdistillError: teachers and students do not fit, or a student's weights became infinite or NaN.
    """
    _check(students, teachers, steps, batch)
    parts = _parts(students, teachers, batch, samples.shared)
    size_of = students.fan_in.element_size()
    drawn = batch * students.inputs * size_of * (1 if samples.shared else students.count)
    stops = sorted({*at, steps} if record is not None else {steps})
    done = 0
    with _Workers(len(parts), students) as workers:
        for stop in stops:
            while done < stop:
                length = min(stop - done, STEPS_A_PART, max(1, DRAW_BYTES // drawn))
                x = samples.rows(length * batch)
                rates = [rate(done + k) if callable(rate) else rate for k in range(length)]
                workers.each([(part, x, rates) for part in parts])
                done += length
            if record is not None and stop in at:
                _check_finite(students, stop)
                record(stop, students)
    _check_finite(students, steps)


def teacher_outputs(teachers: Networks, x: Tensor) -> Tensor:
    """Outputs ``[S, c, N]`` of the teachers for ``x [N, d]`` or ``[S, N, d]``."""
    return torch.bmm(teachers.fan_out.transpose(1, 2), teachers.hidden(x)[-1])


class _Part:
    """The networks ``where`` of both stacks, with the buffers of their steps."""

    def __init__(
        self, students: Networks, teachers: Networks, where: slice, batch: int, shared: bool
    ) -> None:
        self._teachers, self._where, self._batch, self._shared = teachers.some(where), where, batch, shared
        self._passes = BatchedStep(students.some(where), batch, shared)

    @torch.no_grad()
    def run(self, x: Tensor, rates: Sequence[float]) -> None:
        own = x if self._shared else x[self._where]
        wanted = teacher_outputs(self._teachers, own)
        for step, rate in enumerate(rates):
            here = slice(step * self._batch, (step + 1) * self._batch)
            self._passes.step(own[..., here, :], wanted[..., here], rate)


class _Workers:
    """Runs parts on threads, each with one thread of PyTorch; large networks one after the other.

    PyTorch's threads never share small matrices: their synchronisation costs more than it saves.
    """

    def __init__(self, parts: int, networks: Networks) -> None:
        self._before = torch.get_num_threads()
        cpu = networks.fan_in.device.type == "cpu"
        self._small = cpu and _bytes(networks) < LARGE_BYTES
        count = min(self._before, parts) if self._small else 1
        self._pool: ThreadPoolExecutor | None = None
        if count > 1:
            self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> _Workers:
        if self._small:
            torch.set_num_threads(1)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        torch.set_num_threads(self._before)

    def each(self, work: Sequence[tuple[_Part, Tensor, Sequence[float]]]) -> None:
        if self._pool is None:
            for part, x, rates in work:
                part.run(x, rates)
        else:
            for ended in [self._pool.submit(part.run, x, rates) for part, x, rates in work]:
                ended.result()


def _parts(students: Networks, teachers: Networks, batch: int, shared: bool) -> list[_Part]:
    count = most = students.count
    if students.fan_in.device.type == "cpu":
        most = max(1, min(CACHE_BYTES // _bytes(students), -(-count // 2)))
    cuts = range(0, count, most)
    return [_Part(students, teachers, slice(cut, min(cut + most, count)), batch, shared) for cut in cuts]


def _bytes(networks: Networks) -> int:
    """Size of the weights of one network, in bytes."""
    return sum(w[0].numel() for w in networks.weights) * networks.fan_in.element_size()


def _check(students: Networks, teachers: Networks, steps: int, batch: int) -> None:
    for what in ("count", "inputs", "outputs"):
        ours, teacher_widths = getattr(students, what), getattr(teachers, what)
        if ours != teacher_widths:
            raise TsdistillError(
                f"students and teachers differ in {what}: {ours} and {teacher_widths}; make them the same"
            )
    if batch < 1 or steps < 0:
        raise TsdistillError(
            f"batch {batch}, steps {steps}: give a batch of 1 or more and steps of 0 or more"
        )


def _check_finite(students: Networks, step: int) -> None:
    finite = torch.stack([w.isfinite().flatten(1).all(1) for w in students.weights]).all(0)
    lost = int((~finite).sum())
    if lost:
        raise TsdistillError(
            f"{lost} of {students.count} students diverged within {step} steps; give a smaller rate"
        )
