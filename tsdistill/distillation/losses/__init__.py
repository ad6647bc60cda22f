"""Losses by name, combinable with weights."""

from tsdistill.distillation.losses.combined import Combined, Term
from tsdistill.distillation.losses.features import Features
from tsdistill.distillation.losses.loss_protocol import Batches, Loss, PlainLoss, Step, input_of
from tsdistill.distillation.losses.loss_syntax import KIND, parse
from tsdistill.distillation.losses.output_rows import Rows, rows_of

__all__ = [
    "KIND",
    "Batches",
    "Combined",
    "Features",
    "Loss",
    "PlainLoss",
    "Rows",
    "Step",
    "Term",
    "input_of",
    "parse",
    "rows_of",
]
