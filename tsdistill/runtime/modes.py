"""Modes in which a model is run, and its outputs or its failure in them."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tsdistill.errors import TsdistillError
from tsdistill.models.attention import any_widths
from tsdistill.runtime.exclusive import exclusive
from tsdistill.runtime.module_state import state_restored
from tsdistill.runtime.nests import tensors
from tsdistill.runtime.quantisers import without_rounding
from tsdistill.runtime.seeds import seeded
from tsdistill.torch_private import TorchDispatchMode, named_modules_of

Inputs = Any
"""A tensor, a tuple of positional arguments, or a dict of keyword arguments."""


_OWN = tuple(
    str(Path(__file__).parents[1] / folder)
    for folder in ("alignment", "augmentation", "evaluation", "pruning", "runtime", "statistics", "tracing")
)
"""The folders of the code that runs a user's model with modes and hooks around it."""

BY_SIZES = (torch.einsum,)
"""Functions whose operators, and the order of them, hang on the sizes that they are given."""

_ALONG = ("past_", "hidden_states", "encoder_", "decoder_", "text_model_", "vision_model_", "extract_")
"""How transformers' names begin of the outputs that only show what is inside the model."""


class OperatorMode(TorchDispatchMode):
    """A mode that sees every operator of an eager forward; nothing is compiled, so the compiler stays out."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


@cache
def operator_name(func: Any) -> str:
    """The full name of an operator, such as ``"aten.view.default"``."""
    return str(func)


@contextmanager
def plain_attention(enabled: bool = False) -> Iterator[None]:
    """Turn off the fused path of ``nn.TransformerEncoderLayer``, which calls no hooks; leave it as it
    is with ``enabled``."""
    with exclusive():
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(enabled and before)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _matrix_products(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Attention and LSTMs in plain operators: fused kernels and oneDNN's hide the products inside them."""
    with ExitStack() as stack:
        stack.enter_context(plain_attention())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.LSTM) for module in modules):
            stack.enter_context(warnings.catch_warnings(action="ignore"))
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        yield


