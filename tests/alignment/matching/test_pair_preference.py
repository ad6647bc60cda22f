from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.alignment.matching.traced import look, side
from tests.networks import images, residual
from tsdistill.alignment.matching.pair_preference import ALL_THE_WAY, HALVED, OTHER_KIND, pair_penalty


def _against(student: nn.Module, teacher: nn.Module, x: Tensor) -> tuple[list[str], list[str], np.ndarray]:
    (mine, ours), (theirs, others) = look(student, x), look(teacher, x)
    a, b = list(ours), list(others)
    return a, b, pair_penalty(side(student, x), mine, a, side(teacher, x), theirs, b)


def test_a_stream_rather_meets_a_stream() -> None:
    mine, theirs, table = _against(residual(), residual(width=6), images(4))
    assert mine == theirs == ["first", "stem"]
    assert np.diag(table) == pytest.approx([0, 0])
    finer = HALVED * np.log2(8 / 2)
    assert table[0, 1] == pytest.approx(OTHER_KIND + finer + ALL_THE_WAY / 2)


def test_maps_and_vectors_do_not_meet() -> None:
    pooled = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)
    )
    _, theirs, table = _against(residual(), pooled, images(4))
    assert theirs == ["0", "3"]
    assert np.isinf(table).all()


def test_heads_meet_heads_only() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3).eval()
    names, _, table = _against(model, model, torch.randn(2, 3, 160, 160))
    heads, inner = names.index("blocks.0.attn.qkv"), names.index("blocks.0.mlp.fc1")
    assert np.isinf(table[heads, inner])
    assert table[heads, heads] == 0
