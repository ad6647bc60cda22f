"""``nn.MultiheadAttention`` whose heads together need not be as wide as what it reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F


class AnyWidthAttention(nn.MultiheadAttention):
    """Attention with the parameters and the call of ``nn.MultiheadAttention``, at whatever widths they have.

    PyTorch's own takes the width of all heads together for that of the stream, so it can lose neither by
    itself. A module gets this class when its widths have come apart (`fit_attention`).
    """

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As ``nn.MultiheadAttention.forward``; nested tensors are taken with gradients, too."""
        if query.is_nested:
            return self._nested(query, key, value, need_weights, average_attn_weights)
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._projected(query, key, value)
        bias = self._bias(attn_mask, key_padding_mask, q, k.shape[-2])
        weights = None
        if need_weights:
            weights = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
            weights = (weights if bias is None else weights + bias).softmax(-1)
            out = F.dropout(weights, self.dropout, self.training) @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            out = F.scaled_dot_product_attention(q, k, v, bias, self.dropout if self.training else 0.0)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _nested(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool,
        average_attn_weights: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention of nested tensors, sequences ``[length, features]`` in a batch, by padding them."""
        lengths = torch.tensor([len(sequence) for sequence in key.unbind()], device=key.device)
        place = torch.arange(int(lengths.max()), device=key.device)
        out, weights = self(
            *(x.to_padded_tensor(0.0) for x in (query, key, value)),
            key_padding_mask=place >= lengths[:, None],
            need_weights=need_weights,
            average_attn_weights=average_attn_weights,
        )
        sequences = zip(out.unbind(), query.unbind(), strict=True)
        return torch.nested.as_nested_tensor([row[: len(own)] for row, own in sequences]), weights

    def _projected(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """Queries, keys and values, ``[batch, heads, length, size of a head]``."""
        if self.in_proj_weight is not None:
            matrices = self.in_proj_weight.chunk(3)
        else:
            matrices = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        shifts = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        projections = [F.linear(x, w, b) for x, w, b in zip(inputs, matrices, shifts, strict=True)]
        for place, extra in ((1, self.bias_k), (2, self.bias_v)):
            if extra is not None:
                projections[place] = torch.cat(
                    [projections[place], extra.expand(len(projections[place]), -1, -1)], 1
                )
        if self.add_zero_attn:
            projections[1:] = [F.pad(x, (0, 0, 0, 1)) for x in projections[1:]]
        return [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projections]

    def _bias(
        self, hidden: torch.Tensor | None, padding: torch.Tensor | None, q: torch.Tensor, length: int
    ) -> torch.Tensor | None:
        """What is added to the logits: both masks, with nothing for keys that the module adds itself."""
        parts = []
        if hidden is not None:
            if hidden.dim() == 3:
                hidden = hidden.unflatten(0, (len(q), -1))
            parts.append(hidden)
        if padding is not None:
            parts.append(padding[:, None, None, :])
        total = None
        for part in parts:
            if part.dtype == torch.bool:
                part = torch.zeros_like(part, dtype=q.dtype).masked_fill(part, float("-inf"))
            part = F.pad(part, (0, length - part.shape[-1]))
            total = part if total is None else total + part
        return total


def fit_attention(module: nn.MultiheadAttention) -> None:
    """Set the widths that ``module`` keeps from its parameters, and its class where they have come apart."""
    packed = module.in_proj_weight is not None
    first = module.in_proj_weight if packed else module.q_proj_weight
    inner = first.shape[0] // 3 if packed else first.shape[0]
    module.embed_dim = first.shape[1]
    if packed:
        module.kdim = module.vdim = first.shape[1]
    else:
        module.kdim, module.vdim = module.k_proj_weight.shape[1], module.v_proj_weight.shape[1]
    module.head_dim = inner // module.num_heads
    apart = inner != module.embed_dim or module.out_proj.weight.shape[0] != inner
    if apart and type(module) is nn.MultiheadAttention:
        module.__class__ = AnyWidthAttention
    elif not apart and type(module) is AnyWidthAttention:
        module.__class__ = nn.MultiheadAttention  # type: ignore[assignment]
    module._qkv_same_embed_dim = packed and not isinstance(module, AnyWidthAttention)


@contextmanager
def any_widths(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let every ``nn.MultiheadAttention`` among ``modules`` run at any widths, inside the block."""
    changed = [module for module in modules if type(module) is nn.MultiheadAttention]
    same = [module._qkv_same_embed_dim for module in changed]
    try:
        for module in changed:
            module.__class__ = AnyWidthAttention
            module._qkv_same_embed_dim = False
        yield
    finally:
        for module, flag in zip(changed, same, strict=True):
            module.__class__ = nn.MultiheadAttention
            module._qkv_same_embed_dim = flag
