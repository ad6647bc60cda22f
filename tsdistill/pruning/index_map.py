"""Which coordinates and nodes of the dense model those of a smaller one are, through any number of cuts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from tsdistill.models.plain_tensors import named_tensors
from tsdistill.tracing.attention_scale import ActivationGains
from tsdistill.tracing.graph import Group, NodeGraph
from tsdistill.tracing.surgery import removed_coordinates


class IndexMap:
    """Follows parameters and buffers from cut to cut.

    Attributes:
        kept: ``(parameter or buffer, dimension)`` -> int64, for every coordinate that is left the one that it
            was in the dense model.
        gains: ``(weight, dimension)`` -> float64, for every coordinate that is left how many times as large
            as there its activation is; where none are given, all are as they were.
    """

    def __init__(self, dense: nn.Module, graph: NodeGraph) -> None:
        self.gains: ActivationGains = {}
        self.kept: dict[tuple[str, int], np.ndarray] = {}
        for name, tensor in named_tensors(dense, remove_duplicate=False):
            self.kept.update({(name, dim): np.arange(side) for dim, side in enumerate(tensor.shape)})
        self._owner: dict[tuple[str, int], dict[int, tuple[str, int]]] = {}
        for group in graph.groups:
            for slot in group.slots[:1]:
                owner = self._owner.setdefault((slot.param, slot.dim), {})
                for node, coords in enumerate(slot.coords):
                    owner.update(dict.fromkeys(coords.tolist(), (group.name, node)))

    def nodes(self, group: Group) -> list[tuple[str, int]] | None:
        """For every node of a group of the present model, the dense model's group and node that it is.

        ``None`` where its nodes are no nodes of the dense model: a block that goes by rows there may go by
        columns here.
        """
        for slot in group.slots:
            owner = self._owner.get((slot.param, slot.dim))
            if owner is not None:
                then = self.kept[slot.param, slot.dim][slot.coords].tolist()
                owners = [{owner.get(coordinate) for coordinate in node} for node in then]
                found = [one for each in owners if len(each) == 1 for one in each if one is not None]
                return found if len(set(found)) == group.size else None
        return None

    def cut(
        self, graph: NodeGraph, removed: Mapping[str, np.ndarray], gains: ActivationGains | None = None
    ) -> None:
        """Nodes have left the present model, whose graph this is; activations were multiplied by
        ``gains``."""
        for key, coords in removed_coordinates(graph, removed).items():
            stays = np.ones(len(self.kept[key]), dtype=bool)
            stays[coords] = False
            self.kept[key] = self.kept[key][stays]
            if key in self.gains:
                self.gains[key] = self.gains[key][stays]
        for key, times in (gains or {}).items():
            self.gains[key] = self.gains.get(key, np.ones(len(times))) * times
