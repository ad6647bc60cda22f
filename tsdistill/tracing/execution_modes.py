"""Whether a cut model runs in the modes that its user runs it in."""

from __future__ import annotations

from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.modes import Inputs, evaluation_in_use, plain_evaluation, run
from tsdistill.runtime.unchanged import preserved_models
from tsdistill.tracing.cut_verification import LENIENT, difference
from tsdistill.tracing.model_copy import deepcopy_model
from tsdistill.tracing.training_only import runs_in_training


def failure_in_use(
    small: nn.Module, model: nn.Module, inputs: Inputs, *, training: bool = True
) -> str | None:
    """What fails when a user runs ``small`` and does not when the user runs ``model``; None if nothing does.

    The checks of a cut run plain operators, because these can be followed. A user's forward takes the fused
    path of ``nn.TransformerEncoderLayer``, and trains. ``model`` is run only where ``small`` fails. Both are
    left as they were.

    Args:
        small: the cut model.
        model: the model that it was cut from.
        inputs: one input (batch 1); training mode gets it twice where once is not enough.
        training: whether training mode is tried, too. It need not be where no code but PyTorch's own modules
            reads the mode: then the same operators run in both, but for dropout and the statistics of norms.
    """
    with preserved_models(small, model):
        cause = _evaluation_failure(small, inputs)
        if cause is not None and _evaluation_failure(model, inputs) is None:
            return f"in inference mode, with the kernels that PyTorch chooses, {cause}"
        if (
            training
            and not runs_in_training(small, inputs)
            and runs_in_training(deepcopy_model(model), inputs)
        ):
            return "its forward fails in training mode"
    return None


def _evaluation_failure(model: nn.Module, inputs: Inputs) -> str | None:
    """The error of a forward with fused kernels, or how far its outputs are from those of plain operators."""
    try:
        with evaluation_in_use(model):
            output = run(model, inputs)
    except TsdistillError as error:
        return str(error)
    if not any(isinstance(module, nn.MultiheadAttention) for module in model.modules()):
        return None  # the same operators ran before
    with plain_evaluation(model):
        wanted = run(model, inputs)
    return difference([tensor.clone() for tensor in output], wanted, LENIENT)
