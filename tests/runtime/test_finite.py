"""Values that are not finite are named, wherever in a nest they are."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.finite import checked_forward, non_finite

NAN, INFINITE = torch.tensor([1.0, float("nan")]), torch.tensor([float("-inf")])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.zeros(3), None),
        (torch.zeros(3, dtype=torch.int64), None),
        ({"a": torch.zeros(1), "b": [torch.ones(1), NAN]}, "NaN"),
        ((INFINITE,), "infinite values"),
        ("no tensor", None),
    ],
)
def test_the_kind_of_what_is_not_finite(value: Any, kind: str | None) -> None:
    assert non_finite(value) == kind


def test_the_first_layer_is_named_also_beside_scripted_parts() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sqrt()

    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    model = nn.Sequential(torch.jit.script(Part()), Root(), nn.Linear(2, 2)).eval()
    with pytest.raises(TsdistillError, match="layer '1' of the teacher"):
        checked_forward(model, -4 * torch.ones(1, 2), "teacher", "in sample 0")
