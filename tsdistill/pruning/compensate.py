"""Compensation: reading layers get the best linear prediction of removed features from the remaining ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.models.layers.layer_kind import batch_norms, from_blocks, weight_blocks
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import count
from tsdistill.statistics.centred_sums import accumulator_device
from tsdistill.statistics.covariance import Covariance
from tsdistill.statistics.linear_prediction import ridged_inverse, shrinkage, standardise
from tsdistill.statistics.linear_readers import batchnorm_after, capacities
from tsdistill.statistics.observation import Observation
from tsdistill.statistics.redundancy import Relations, relations
from tsdistill.statistics.sample_blocks import widen
from tsdistill.statistics.sites import GroupSite, ModelSites, ReaderInput
from tsdistill.torch_private import BatchNorm
from tsdistill.tracing.graph import NodeGraph


@dataclass(frozen=True, eq=False)
class Prediction:
    """How features that are removed follow from the remaining ones: ``h_R ≈ matrix h_K + constant``.

    Attributes:
        removed: int ``[R]``.
        kept: int ``[K]``.
        matrix: float64 ``[R, K]``.
        constant: float64 ``[R]``.
    """

    removed: np.ndarray
    kept: np.ndarray
    matrix: np.ndarray
    constant: np.ndarray


def predict(
    covariance: Covariance,
    site_relations: Relations,
    removed: np.ndarray,
    kept: np.ndarray,
    *,
    constant: bool = True,
) -> Prediction:
    """Predict the features ``removed`` from the features ``kept``.

    Features that do not vary become constants, multiples of a feature that stays follow it exactly; both
    stay out of the ridge regression that predicts the rest. The ridge is relative to each feature's own
    size and draws the prediction to zero, that is the readers towards their present weights.

    Args:
        covariance: statistics of the site.
        site_relations: its exact relations.
        removed: int ``[R]``.
        kept: int ``[K]``.
        constant: whether a constant can be added; if not, the regression is one through the origin.
    """
    matrix = np.zeros((len(removed), len(kept)))
    column = {int(feature): index for index, feature in enumerate(kept)}
    stays: dict[int, int] = {}
    for feature in kept.tolist():
        if not site_relations.silent[feature]:
            stays.setdefault(int(site_relations.leader[feature]), feature)
    rest = []
    for row, feature in enumerate(removed.tolist()):
        twin = stays.get(int(site_relations.leader[feature]))
        if site_relations.silent[feature] or (constant and site_relations.constant[feature]):
            continue
        if twin is not None:
            matrix[row, column[twin]] = site_relations.factor[feature] / site_relations.factor[twin]
        else:
            rest.append(row)
    if rest and len(kept):
        matrix[rest] = _regress(covariance, removed[rest], kept, constant)
    offset = covariance.mean[removed] - matrix @ covariance.mean[kept]
    offset[site_relations.silent[removed]] = 0.0
    exact = np.array(
        [
            int(site_relations.leader[f]) in stays and not (constant and site_relations.constant[f])
            for f in removed.tolist()
        ],
        dtype=bool,
    )
    offset[exact] = 0.0
    return Prediction(removed, kept, matrix, offset if constant else np.zeros(len(removed)))


def _regress(covariance: Covariance, removed: np.ndarray, kept: np.ndarray, constant: bool) -> np.ndarray:
    """Ridge regression coefficients ``[R, K]``."""
    index = np.concatenate([kept, removed])
    moments = covariance.matrix[np.ix_(index, index)]
    if not constant:
        mean = covariance.mean[index]
        moments = moments + np.outer(mean, mean)
    std = np.sqrt(np.clip(np.diag(moments), 0, None))
    std[covariance.std[index] == 0] = 0.0 if constant else std[covariance.std[index] == 0]
    scaled = standardise(moments, std)
    k = len(kept)
    ridge = shrinkage(scaled, covariance.rows)
    solved = (ridged_inverse(scaled[:k, :k], ridge, double=True) @ scaled[:k, k:]).T
    scale = np.divide(1.0, std[:k], out=np.zeros(k), where=std[:k] > 0)
    return solved * std[k:, None] * scale[None, :]


def compensate(
    model: nn.Module,
    sites: ModelSites,
    observed: Observation,
    removed: Mapping[str, np.ndarray],
    example: Any,
) -> tuple[str, ...]:
    """Add the best prediction of the removed nodes to every layer that reads them; ``model`` is changed in
    place.

    The weights for removed nodes stay as they are, to be cut afterwards: ``V_K += V_R A`` and
    ``b += V_R (μ_R − A μ_K)`` with A the prediction. A layer without a bias puts the constant into the
    running mean of the batch norm after it. Where there is none, and where the layer pads with zeros (so
    that a constant would be wrong at the border), the prediction goes through the origin.

    Args:
        model: before the cut.
        sites: its sites.
        observed: what was observed there, on this very model.
        removed: group -> nodes that are removed.
        example: an input of batch 1.

    Returns:
        names of the layers that lost nodes without compensation.
    """
    touched: dict[str, list[GroupSite]] = {}
    for name, nodes in removed.items():
        for reading in sites.readings.get(name, ()) if len(nodes) else ():
            touched.setdefault(reading.site, []).append(reading)
    layers = {sites.sites[key].module for key in touched}
    without = [name for name in layers if effective_weight(model.get_submodule(name), "bias") is None]
    norms = batchnorm_after(model, without, example) if without else {}
    readers = {key: readings[0].reader for key, readings in touched.items()}
    able = capacities(model, readers, readers, example)
    skipped = []
    for key, readings in touched.items():
        site = sites.sites[key]
        covariance = observed.covariances.get(key)
        if covariance is None or not able[key].channels:
            skipped.append(site.module)
            continue
        sink = _sink(model, site.module, norms.get(site.module)) if able[key].constants else None
        _compensate_site(model, site, covariance, _leaving(site, readings, removed), sink)
    return tuple(dict.fromkeys(skipped))


def _leaving(site: ReaderInput, readings: list[GroupSite], removed: Mapping[str, np.ndarray]) -> np.ndarray:
    """Flags ``[F]`` of the features that are removed a site."""
    gone = np.zeros(site.width, dtype=bool)
    for reading in readings:
        gone[reading.features[removed[reading.group]].reshape(-1)] = True
    return gone


def _compensate_site(
    model: nn.Module,
    site: ReaderInput,
    covariance: Covariance,
    gone: np.ndarray,
    sink: Callable[[Tensor], None] | None,
) -> None:
    weight = ReadingWeight(model.get_submodule(site.module))
    site_relations = relations(covariance)
    layout = np.arange(site.width)[:, None] if site.layout is None else site.layout
    shift = torch.zeros(weight.blocks.shape[:2], dtype=torch.float64)
    for number, block in enumerate(weight.blocks):
        first, inputs = number * block.shape[1], block.shape[1]
        here = np.flatnonzero(((layout >= first) & (layout < first + inputs)).all(1))
        out, stay = here[gone[here]], here[~gone[here]]
        if out.size == 0:
            continue
        prediction = predict(covariance, site_relations, out, stay, constant=sink is not None)
        matrix, constant = torch.from_numpy(prediction.matrix), torch.from_numpy(prediction.constant)
        for column in range(layout.shape[1]):
            left = block[:, torch.from_numpy(layout[out, column] - first)]
            block[:, torch.from_numpy(layout[stay, column] - first)] += torch.einsum(
                "ort,rk->okt", left, matrix
            )
            shift[number] += left.sum(2) @ constant
    weight.write()
    if sink is not None:
        sink(shift.reshape(-1))


def _sink(model: nn.Module, layer: str, norm: str | None) -> Callable[[Tensor], None] | None:
    """Takes a constant of the layer's outputs: its bias, or the running mean of the norm after it."""
    bias = effective_weight(model.get_submodule(layer), "bias")
    if bias is not None:
        return lambda constant: bias.write(bias.read().double().cpu() + constant)
    if norm is None:
        return None
    mean = model.get_submodule(norm).running_mean
    assert isinstance(mean, Tensor)

    def lower(constant: Tensor) -> None:
        with torch.no_grad():
            mean.copy_(mean.double().cpu() - constant)

    return lower


