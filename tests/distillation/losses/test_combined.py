"""Several losses as one."""

import pytest
import torch

from tests.digits import digits
from tests.distillation.networks import batches, generator, outputs, step_of
from tests.networks import convnet
from tsdistill.distillation.losses import Combined, PlainLoss, Term, parse
from tsdistill.errors import TsdistillError


class Fixed(PlainLoss):
    needs_teacher = False

    def __init__(self, value) -> None:
        self.value = value

    def __call__(self, step):
        return self.value


def test_the_sum_is_weighted_and_its_parts_are_kept() -> None:
    teacher, student = convnet(6, 8), convnet(4, 5, seed=5)
    loss = parse("soft-targets + 0.5*node-alignment + 2*hints + 3*attention-transfer + 0.1*dkd")
    loss.attach(student, teacher, batches(), generator())
    assert set(loss.student_taps) == {"3:input", "8:input"}
    x, y = digits()
    step = step_of(loss, student, teacher, x[:64], y[:64])
    value = loss(step)
    weights = {"soft-targets": 1, "node-alignment": 0.5, "hints": 2, "attention-transfer": 3, "dkd": 0.1}
    total = sum(weights[name] * part for name, part in loss.values.items())
    torch.testing.assert_close(value.detach(), total)
    assert not any(part.requires_grad for part in loss.values.values())
    value.backward()
    assert all(p.grad is not None for p in [*student[0].parameters(), *loss.parameters()])
    assert loss.non_finite_term() is None


def test_states_go_to_their_losses() -> None:
    teacher, student = convnet(6, 8), convnet(4, 5, seed=5)
    loss, other = parse("node-alignment + hints"), parse("hints + node-alignment")
    for each, seed in ((loss, 0), (other, 1)):
        each.attach(student, teacher, batches(), generator(seed))
    step = step_of(loss, student, teacher, digits()[0][:64])
    assert float(loss(step).detach()) != float(other(step).detach())
    other.load_state_dict(loss.state_dict())
    assert float(loss(step).detach()) == pytest.approx(float(other(step).detach()), abs=0.05)
    assert loss.values["hints"] == other.values["hints"]
    with pytest.raises(TsdistillError, match="soft-targets"):
        parse("soft-targets").load_state_dict(loss.state_dict())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(3), "returns a tensor of shape (3,) and type float32"),
        (torch.tensor(1), "returns a tensor of shape () and type int64"),
        (1.5, "returns a float"),
        (None, "returns a NoneType"),
    ],
)
def test_a_loss_that_returns_something_else_is_named_with_its_plugin(value, words: str) -> None:
    loss = Combined([Term("odd", 1.0, Fixed(value), "plugin 'x' of y 1.0")])
    with pytest.raises(TsdistillError) as caught:
        loss(outputs(torch.zeros(3, 2)))
    assert str(caught.value).startswith(f"the loss odd (plugin 'x' of y 1.0) {words}")


def test_the_part_that_is_not_finite_is_named() -> None:
    terms = [Term("good", 1.0, Fixed(torch.tensor(1.0))), Term("bad", 1.0, Fixed(torch.tensor(float("nan"))))]
    loss = Combined(terms)
    assert not torch.isfinite(loss(outputs(torch.zeros(3, 2))))
    assert loss.non_finite_term() == "bad"


def test_a_teacher_that_is_missing_is_said_before_training() -> None:
    with pytest.raises(TsdistillError, match=r"soft-targets .*teacher"):
        parse("cross-entropy + soft-targets").attach(convnet(4), None, batches(), generator())
    parse("cross-entropy").attach(convnet(4), None, batches(), generator())
