"""The weight that a layer multiplies its input with, as a function of the parameters behind it."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

from tsdistill.models.layers.call_kinds import CallLayer, ComputedCall
from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.torch_private import parameters_of, pre_hooks_of, weight_norm

_BEHIND_WEIGHT = re.compile(r"\.(weight(_orig|_v|_g)?|parametrizations\.weight\.original\d*)$")

_EXACT = 1e-4
"""How far, relative to the largest entry, a weight that has been written may be from what is read then."""


class EffectiveWeight(ABC):
    """A tensor that a module computes from its parameters before it is used.

    Attributes:
        sources: names, within the module, of the parameters of the shape of the weight behind it.
    """

    sources: tuple[str, ...]

    def __init__(self, module: nn.Module, name: str) -> None:
        self._module, self._name = module, name

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return _own(self._module, self.sources[0]).shape if self.sources else self.read().shape

    @abstractmethod
    def read(self) -> Tensor:
        """The weight as the layer uses it, without an autograd graph."""

    @abstractmethod
    def write(self, value: Tensor) -> None:
        """Set the parameters so that the weight becomes ``value``, shaped as it is."""

    def writable(self) -> bool:
        """Whether `write` can make the weight anything (but where a mask forbids it)."""
        return True

    def mixable(self) -> bool:
        """Whether `write` can make the inputs of the weight mixtures of what they are, as a reader does that
        compensates for inputs that leave."""
        return self.writable()


class _Parameter(EffectiveWeight):
    """A plain parameter."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__(module, name)
        self.sources = (name,)

    def read(self) -> Tensor:
        return _own(self._module, self._name).detach()

    def write(self, value: Tensor) -> None:
        with torch.no_grad():
            _own(self._module, self._name).copy_(value)


class _Stacked(EffectiveWeight):
    """What a recurrent layer multiplies its input with: the gates' rows of its first layer, of both
    directions."""

    def __init__(self, module: nn.Module, sources: tuple[str, ...]) -> None:
        super().__init__(module, sources[0])
        self.sources = sources

    @property
    def shape(self) -> torch.Size:
        return self.read().shape

    def read(self) -> Tensor:
        return torch.cat([_own(self._module, source).detach() for source in self.sources])

    def write(self, value: Tensor) -> None:
        parts = [_own(self._module, source) for source in self.sources]
        with torch.no_grad():
            for part, new in zip(parts, value.split([len(part) for part in parts]), strict=True):
                part.copy_(new)


class _Hooked(EffectiveWeight):
    """A weight that a forward-pre-hook of the module computes and sets as an attribute."""

    def __init__(self, module: nn.Module, name: str, hook: Any) -> None:
        super().__init__(module, name)
        self._hook = hook
        self.sources = (self._source,)

    @property
    def _source(self) -> str:
        return f"{self._name}_orig"

    def write(self, value: Tensor) -> None:
        with torch.no_grad():
            self._set(value.to(self.read()))
        setattr(self._module, self._name, self.read())

    @abstractmethod
    def _set(self, value: Tensor) -> None:
        """Set the parameters."""


class _WeightNorm(_Hooked):
    """``torch.nn.utils.weight_norm``: w = g v / ‖v‖. Written as v = w, g = ‖w‖."""

    @property
    def _source(self) -> str:
        return f"{self._name}_v"

    def read(self) -> Tensor:
        length = _own(self._module, f"{self._name}_g").detach()
        return weight_norm(_own(self._module, self._source).detach(), length, self._hook.dim)

    def _set(self, value: Tensor) -> None:
        _own(self._module, self._source).copy_(value)
        _own(self._module, f"{self._name}_g").copy_(torch.norm_except_dim(value, 2, self._hook.dim))


class _Masked(_Hooked):
    """``torch.nn.utils.prune``: w = mask · original. Outputs of which a mask takes a part keep their weights:
    what is written would not be what is read."""

    def read(self) -> Tensor:
        return _own(self._module, self._source).detach() * self._mask()

    def _mask(self) -> Tensor:
        return _own(self._module, f"{self._name}_mask").detach()

    def _set(self, value: Tensor) -> None:
        kind = kind_of(self._module)
        dim = kind.output_dim if kind is not None and value.ndim > 1 else 0
        rest = [d for d in range(value.ndim) if d != dim]
        whole = self._mask().amin(rest, keepdim=True) if rest else self._mask()
        original = _own(self._module, self._source)
        original.copy_(torch.where(whole > 0, value, original))


class _SpectralNorm(_Hooked):
    """``torch.nn.utils.spectral_norm``: a weight divided by its largest singular value. It cannot be
    written: what is written would be divided, too."""

    def read(self) -> Tensor:
        with torch.no_grad():
            return self._hook.compute_weight(self._module, do_power_iteration=False).detach()

    def _set(self, value: Tensor) -> None:
        raise NotImplementedError("a weight of norm 1 cannot be set")

    def writable(self) -> bool:
        return False


