from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tsdistill.errors import TsdistillError
from tsdistill.evaluation import file_size, macs, parameters
from tsdistill.models.info import ModelInfo, attach


def counted(model: nn.Module, x: torch.Tensor) -> int:
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() // 2


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, groups=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def test_by_hand() -> None:
    expected = 3 * 8 * 9 * 10 * 10 + 2 * 8 * 9 * 8 * 8 + 8 * 5
    assert macs(small_network(), torch.randn(1, 3, 10, 10)) == expected


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"]
)
def test_half_of_pytorchs_counter_attention_included(name: str) -> None:
    import timm

    model = timm.create_model(name).eval()
    x = torch.randn(1, 3, 224, 224)
    assert macs(model, x) == counted(model, x) == macs(copy.deepcopy(model), x)


def test_attention_is_counted_by_its_products() -> None:
    class Attention(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v)

    q, k, v = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 8)
    assert macs(Attention(), (q, k, v)) == 2 * 5 * 7 * 8 * 2
    assert macs(Attention(), {"q": q, "k": k, "v": v}) == 2 * 5 * 7 * 8 * 2


def test_layers_with_kernels_of_their_own_are_counted_too() -> None:
    length, width, hidden = 6, 16, 32
    block = nn.TransformerEncoderLayer(width, 4, hidden, batch_first=True)
    projections = length * width * width * 4
    assert (
        macs(block, torch.randn(1, length, width))
        == projections + 2 * length**2 * width + 2 * length * width * hidden
    )
    recurrent = nn.LSTM(8, 16, batch_first=True)
    assert macs(recurrent, torch.randn(1, length, 8)) == length * 4 * 16 * (8 + 16)


def test_the_model_is_left_as_it_was() -> None:
    model = small_network().train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    fast = torch.backends.mha.get_fastpath_enabled()
    macs(model, torch.randn(1, 3, 10, 10))
    assert [m.training for m in model] == [True, False, True, True, True, True, True]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_a_failing_forward_is_one_line_and_leaves_no_mode_behind() -> None:
    model = small_network().train()
    with pytest.raises(TsdistillError, match=r"forward .*\(1, 4, 10, 10\)") as caught:
        macs(model, torch.randn(1, 4, 10, 10))
    assert "\n" not in str(caught.value)
    assert model.training
    assert torch.is_grad_enabled()


def test_parameters_and_bytes_count_shared_weights_once(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    assert parameters(model) == 20 + 8 + 20
    assert file_size(model) == 4 * (20 + 8 + 8 + 20) + 8
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert 0 < file_size(tmp_path / "a.safetensors") - file_size(model) < 2000
    model[2].weight = model[0].weight
    assert parameters(model) == 20 + 8 + 4
    assert file_size(model) == 4 * (20 + 8 + 8 + 4) + 8
    with pytest.raises(TsdistillError, match="missing"):
        file_size(tmp_path / "missing")


def test_buffers_that_a_cut_has_changed_are_stored_too() -> None:
    model = nn.Linear(4, 4)
    model.register_buffer("scale", torch.ones(7), persistent=False)
    assert file_size(model) == 4 * 20
    attach(model, ModelInfo(buffers=("scale",)))
    assert file_size(model) == 4 * 27