class ReadingWeight:
    """A layer's weight (`models.layers.effective_weights`) seen as blocks ``[outputs, inputs, taps]`` in
    float64; changes go back with ``write``.

    Attributes:
        blocks: one block per group of channels of a convolution (one block in all otherwise); block g reads
            the input channels ``g · inputs`` to ``(g + 1) · inputs - 1``.
    """

    def __init__(self, module: nn.Module) -> None:
        weight = effective_weight(module)
        assert weight is not None
        self._module, self._weight = module, weight
        self.blocks = weight_blocks(module, weight.read().double().cpu()).clone()

    @property
    def outputs(self) -> int:
        """Number of output channels over all blocks."""
        return self.blocks.shape[0] * self.blocks.shape[1]

    def write(self) -> None:
        """Put the blocks back into the layer."""
        self._weight.write(from_blocks(self._module, self.blocks, self._weight.shape))


_SAMPLES = 128
"""Samples on which batch norms are compared in both models: channels of maps have many positions a sample,
so that mean and variance are known from a few, and both models run over them in each round."""


_LARGEST = 16.0
"""Bound of the ratio of two variances, and of its inverse: beyond a factor of 4 in the standard deviation the
variance of one batch is more likely to be wrong than to say how the channel has changed."""


def match_norms(
    dense: nn.Module,
    small: nn.Module,
    graph: NodeGraph,
    removed: Mapping[str, np.ndarray],
    batches: Iterable[tuple[Any, Any]],
) -> int:
    """Let every batch norm of ``small`` give channels the mean and variance that they have in ``dense``.

    Args:
        dense: the model before the cut.
        small: the cut model; its running statistics are changed in place.
        graph: node graph of ``dense``.
        removed: group -> nodes that have left.
        batches: yields ``(x, y)``.

    Returns:
        number of norms that were looked at.
    """
    return NormInputs(dense, batches).match(small, _kept_channels(dense, graph, removed))


