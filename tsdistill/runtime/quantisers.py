"""Fake quantisers (of torch.ao and torchao): models are traced and compared without their rounding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from tsdistill.torch_private import buffers_of


@contextmanager
def without_rounding(modules: Iterable[nn.Module], *, observed_only: bool = False) -> Iterator[None]:
    """Fake quantisers among ``modules`` hand on what they are given, and observers learn nothing, inside the
    block.

    A cut changes the range of weights and so how they are rounded, which says nothing about whether the cut
    is right.

    Args:
        modules: of a model.
        observed_only: observers of torch.ao learn nothing, but its quantisers go on rounding with the scales
            that they have, so that a trace sees which scale belongs to which node.
    """
    changed: list[tuple[Any, Any, Any]] = []
    flags = ("observer_enabled",) if observed_only else ("observer_enabled", "fake_quant_enabled")
    try:
        for module in modules:
            buffers = buffers_of(module)
            held = (buffers[name] for name in flags if "fake_quant_enabled" in buffers and name in buffers)
            for flag in held:
                if flag is not None:
                    changed.append((flag, None, flag.clone()))
                    flag.zero_()
            if _rounds_by_range(module):
                changed.append((module, "enabled", module.enabled))
                module.enabled = False  # type: ignore[assignment]
        yield
    finally:
        for owner, name, value in reversed(changed):
            if name is None:
                owner.copy_(value)
            else:
                setattr(owner, name, value)


def _rounds_by_range(module: nn.Module) -> bool:
    """Whether this is one of torchao's fake quantisers, which can be switched off."""
    place = "torchao.quantization.qat.fake_quantizer"
    return any(
        kind.__name__ == "FakeQuantizerBase" and kind.__module__ == place for kind in type(module).__mro__
    ) and hasattr(module, "enabled")
