"""Python objects in place of registered names."""

from __future__ import annotations

import pickle
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import tsdistill as tsd
from tests.networks import untrained_mlp
from tsdistill.errors import TsdistillError
from tsdistill.plugin_api import PlainLoss, Step
from tsdistill.plugins import NamedObject, get, name_of, names_of


class Covariance:
    name = "covariance"
    wants = "moments"

    def from_moments(self, moments):
        return moments.cov()


class Confidence:
    needs: ClassVar[frozenset[str]] = frozenset()
    unit = "%"

    def update(self, outputs, labels, reference_outputs):
        self.value = 100 * float(outputs.softmax(1).max(1).values.mean())

    def compute(self):
        return self.value


class Distance(PlainLoss):
    def __call__(self, step: Step) -> Tensor:
        return (step.student_output - step.teacher_output).square().mean()


def halved(x, generator):
    return x / 2


def network(outputs: int = 3) -> nn.Module:
    return untrained_mlp(6, 8, outputs)


def test_a_name_stays_and_an_object_is_found_by_its_name() -> None:
    assert type(name_of("x")) is str
    name = name_of(Covariance())
    assert name == "covariance"
    assert isinstance(get("alignment metric", name), Covariance)
    assert pickle.loads(pickle.dumps(name_of(halved))).thing is halved


def test_two_objects_of_one_name_are_refused_and_the_same_twice_is_one() -> None:
    metric = Covariance()
    assert names_of([metric, "cka", metric]) == ("covariance", "cka")
    with pytest.raises(TsdistillError, match="covariance"):
        names_of([metric, Covariance()])


def test_metrics_and_augmentations_of_an_analysis() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    report = tsd.analyze(
        network(),
        data=x,
        analysis={"metric": [Covariance(), "correlation"]},
        inputs={"augment": halved},
    )
    assert report.metrics == ("covariance", "correlation")
    assert report.failed == {}
    plain = tsd.analyze(network(), data=x / 2, analysis={"metric": Covariance()})
    table = plain.groups[0].matches["covariance"].table
    torch.testing.assert_close(report.groups[0].matches["covariance"].table, table)


def test_evaluation_metrics() -> None:
    x = torch.randn(20, 6)
    wanted = 100 * network()(x).softmax(1).max(1).values.mean().item()
    assert tsd.evaluate(network(), x, [Confidence]) == {"Confidence": pytest.approx(wanted, rel=1e-4)}
    compared = tsd.compare({"a": network()}, x, judging=Confidence)
    assert compared.traits["Confidence"].unit == "%"


def test_losses_and_augmentations_of_a_training() -> None:
    x = torch.randn(16, 6)
    student, teacher = network(), network()
    result = tsd.distill(
        student,
        teacher,
        data=x,
        options={"loss": Distance(), "augment": halved, "epochs": 1, "batch_size": 8},
    )
    assert result.options.augment == "halved"
    assert isinstance(result.options.augment, NamedObject)


def test_a_loss_that_compares_outputs_is_refused_where_they_differ_before_the_first_step() -> None:
    x = torch.randn(16, 6)
    with pytest.raises(TsdistillError, match=r"\b3\b.*\b5\b"):
        tsd.distill(
            network(),
            network(5),
            data=x,
            options={"loss": Distance(), "epochs": 1, "batch_size": 8},
        )

    class Silent(Distance):
        compares_outputs = False

        def __call__(self, step: Step) -> Tensor:
            return step.student_output.square().mean()

    tsd.distill(
        network(),
        network(5),
        data=x,
        options={"loss": Silent(), "epochs": 1, "batch_size": 8},
    )


def test_a_loss_that_raises_is_named() -> None:
    class Broken(Distance):
        def __call__(self, step: Step) -> Tensor:
            raise RuntimeError("two\nlines")

    with pytest.raises(TsdistillError, match=r"Broken.*RuntimeError: two lines"):
        tsd.distill(
            network(),
            network(),
            data=torch.randn(16, 6),
            options={"loss": Broken(), "epochs": 1, "batch_size": 8},
        )
