"""Pruning block by block: equal widths in all blocks of a stack, fitted towards the dense model's stream."""

from tsdistill.pruning.blockwise.blockwise_pruner import (
    BlockwiseCut,
    BlockwisePruner,
    NoEqualWidths,
    blockwise_stages,
    goes_by_blocks,
)

__all__ = ["BlockwiseCut", "BlockwisePruner", "NoEqualWidths", "blockwise_stages", "goes_by_blocks"]
