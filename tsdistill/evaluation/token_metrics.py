"""Metrics of models of language: per token, over the positions that count."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.class_metrics import Top1, class_scores, row_blocks
from tsdistill.evaluation.metric import POSITIONS, RunningMean, labels_given


class Perplexity(RunningMean):
    """exp of the mean negative log-likelihood of the labels, in nats a token: how many tokens the model is
    torn between."""

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    wants: ClassVar[str] = POSITIONS
    higher_is_better: ClassVar[bool] = False

    def update(self, outputs: Tensor, labels: Tensor | None, reference_outputs: Tensor | None = None) -> None:  # noqa: ARG002
        """Add the counted positions of one batch.

        Args:
            outputs: scores of tokens ``[positions, tokens]``.
            labels: ids of the tokens ``[positions]``.
            reference_outputs: unused.

        Raises:
            TsdistillError: labels are missing, are no ids of tokens or do not fit the scores.
        """
        labels = labels_given(labels, "perplexity")
        if labels.is_floating_point() or labels.numel() != outputs.shape[0] or outputs.ndim != 2:
            raise TsdistillError(
                f"perplexity needs one token for each prediction, but labels are {tuple(labels.shape)} and "
                f"outputs {tuple(outputs.shape)}; leave it out"
            )
        labels = labels.flatten().to(outputs.device).long()
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < outputs.shape[1]:
            raise TsdistillError(
                f"labels are {int(labels.min())}-{int(labels.max())} but the model has {outputs.shape[1]} "
                "tokens; give the model's own tokenizer"
            )
        for rows in row_blocks(outputs):
            scores = class_scores(outputs[rows], "perplexity")
            chosen = scores.gather(1, labels[rows, None])[:, 0].double()
            self._add(float((scores.logsumexp(1).double() - chosen).sum()), len(scores))

    def compute(self) -> float:
        """The perplexity over all positions; infinite where it is beyond double precision.

        Raises:
            TsdistillError: no position counted.
        """
        mean = super().compute()
        return math.exp(mean) if mean < math.log(torch.finfo(torch.float64).max) else math.inf


class NextToken(Top1):
    """Percent of tokens (the next ones, or hidden ones) to which the model gives the highest score."""


def token_counts(model: nn.Module) -> frozenset[int]:
    """How many tokens (or other things by number) each table of embeddings of ``model`` has."""
    return frozenset(each.num_embeddings for each in model.modules() if isinstance(each, nn.Embedding))


def scores_tokens(tensor: Tensor, tokens: frozenset[int]) -> bool:
    """Whether an output scores tokens: one row of scores for each position, as many as there are tokens.

    Args:
        tensor: the output.
        tokens: what `token_counts` says of the model.
    """
    return tensor.ndim == 3 and tensor.shape[-1] in tokens
