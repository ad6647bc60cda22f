"""A forward pass that pauses at layers, so that many batches can be at the same layer at once."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.runtime.calls import Captured
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.memory import Live
from tsdistill.runtime.nests import count
from tsdistill.torch_private import DisableTorchFunction, version_of

_on_thread = threading.local()


class _Abandoned(BaseException):
    """Ends the thread of an abandoned forward pass."""


class PausableForward:
    """The forward of one batch, run from pause to pause on a thread of its own; it and its caller never run
    at the same time.

    Args:
        model: at rest, with the hooks of ``pauses`` on it.
        x: the batch.
        capture: numbers of the calls whose results are kept.
        role: what the model is called in messages.

    Attributes:
        at: the stop where it is paused, ``None`` before the first and after the last.
        value: the tensor there.
        entered: block -> its input and that tensor's version, which tells whether it is still the same.
        instead: replaces the block's output at which it is paused.
    """

    def __init__(self, model: nn.Module, x: Any, capture: Collection[int], role: str) -> None:
        self.captured = Captured(capture)
        self.at: str | None = None
        self.value: Tensor | None = None
        self.entered: dict[str, tuple[Tensor, int]] = {}
        self.instead: Tensor | None = None
        self._failure: BaseException | None = None
        self._go, self._here = threading.Semaphore(0), threading.Semaphore(0)
        self._left = False
        self._thread = threading.Thread(target=self._run, args=(model, x, role), daemon=True)
        self._thread.start()

    def advance(self, stop: str | None) -> Tensor | None:
        """Continue to ``stop``; the tensor there (``None`` runs to the end).

        Raises:
            TsdistillError: the forward fails.
        """
        while self._thread.is_alive() and (stop is None or self.at != stop):
            self.value = None
            self._go.release()
            self._here.acquire()
            if self._failure is not None:
                raise self._failure
            if self.at is None:
                break
        return self.value if self.at == stop else None

    def replace(self, value: Tensor) -> None:
        """Continue after a block with another output, which takes the old one's place in `captured` too."""
        for number, result in self.captured.results.items():
            if result is self.value:
                self.captured.results[number] = value
        self.instead = self.value = value

    def abandon(self) -> None:
        """End the forward pass at its present pause."""
        self._left = True
        self.value = None
        self._go.release()
        self._thread.join()

    def hold(self, stop: str, value: Tensor) -> Tensor | None:
        """Called on the pass's own thread: wait at a layer. Returns the replacement of ``value``, if any."""
        self.at, self.value = stop, value
        self._here.release()
        self._go.acquire()
        if self._left:
            raise _Abandoned
        instead, self.instead = self.instead, None
        return instead

    def _run(self, model: nn.Module, x: Any, role: str) -> None:
        _on_thread.paused = self
        self._go.acquire()
        try:
            if not self._left:
                with torch.no_grad(), self.captured:
                    forward(model, x, role)
        except _Abandoned:
            pass
        except BaseException as error:  # it is raised where the pass is advanced
            self._failure = error
        finally:
            self.at = None
            self._here.release()


@contextmanager
def pauses(
    model: nn.Module, names: Collection[str], *, after: bool, blocks: Collection[str] = ()
) -> Iterator[None]:
    """Hooks at which a `PausableForward` of ``model`` pauses.

    Args:
        model: the model.
        names: pause before the module, with its first input, or ``after`` it, with its output.
        after: see there.
        blocks: pause after these; their input is recorded, and their output can be replaced.
    """
    modules = dict(model.named_modules())
    stops = {name: modules[name] for name in names}
    with (
        ModuleHooks(stops, after=_stop_behind) if after else ModuleHooks(stops, before=_stop_before),
        ModuleHooks({name: modules[name] for name in blocks}, before=_enter, after=_replace_output),
    ):
        yield


def _stop_before(call: ModuleCall) -> None:
    _hold(call.name, call.first)


