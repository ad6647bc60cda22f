from __future__ import annotations

import torch
from torch import nn

from tsdistill.runtime.forward import forward, head
from tsdistill.runtime.nests import count, repeated


class Pictures(nn.Module):
    """Takes a list of pictures of any size, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, pictures: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [{"mean": self.scale * picture.mean()} for picture in pictures]


def test_a_list_of_samples_is_one_argument() -> None:
    pictures = [torch.ones(3, 4, 4), torch.zeros(3, 5, 6)]
    found = forward(Pictures(), pictures)
    assert [item["mean"].item() for item in found] == [2, 0]
    assert found[0]["mean"].dtype == torch.float64
    assert forward(Pictures(), (pictures[:1],))[0]["mean"].item() == 2
    assert count(pictures) == 2
    assert head(pictures, 1) == pictures[:1]


def test_an_example_becomes_a_batch() -> None:
    x = torch.randn(1, 3, 2)
    assert torch.equal(repeated(x, 4), x.expand(4, 3, 2))
    ids, scalar = repeated((x, torch.tensor(2.0)), 3)
    assert ids.shape == (3, 3, 2)
    assert scalar.shape == ()
    assert repeated({"x": x}, 2)["x"].shape == (2, 3, 2)
    (pictures,) = repeated(([x[0]],), 5)
    assert len(pictures) == 5
    assert count(repeated(x, 4)) == 4
