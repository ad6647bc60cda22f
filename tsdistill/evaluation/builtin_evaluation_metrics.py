"""The evaluation metrics that come with the toolkit, registered as a plugin's are."""

from __future__ import annotations

from collections.abc import Callable

from tsdistill.evaluation.class_metrics import Agreement, KullbackLeibler, Top1, Top5
from tsdistill.evaluation.harness_task import HarnessTask
from tsdistill.evaluation.metric import Metric
from tsdistill.evaluation.token_metrics import NextToken, Perplexity
from tsdistill.evaluation.value_metrics import MeanAbsoluteError, MeanSquaredError, OutputSquaredError
from tsdistill.plugins import hookimpl


@hookimpl
def register_evaluation_metrics(register: Callable[[str, type[Metric]], None]) -> None:
    """Register the metrics of classifiers, of language, of regression, and those of any task."""
    register("top1", Top1)
    register("top5", Top5)
    register("agreement", Agreement)
    register("kl", KullbackLeibler)
    register("perplexity", Perplexity)
    register("next_token", NextToken)
    register("lm-eval", HarnessTask)
    register("mse", MeanSquaredError)
    register("mae", MeanAbsoluteError)
    register("output_mse", OutputSquaredError)
