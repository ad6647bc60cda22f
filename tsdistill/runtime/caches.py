"""Caches of keys and values, which models of transformers keep between tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def without_cache(model: nn.Module) -> Iterator[None]:
    """Models of transformers give no cache of keys and values inside the block."""
    known: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    configs = {id(config): config for config in known if getattr(config, "use_cache", False)}
    for config in configs.values():
        config.use_cache = False
    try:
        yield
    finally:
        for config in configs.values():
            config.use_cache = True
