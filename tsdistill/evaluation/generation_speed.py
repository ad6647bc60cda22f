"""How fast models of language write tokens: one at a time, with a cache of what they have read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import cause_of
from tsdistill.runtime.forward import placement
from tsdistill.runtime.latency import WARM_UP, Timing, summary, synchronise
from tsdistill.runtime.modes import evaluation_mode

TOKENS_AT_ONCE = 2048
"""Tokens of the passes that are timed at most: enough to keep the matrix products busy, few enough
for seconds a pass on one core."""

_WRITTEN = 15
"""Tokens that are timed: an odd number, whose median is one of the measured times."""


def tokens_of(x: Any) -> Tensor | None:
    """The ids ``[samples, tokens]`` of a batch of text; ``None`` of anything else.

    Args:
        x: what a model of text is given: a mapping with ``input_ids``, or a tensor of whole numbers.
    """
    ids = x.get("input_ids") if isinstance(x, Mapping) else x
    whole = isinstance(ids, Tensor) and ids.ndim == 2 and ids.dtype in (torch.int64, torch.int32)
    return ids if whole else None


def decode_timings(
    models: Sequence[nn.Module], x: Any, names: Sequence[str]
) -> tuple[list[Timing], list[str]]:
    """Seconds in which each model writes one token more, behind half of a text that it has read.

    The models write in turns, so that other load of the machine affects all of them alike.

    Args:
        models: of transformers; run in evaluation mode and left as they were.
        x: a batch of text.
        names: what notes call the models.

    Returns:
        The timings, of which there are none where a model does not write text; and a note that says why.
    """
    ids = tokens_of(x)
    if ids is None or not all(_generates(model) for model in models):
        return [], []
    times: list[list[float]] = [[] for _ in models]
    with evaluation_mode(*models, fast=True), torch.no_grad():
        states = []
        for model, name in zip(models, names, strict=True):
            try:
                states.append(_Writer(model, x, ids))
                states[-1].write()
            except Exception as error:  # a forward pass may raise anything
                return [], [f"{name} does not write tokens with a cache: {cause_of(error)}"]
        for turn in range(WARM_UP - 1 + _WRITTEN):
            for state, seconds in zip(states, times, strict=True):
                taken = state.write()
                if turn >= WARM_UP - 1:
                    seconds.append(taken)
    return [summary(seconds) for seconds in times], []


def _generates(model: nn.Module) -> bool:
    can_generate = getattr(model, "can_generate", None)
    return callable(can_generate) and bool(can_generate())


class _Writer:
    """A model that has read half of a text and writes on."""

    def __init__(self, model: nn.Module, x: Any, ids: Tensor) -> None:
        self._model, self._device = model, placement(model)[0]
        ids = ids.to(self._device)
        self._fixed: dict[str, Any] = {"use_cache": True}
        if isinstance(x, Mapping) and "decoder_input_ids" in x:
            first = x["decoder_input_ids"][:, :1].to(self._device)
            output = model(input_ids=ids, decoder_input_ids=first, use_cache=True)
            self._fixed["encoder_outputs"] = (output.encoder_last_hidden_state,)
            self._argument = "decoder_input_ids"
        else:
            output = model(input_ids=ids[:, : max(1, ids.shape[1] // 2)], use_cache=True)
            self._argument = "input_ids"
        self._take(output)

    def _take(self, output: Any) -> None:
        self._cache = output.past_key_values
        if self._cache is None:
            raise ValueError("its output has no cache")
        self._next = output.logits[:, -1:].argmax(-1)

    def write(self) -> float:
        """Write one token of each text; the seconds that it took."""
        synchronise(self._device)
        start = time.perf_counter()
        output = self._model(**{self._argument: self._next}, past_key_values=self._cache, **self._fixed)
        synchronise(self._device)
        seconds = time.perf_counter() - start
        self._take(output)
        return seconds