@contextmanager
def training_restored(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put the training mode of each of ``modules`` back at the end of the block."""
    before = [(module, module.training) for module in modules]
    try:
        yield
    finally:
        for module, training in before:
            _set_training(module, training)


def _set_training(module: nn.Module, training: bool) -> None:
    """Set the mode of this one module, whatever its class does when it is set; a scripted one keeps its mode
    elsewhere."""
    if isinstance(module, torch.jit.ScriptModule):
        module.training = training
    else:
        module.__dict__["training"] = training


@contextmanager
def evaluation_mode(*models: nn.Module, fast: bool = False, products: bool = False) -> Iterator[None]:
    """Evaluation mode and no gradients for the parameters inside the block; everything is put back after it.

    So is the state that modules keep of a forward (`runtime.module_state`).

    Args:
        models: the models.
        fast: run them as PyTorch does. Without it every forward inside begins with the same state, and the
            fused path of ``nn.TransformerEncoderLayer`` and ``nn.MultiheadAttention``'s own way to its last
            layer, which skip the submodules' hooks, are off.
        products: attention and LSTMs in plain operators, so that every matrix product is seen.
    """
    modules = [module for model in models for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for model in models for parameter in model.parameters()]
    with exclusive(), plain_attention(fast), ExitStack() as stack:
        if products:
            stack.enter_context(_matrix_products(modules))
        stack.enter_context(training_restored(modules))
        for model in models:
            model.eval()
            if not fast:
                stack.enter_context(any_widths(model.modules()))
            stack.enter_context(state_restored(model, each=not fast))
        try:
            for parameter, _ in gradients:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, wanted in gradients:
                parameter.requires_grad_(wanted)


@contextmanager
def plain_evaluation(model: nn.Module, *, training: bool = False, scales: bool = False) -> Iterator[None]:
    """Evaluation mode, no gradients, attention in plain operators, a fixed seed; all put back afterwards, the
    state that modules keep of their last forward, too.

    With ``training`` it is training mode instead, but for dropout in all its kinds. Fake quantisers do not
    round (with ``scales``, those of torch.ao go on with the scales that they have).

    Args:
        model: the module.
        training: training mode in place of evaluation mode.
        scales: let fake quantisers of torch.ao use the scales that they have.
    """
    modules = [module for _, module in named_modules_of(model)]
    with exclusive(), training_restored(modules), ExitStack() as stack:
        for module in modules:
            _set_training(module, training and "Drop" not in type(module).__name__)
        if not training:
            _forget(modules)
        stack.enter_context(_matrix_products(modules))
        stack.enter_context(any_widths(modules))
        stack.enter_context(state_restored(model))
        stack.enter_context(without_rounding(modules, observed_only=scales))
        stack.enter_context(seeded(0))
        stack.enter_context(torch.no_grad())
        yield


@contextmanager
def evaluation_in_use(model: nn.Module) -> Iterator[None]:
    """Evaluation as a user runs it: inference mode, the kernels that PyTorch chooses; a fixed seed."""
    with exclusive(), training_restored(model.modules()), seeded(0), torch.inference_mode():
        model.eval()
        yield


def _forget(modules: Iterable[nn.Module]) -> None:
    """Let modules that cache tensors between evaluations drop them, as they do when training begins."""
    for module in modules:
        if type(module).train is nn.Module.train:
            continue
        for name, value in vars(module).items():
            if type(value) is not dict or not value or name in ("_parameters", "_buffers", "_modules"):
                continue
            if all(isinstance(v, torch.Tensor) for v in value.values()):
                module.train(True)
                module.train(False)
                break


def factor(op: str, args: Sequence[Any]) -> float | None:
    """The number that operator ``op`` multiplies a tensor by, where it is a fraction; None for others."""
    if not op.startswith(("aten.mul", "aten.div")) or len(args) < 2 or type(args[1]) is not float:
        return None
    return args[1] if op.startswith("aten.mul") else 1 / args[1] if args[1] else None


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Call ``model`` on a tensor, a tuple of arguments or a dict of keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)


def run(model: nn.Module, inputs: Inputs) -> list[torch.Tensor]:
    """All tensors of the model's output, in order.

    Raises:
        TsdistillError: the model's forward fails.
    """
    return tensors(judged(guarded(model, inputs)))


def guarded(model: nn.Module, inputs: Inputs) -> Any:
    """The model's output.

    Raises:
        TsdistillError: the model's forward fails.
        OwnFault: the code of this package that runs around it fails.
    """
    try:
        return call(model, inputs)
    except TsdistillError:
        raise
    except Exception as error:
        raise forward_failure(
            error, f"the model's forward fails on the example input: {first_line(error)}"
        ) from error


class OwnFault(TsdistillError):
    """An exception of the code that follows a model, not of the model: its message names type and place."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"tsdistill itself fails while it follows the model: {cause}; please report it with the model"
        )


def forward_failure(error: BaseException, message: str) -> TsdistillError:
    """What is raised for an ``error`` of a forward: ``message``, or `OwnFault` where code of this package
    raised it."""
    place = _own_fault(error)
    return TsdistillError(message) if place is None else OwnFault(f"{first_line(error)} in {place}")


def _own_fault(error: BaseException) -> str | None:
    """Where in this package ``error`` was raised, as ``file:line``; None where the model or an operator that
    it called raised it.

    The frames of this package that run the operator which the model called (and the function of torch that
    it called) only pass on what that raises.
    """
    chain = list(traceback.walk_tb(error.__traceback__))
    own = [place for place, (frame, _) in enumerate(chain) if frame.f_code.co_filename.startswith(_OWN)]
    if not own:
        return None
    frame, line = chain[own[-1]]
    name, inner = frame.f_code.co_name, [each for each, _ in chain[own[-1] + 1 :]]
    if name in ("call", "guarded", "forward", "spy") or (name == "__torch_function__" and not inner):
        return None
    if inner and inner[0].f_locals.get("self") is frame.f_locals.get("func", frame):
        return None
    return f"{Path(frame.f_code.co_filename).name}:{line}"


def judged(output: Any) -> Any:
    """What an output is compared by: all of it; of the outputs of transformers, without what comes along."""
    if not isinstance(output, Mapping) or not type(output).__module__.startswith("transformers."):
        return output
    judged = {name: value for name, value in output.items() if not name.startswith(_ALONG)}
    return judged if tensors(judged) else output


def first_line(error: BaseException) -> str:
    """The type and first line of an exception."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