class NormInputs:
    """Moments of what the batch norms of a model receive on one batch (up to 128 samples).

    Args:
        dense: the model before a cut.
        batches: yields ``(x, y)``.
    """

    def __init__(self, dense: nn.Module, batches: Iterable[tuple[Any, Any]]) -> None:
        self._known: dict[str, tuple[Tensor, ...]] = {}
        self._calls: dict[str, int] = {}
        self._x = _one_batch(batches) if batch_norms(dense) else None
        if self._x is not None:
            with evaluation_mode(dense), torch.no_grad():
                _run(dense, self._keep, self._x)

    def _keep(self, name: str, norm: BatchNorm, moments: tuple[Tensor, Tensor]) -> None:
        self._calls[name] = self._calls.get(name, 0) + 1
        stored = [
            widen(value).clone() for value in (norm.running_mean, norm.running_var) if value is not None
        ]
        self._known[name] = (*moments, *stored)

    def match(self, small: nn.Module, kept: Mapping[str, Tensor] | None = None) -> int:
        """Let every batch norm of ``small`` give channels the mean and variance that they have here.

        In forward order: ``mean' = μ_s - (μ_d - mean) √q`` and ``var' + ε = (var + ε) q`` with
        ``q = σ_s² / σ_d²``, where μ and σ are those of the norm's input in the small and the dense model, and
        mean and var what the dense model has stored. What these say beyond this batch is kept, so the data
        need not look like the training data; where nothing has moved nothing changes.

        Args:
            small: a model with the same norms; its running statistics are changed in place.
            kept: norm -> indices of the channels of the dense model that it still has; all of them without.

        Returns:
            number of norms that were looked at.
        """
        if self._x is None or not batch_norms(small):
            return 0

        def follow(name: str, norm: BatchNorm, moments: tuple[Tensor, Tensor]) -> None:
            if self._calls.get(name) == 1:
                known = self._known[name]
                if kept is not None:
                    known = tuple(value[kept[name].to(value.device)] for value in known)
                _move(norm, moments, known)

        with evaluation_mode(small), torch.no_grad():
            _run(small, follow, self._x)
        return sum(number == 1 for number in self._calls.values())


def _one_batch(batches: Iterable[tuple[Any, Any]]) -> Any:
    """The first samples in one piece (the first batch alone when it is not a tensor)."""
    taken: list[Tensor] = []
    for x, _ in batches:
        if not isinstance(x, Tensor):
            return x
        taken.append(x)
        if sum(count(part) for part in taken) >= _SAMPLES:
            break
    return torch.cat(taken)[:_SAMPLES]


def _kept_channels(
    dense: nn.Module, graph: NodeGraph, removed: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    stays = {name: np.ones(norm.num_features, dtype=bool) for name, norm in batch_norms(dense).items()}
    for group in graph.groups:
        nodes = removed.get(group.name)
        for slot in group.slots if nodes is not None else ():
            owner, _, leaf = slot.param.rpartition(".")
            if leaf == "running_mean" and owner in stays:
                stays[owner][slot.coords[nodes].reshape(-1)] = False
    return {name: torch.from_numpy(np.flatnonzero(flags)) for name, flags in stays.items()}


def _run(model: nn.Module, call: Callable[[str, BatchNorm, tuple[Tensor, Tensor]], None], x: Any) -> None:
    def before(each: ModuleCall) -> None:
        assert isinstance(each.module, BatchNorm)
        call(each.name, each.module, _moments(each.args[0].detach()))

    with ModuleHooks(batch_norms(model), before=before):
        forward(model, x)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel; in float64 where the squares overflow float32."""
    x, dims = widen(x), [d for d in range(x.ndim) if d != 1]
    var, mean = torch.var_mean(x, dim=dims, correction=0)
    if not bool(torch.isfinite(var).all()) and accumulator_device(x.device) == x.device:
        var, mean = torch.var_mean(x.double(), dim=dims, correction=0)
    return mean, var


def _move(norm: BatchNorm, now: tuple[Tensor, Tensor], then: tuple[Tensor, ...]) -> None:
    """Set the running statistics of ``norm`` from its input's moments and what the dense model had."""
    mean, var, stored_mean, stored_var = then
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if mean.shape != norm.running_mean.shape:
        return
    ratio = torch.where(var > 0, now[1] / var.clamp_min(1e-30), torch.ones_like(var))
    ratio = ratio.clamp(1 / _LARGEST, _LARGEST)
    norm.running_mean.copy_(now[0] - (mean - stored_mean) * ratio.sqrt())
    norm.running_var.copy_(((stored_var + norm.eps) * ratio - norm.eps).clamp_min(0))