class _Parametrized(EffectiveWeight):
    """``torch.nn.utils.parametrize``: written through the ``right_inverse`` of each of its steps."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__(module, name)
        shape, own = self.read().shape, self._list.named_parameters(recurse=False)
        self.sources = tuple(f"parametrizations.{name}.{leaf}" for leaf, p in own if p.shape == shape)

    @property
    def _list(self) -> Any:
        return self._module.parametrizations[self._name]  # type: ignore[index]

    def read(self) -> Tensor:
        with torch.no_grad():
            return self._list().detach()

    def write(self, value: Tensor) -> None:
        with torch.no_grad():
            self._list.right_inverse(value.to(self.read()))

    def writable(self) -> bool:
        """Whether what is written is what is read then, tried out on a copy."""
        twin = copy.deepcopy(self._list).eval()
        value = self.read()
        other = value + value.abs().mean() * torch.randn(value.shape, generator=_generator()).to(value)
        try:
            with torch.no_grad():
                twin.right_inverse(other)
                apart = (twin() - other).abs().max()
        except (NotImplementedError, RuntimeError, ValueError):  # it has no inverse, or not for all weights
            return False
        return bool(apart <= _EXACT * other.abs().max())


class _Computed(EffectiveWeight):
    """The weight of a call (`call_kinds.ComputedCall`), written through the parameter of its setting."""

    def __init__(self, module: ComputedCall) -> None:
        super().__init__(module, "weight")
        self._call = module
        self._setting = (
            module.setting if module.setting is not None and module.setting.is_of(module) else None
        )
        self.sources = () if self._setting is None else (module.name_of(self._setting.source),)

    @property
    def shape(self) -> torch.Size:
        return self._call.weight.shape

    def read(self) -> Tensor:
        return self._call.weight.detach()

    def write(self, value: Tensor) -> None:
        assert self._setting is not None
        parameter, before = _own(self._call, self.sources[0]), self.read()
        with torch.no_grad():
            new = self._setting.solve(parameter.detach(), before, value.to(before))
            parameter.copy_(new)
        self._call.set(value.to(before))

    def writable(self) -> bool:
        return self._setting is not None and self._setting.any_weight

    def mixable(self) -> bool:
        return self._setting is not None


def effective_weight(module: nn.Module, name: str = "weight") -> EffectiveWeight | None:
    """The weight (or bias) ``name`` of a layer; ``None`` where it has none, or computes it in a way that is
    not known, or is scripted."""
    if isinstance(module, torch.jit.ScriptModule):
        return None
    if parameters_of(module).get(name) is not None:
        return _Parameter(module, name)
    if isinstance(module, ComputedCall):
        return _Computed(module) if name == "weight" else None
    kind = kind_of(module)
    if kind is not None and kind.stacked:
        held = (f"{name}{suffix}" for suffix in kind.stacked)
        sources = tuple(each for each in held if parameters_of(module).get(each) is not None)
        return _Stacked(module, sources) if sources else None
    if parametrize.is_parametrized(module, name):
        return _Parametrized(module, name)
    for hook, hooked in _weight_hooks(module):
        if hooked != name:
            continue
        if isinstance(hook, BasePruningMethod):
            return _Masked(module, name, hook)
        computed = {"WeightNorm": _WeightNorm, "SpectralNorm": _SpectralNorm}.get(type(hook).__name__)
        if computed is not None:
            return computed(module, name, hook)
    return None


def parameters_behind(path: str, module: nn.Module) -> tuple[str, ...]:
    """Names, in the model, of the parameters behind the weight of the layer ``module`` at ``path``."""
    if isinstance(module, ComputedCall):
        return module.sources
    if isinstance(module, CallLayer):
        return (module.parameter,)
    weight = effective_weight(module)
    sources = () if weight is None else weight.sources
    return tuple(f"{path}.{source}" if path else source for source in sources)


def shared_parameters(model: nn.Module) -> set[int]:
    """Identities of the parameters that several modules, or several calls, of ``model`` use. Calls with a
    computed weight count as one: they are tried out together (`evaluation.computed_weights`)."""
    calls = Counter(
        m.parameter for m in model.modules() if isinstance(m, CallLayer) and not isinstance(m, ComputedCall)
    )
    calls.update({name for m in model.modules() if isinstance(m, ComputedCall) for name in m.sources})
    own = (m for m in set(model.modules()) if not isinstance(m, CallLayer))
    owners = Counter(id(p) for m in own for p in parameters_of(m).values() if p is not None)
    shared = {parameter for parameter, number in owners.items() if number > 1}
    return shared | {id(model.get_parameter(name)) for name, number in calls.items() if number > 1}


def layer_of(parameter: str) -> str:
    """The name of the layer whose ``weight`` is a parameter, or is computed from it; the parameter's own name
    where it has another."""
    return _BEHIND_WEIGHT.sub("", parameter)


def computed_attributes(module: nn.Module) -> set[str]:
    """Names of the attributes that forward-pre-hooks of ``module`` compute from its parameters."""
    return {name for _, name in _weight_hooks(module)}


def refresh(module: nn.Module) -> None:
    """Compute such attributes, of ``module`` and all below it, from the parameters as they are now."""
    for each in module.modules():
        for name in computed_attributes(each):
            weight = effective_weight(each, name)
            if weight is not None:
                setattr(each, name, weight.read())


def _weight_hooks(module: nn.Module) -> Iterator[tuple[Any, str]]:
    for hook in pre_hooks_of(module):
        if isinstance(hook, BasePruningMethod):
            yield hook, hook._tensor_name
        elif type(hook).__name__ in ("WeightNorm", "SpectralNorm") and hasattr(hook, "name"):
            yield hook, hook.name


def _own(module: nn.Module, name: str) -> Tensor:
    holder, _, leaf = name.rpartition(".")
    value = getattr(module.get_submodule(holder), leaf)
    assert isinstance(value, Tensor)
    return value


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
