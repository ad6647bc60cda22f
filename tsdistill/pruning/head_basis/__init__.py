"""Attention heads in bases of their own: an exact rewriting after which the last coordinates matter least."""

from tsdistill.pruning.head_basis.rewrite import RewrittenHeads, rewrite_heads, traced_like

__all__ = ["RewrittenHeads", "rewrite_heads", "traced_like"]
