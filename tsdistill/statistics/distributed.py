"""Several processes on one observation: every one takes its share of the batches, all end with the same sums.

Nothing here does anything in a job of one process. Batches are dealt in turn, so that which positions are
looked at, and in which batch, does not depend on how many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tsdistill.runtime.nests import count
from tsdistill.statistics.centred_sums import CentredSums
from tsdistill.statistics.covariance import RunningCovariance

T = TypeVar("T")


def size() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process."""
    return dist.get_rank() if size() > 1 else 0


def shared_batches(batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[int, int, tuple[Any, Any]]]:
    """The batches ``(x, y)`` that this process takes, each with its number and how many samples come before
    it."""
    first = 0
    for index, (x, y) in enumerate(batches):
        if index % size() == rank():
            yield index, first, (x, y)
        first += count(x)


def total(number: int) -> int:
    """A number summed over all processes."""
    return sum(gather(number))


def gather(value: T) -> list[T]:
    """What every process has, in the order of their numbers."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values


def from_first_process(value: T) -> T:
    """What the first process says."""
    return gather(value)[0]


def sum_over_processes(tensor: Tensor) -> Tensor:
    """A float64 tensor summed over all processes."""
    if size() == 1:
        return tensor
    place = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
    moved = tensor.to(place)
    dist.all_reduce(moved)
    return moved.to(tensor.device)


def sum_all_over_processes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float64 tensors by name summed over all processes, whichever of them have one of that name."""
    if size() == 1:
        return dict(tensors)
    parts = gather({name: tensor.cpu() for name, tensor in tensors.items()})
    names = sorted({name for part in parts for name in part})
    return {name: torch.stack([part[name] for part in parts if name in part]).sum(0) for name in names}


def combine(sums: Mapping[str, CentredSums]) -> None:
    """Replace every process's sums by those over all processes.

    Means first, then everything about the common mean, in one all-reduce each: what is communicated is as
    large as the sums themselves.
    """
    if size() == 1:
        return
    device = next((each.means[0].device for each in sums.values() if each.n), torch.device("cpu"))
    everybody = gather({key: (each.n, _widths(each)) for key, each in sums.items() if each.n})
    for key in sorted({key for each in everybody for key in each}):
        seen = [each[key] for each in everybody if key in each]
        if not sums[key].n:
            _fill(sums[key], seen[0][1], device)
        _combine(sums[key], sum(n for n, _ in seen))


def _widths(sums: CentredSums) -> tuple[int, ...]:
    return tuple(len(mean) for mean in sums.means)


def _combine(sums: CentredSums, n: int) -> None:
    """Sums over all processes, which have seen ``n`` samples together."""
    assert sums.products is not None
    common = [sum_over_processes(mean * sums.n) / n for mean in sums.means]
    steps = [mean - centre for mean, centre in zip(sums.means, common, strict=True)]
    sums.squares = [
        sum_over_processes(square + sums.n * step**2)
        for square, step in zip(sums.squares, steps, strict=True)
    ]
    sums.products = sum_over_processes(sums.products + sums.n * torch.outer(steps[0], steps[-1]))
    sums.own = [
        sum_over_processes(own + sums.n * torch.outer(step, step))
        for own, step in zip(sums.own, steps, strict=False)
    ]
    sums.means, sums.n = common, n


def _fill(sums: CentredSums, widths: tuple[int, ...], device: torch.device) -> None:
    def zeros(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.float64, device=device)

    sums.means = [zeros(width) for width in widths]
    sums.squares = [zeros(width) for width in widths]
    sums.products = zeros(widths[0], widths[-1])
    sums.own = [zeros(width, width) for width in widths] if sums.full else []


def combine_covariances(running: Mapping[str, RunningCovariance]) -> None:
    """`combine` for the statistics of sites; the kept samples are those of the first process that has
    some."""
    if size() == 1:
        return
    for each in running.values():
        each.settle()
    combine({key: each.sums for key, each in running.items()})
    parts = gather(
        {
            key: (each.probe, each.positive, each.lowest)
            for key, each in running.items()
            if each.probe is not None
        }
    )
    for key, each in running.items():
        seen = [part[key] for part in parts if key in part]
        if seen:
            device = each.sums.means[0].device
            each.probe = seen[0][0].to(device)
            each.positive = _reduce(torch.add, [part[1] for part in seen], device)
            each.lowest = _reduce(torch.minimum, [part[2] for part in seen], device)


def _reduce(by: Callable[[Tensor, Tensor], Tensor], parts: list[Any], device: torch.device) -> Tensor:
    result: Tensor = parts[0].to(device)
    for part in parts[1:]:
        result = by(result, part.to(device))
    return result
