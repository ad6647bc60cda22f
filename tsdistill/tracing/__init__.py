"""Which coordinates of which parameters are one node: found by running the model once, cut for real."""

from tsdistill.tracing.branch_surgery import BranchCut, remove_branches
from tsdistill.tracing.branches import Branch, trace_branches
from tsdistill.tracing.graph import Frozen, Group, NodeGraph, Reader, Slot, Term
from tsdistill.tracing.trace import Cut, cut, trace

__all__ = [
    "Branch",
    "BranchCut",
    "Cut",
    "Frozen",
    "Group",
    "NodeGraph",
    "Reader",
    "Slot",
    "Term",
    "cut",
    "remove_branches",
    "trace",
    "trace_branches",
]