def _stop_behind(call: ModuleCall) -> None:
    _hold(call.name, call.output)


def _enter(call: ModuleCall) -> None:
    paused: PausableForward | None = getattr(_on_thread, "paused", None)
    if paused is not None:
        with DisableTorchFunction():
            paused.entered[call.name] = call.args[0], version_of(call.args[0])


def _replace_output(call: ModuleCall) -> Any:
    return _hold(call.name, call.output)


def _hold(name: str, value: Any) -> Any:
    paused: PausableForward | None = getattr(_on_thread, "paused", None)
    return None if paused is None else paused.hold(name, value)


MEMORY = 2**30
"""Bytes of activations that are held at once, unless the caller says otherwise."""


class BatchScheduler:
    """Runs every batch through each model once, whatever the number of target layers.

    A paused batch occupies what both models' forwards have alive there. Where feature maps are large only the
    first batches are run; others are started, and run up to the present layer, where maps are smaller.

    Args:
        dense: the dense model, which pauses after layers.
        small: the small one, which pauses before them.
        batches: the data.
        needs: stop -> bytes a sample that are alive there, in forward order.
        memory: bytes that may be held.
        capture: numbers of the calls whose results are kept, of the small and of the dense model.
    """

    def __init__(
        self,
        dense: nn.Module,
        small: nn.Module,
        batches: Iterable[tuple[Any, Any]],
        needs: Mapping[str, int],
        memory: int,
        capture: tuple[Sequence[int], Sequence[int]],
    ) -> None:
        self._models = small, dense
        self._batches = iter(batches)
        self._memory = memory
        self._capture = capture
        self._runs: list[tuple[PausableForward, PausableForward]] = []
        self.samples = 0
        self._ahead: dict[str, int] = {}
        most = 1
        for stop, need in reversed(list(needs.items())):
            most = max(most, need)
            self._ahead[stop] = most

    def at(self, stop: str) -> Iterator[tuple[PausableForward, PausableForward]]:
        """The forward passes (small, dense) of every batch that is run at ``stop``."""
        room = self._memory / self._ahead[stop]
        while self.samples < room or not self._runs:
            x, _ = next(self._batches, (None, None))
            if x is None:
                break
            pair = [
                PausableForward(model, x, calls, role)
                for model, calls, role in zip(
                    self._models, self._capture, ("model", "dense model"), strict=True
                )
            ]
            self._runs.append((pair[0], pair[1]))
            self.samples += count(x)
        yield from self._runs

    def forget(self, small: Sequence[int | None], dense: Sequence[int | None]) -> None:
        """Release the results of calls that are not needed any more."""
        for pair in self._runs:
            for run, calls in zip(pair, (small, dense), strict=True):
                for call in calls:
                    run.captured.drop(call)

    def leave(self) -> None:
        """End every forward pass pass."""
        for pair in self._runs:
            for run in pair:
                run.abandon()
        self._runs.clear()


def alive(model: nn.Module, stops: Sequence[str], x: Any, kept: Sequence[str] = ()) -> dict[str, int]:
    """Bytes that are alive before or after each stop during one forward of ``x``; ``model`` is at rest.

    The inputs of the modules ``kept`` live until those are through.
    """
    live = Live()
    seen = dict.fromkeys(stops, 0)
    entered: dict[str, Any] = {}

    def look(call: ModuleCall) -> None:
        seen[call.name] = max(seen[call.name], live.now)

    def enter(call: ModuleCall) -> None:
        entered[call.name] = call.args

    def leave(call: ModuleCall) -> None:
        entered.pop(call.name, None)

    modules = dict(model.named_modules())
    looks = ModuleHooks({name: modules[name] for name in stops}, before=look, after=look)
    inputs = ModuleHooks({name: modules[name] for name in kept}, before=enter, after=leave)
    with looks, inputs, torch.no_grad(), live:
        forward(model, x)
    return seen
