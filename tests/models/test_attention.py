"""``nn.MultiheadAttention`` at widths that have come apart."""

import pytest
import torch
from torch import nn

from tsdistill.models.attention import AnyWidthAttention, any_widths, fit_attention

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
OPTIONS = [
    {"batch_first": True},
    {"batch_first": False, "bias": False},
    {"batch_first": True, "add_bias_kv": True},
    {"batch_first": True, "add_zero_attn": True, "kdim": 16, "vdim": 16},
]


def made(**options) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(16, 4, **options).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("weights", [False, True])
def test_it_computes_what_torchs_own_does(options, weights):
    module = made(**options)
    calls = {"need_weights": weights, "average_attn_weights": False}
    with torch.no_grad():
        out, seen = module(X, X, X, **calls)
        with any_widths([module]):
            assert type(module) is AnyWidthAttention
            again, seen_again = module(X, X, X, **calls)
    assert type(module) is nn.MultiheadAttention
    torch.testing.assert_close(again, out)
    assert (seen is None) == (seen_again is None)
    if seen is not None:
        torch.testing.assert_close(seen_again, seen)


@pytest.mark.parametrize("boolean", [False, True])
@pytest.mark.parametrize("per_head", [False, True])
def test_masks_hide_what_they_hide_in_torchs_own(boolean, per_head):
    module = made(batch_first=True, add_zero_attn=True)
    hidden = torch.ones(5, 5).triu(1).bool()
    hidden = hidden.expand(8, 5, 5) if per_head else hidden
    padding = torch.zeros(2, 5).bool()
    padding[1, 3:] = True
    if not boolean:
        hidden = torch.zeros(hidden.shape).masked_fill(hidden, float("-inf"))
    with torch.no_grad():
        out, _ = module(X, X, X, key_padding_mask=padding, attn_mask=hidden)
        with any_widths([module]):
            again, _ = module(X, X, X, key_padding_mask=padding, attn_mask=hidden)
    torch.testing.assert_close(again, out)


def test_a_single_sequence_without_a_batch():
    module = made()
    with torch.no_grad():
        out, seen = module(X[0], X[0], X[0])
        with any_widths([module]):
            again, seen_again = module(X[0], X[0], X[0])
    torch.testing.assert_close(again, out)
    torch.testing.assert_close(seen_again, seen)


def test_the_class_follows_the_widths():
    module = made(batch_first=True)
    module.num_heads = 2
    module.in_proj_weight = nn.Parameter(torch.randn(24, 16))
    module.in_proj_bias = nn.Parameter(torch.randn(24))
    module.out_proj.weight = nn.Parameter(torch.randn(16, 8))
    fit_attention(module)
    assert type(module) is AnyWidthAttention
    assert (module.embed_dim, module.head_dim) == (16, 4)
    assert module(X, X, X)[0].shape == X.shape
    module.in_proj_weight = nn.Parameter(torch.randn(24, 8))
    module.out_proj.weight = nn.Parameter(torch.randn(8, 8))
    fit_attention(module)
    assert type(module) is nn.MultiheadAttention


def test_a_narrow_encoder_layer_leaves_the_fused_path():
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True).eval()
    attend = layer.self_attn
    attend.num_heads = 2
    attend.in_proj_weight, attend.in_proj_bias = (
        nn.Parameter(torch.randn(24, 16)),
        nn.Parameter(torch.randn(24)),
    )
    attend.out_proj.weight = nn.Parameter(torch.randn(16, 8))
    fit_attention(attend)
    with torch.no_grad():
        fused = layer(X)
    torch.testing.assert_close(layer(X).detach(), fused)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_padded_and_nested_again():
    module = made(batch_first=True)
    sequences = [X[0], X[1, :3]]
    with torch.no_grad():
        nested = torch.nested.nested_tensor(sequences)
        with any_widths([module]):
            out, _ = module(nested, nested, nested)
        for row, sequence in zip(out.unbind(), sequences, strict=True):
            alone, _ = module(sequence[None], sequence[None], sequence[None])
            torch.testing.assert_close(row, alone[0])
