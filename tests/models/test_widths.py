import pytest
import torch
from torch import nn

from tsdistill.models import sync_widths
from tsdistill.models.files.stored_weights import place

CASES = [
    (nn.Linear(6, 4), nn.Linear(3, 2)),
    (nn.Conv1d(6, 4, 3), nn.Conv1d(3, 2, 3)),
    (nn.Conv2d(6, 4, 3), nn.Conv2d(3, 2, 3)),
    (nn.ConvTranspose2d(6, 4, 3), nn.ConvTranspose2d(3, 2, 3)),
    (nn.BatchNorm2d(6), nn.BatchNorm2d(3)),
    (nn.BatchNorm1d(6, affine=False), nn.BatchNorm1d(3, affine=False)),
    (nn.InstanceNorm2d(6, affine=True), nn.InstanceNorm2d(3, affine=True)),
    (nn.LayerNorm(6), nn.LayerNorm(3)),
    (nn.RMSNorm(6), nn.RMSNorm(3)),
    (nn.GroupNorm(3, 6), nn.GroupNorm(3, 3)),
    (nn.Embedding(5, 6), nn.Embedding(5, 3)),
    (nn.PReLU(6), nn.PReLU(3)),
    (nn.Bilinear(6, 5, 4), nn.Bilinear(3, 2, 1)),
]


@pytest.mark.parametrize(("wide", "narrow"), CASES, ids=[type(wide).__name__ for wide, _ in CASES])
def test_widths_follow_tensors(wide, narrow):
    place(wide, narrow.state_dict())
    sync_widths(wide)
    assert repr(wide) == repr(narrow)


def test_grouped_convolutions_use_their_groups():
    wide, narrow = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(4, 4, 3, groups=4)
    place(wide, narrow.state_dict())
    wide.groups = 4
    sync_widths(wide)
    assert repr(wide) == repr(narrow)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(wide(x), narrow(x))
