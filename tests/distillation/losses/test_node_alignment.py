"""Node alignment: zero for the teacher in another order and scale, pulled there from elsewhere."""

import copy

import pytest
import torch
from torch import nn

from tests.digits import digits
from tests.distillation.networks import batches, generator, shuffled, step_of
from tests.networks import convnet, mlp, residual
from tsdistill.distillation.losses.node_alignment import NodeAlignment
from tsdistill.errors import TsdistillError
from tsdistill.models.widths import sync_widths


def attached(student: nn.Module, teacher: nn.Module, **options) -> NodeAlignment:
    loss = NodeAlignment(**options)
    loss.attach(student, teacher, batches(), generator())
    return loss


def value(loss: NodeAlignment, student: nn.Module, teacher: nn.Module) -> float:
    return float(loss(step_of(loss, student, teacher, digits()[0][:200])).detach())


@pytest.mark.parametrize("match", ["one-to-one", "best"])
def test_it_is_zero_for_the_teacher_in_another_order_and_scale(match: str) -> None:
    teacher = convnet(6, 8)
    student, orders = shuffled(teacher, seed=3)
    loss = attached(student, teacher, match=match)
    assert [matches.tolist() for matches in loss.matches.values()] == [order.tolist() for order in orders]
    assert value(loss, student, teacher) < 1e-5
    other = convnet(6, 8, seed=5)
    assert value(attached(other, teacher, match=match), other, teacher) > 0.1


def test_a_wider_student_puts_several_nodes_on_a_teacher_node() -> None:
    teacher = convnet(4, 5)
    student = copy.deepcopy(teacher)
    first, norm, second = student[0], student[1], student[3]
    first.weight.data, first.bias.data = first.weight.data.repeat(2, 1, 1, 1), first.bias.data.repeat(2)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name).data = getattr(norm, name).data.repeat(2)
    second.weight.data = second.weight.data.repeat(1, 2, 1, 1) / 2
    sync_widths(student)
    loss = attached(student, teacher)
    assert sorted(loss.matches["0"].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert value(loss, student, teacher) < 1e-5


def test_training_on_it_alone_aligns_the_nodes() -> None:
    teacher, student = convnet(6, 8), convnet(6, 8, seed=5)
    loss = attached(student, teacher)
    before = value(loss, student, teacher)
    optimizer = torch.optim.Adam(student.parameters(), 0.01)
    for index in range(40):
        if index % 10 == 0:
            loss.renew(batches())
        optimizer.zero_grad()
        loss(step_of(loss, student, teacher, digits()[0][:128])).backward()
        optimizer.step()
    assert value(loss, student, teacher) < 0.5 * before


def test_scale_and_shift_of_the_students_nodes_are_free() -> None:
    teacher, student = convnet(6, 8), convnet(6, 8, seed=5)
    loss = attached(student, teacher)
    x = digits()[0][:100]
    step = step_of(loss, student, teacher, x)
    moved = {tap: 7 * seen + 3 for tap, seen in step.student_features.items()}
    other = type(step)(
        x, None, step.student_output, step.teacher_output, student, teacher, 1.0, moved, step.teacher_features
    )
    loss.positions = 0
    torch.testing.assert_close(loss(step), loss(other), rtol=1e-4, atol=1e-5)


def test_strong_teacher_nodes_weigh_more() -> None:
    teacher = mlp(64, 6, 10)
    teacher[2].weight.data[:, 0] *= 20
    teacher[2].weight.data[:, 1] /= 20
    x = digits()[0].flatten(1)
    pulls = {}
    for wrong in (0, 1):
        student = copy.deepcopy(teacher)
        student[0].weight.data[wrong] = mlp(64, 6, 10, seed=9)[0].weight.data[wrong]
        loss = NodeAlignment()
        loss.attach(student, teacher, [(x[:128], None)], generator())
        pulls[wrong] = float(loss(step_of(loss, student, teacher, x[:128])).detach())
    assert pulls[0] > 10 * pulls[1] > 0
    even = NodeAlignment(strength=False)
    even.attach(student, teacher, [(x[:128], None)], generator())
    assert float(even(step_of(even, student, teacher, x[:128])).detach()) > 5 * pulls[1]


def test_matches_are_renewed() -> None:
    teacher = convnet(6, 8)
    student = copy.deepcopy(teacher)
    loss = attached(student, teacher)
    assert value(loss, student, teacher) < 1e-5
    student.load_state_dict(shuffled(teacher, seed=4)[0].state_dict())
    stale = value(loss, student, teacher)
    loss.renew(batches())
    assert value(loss, student, teacher) < 1e-5 < 0.05 < stale


def test_the_state_carries_matches_over() -> None:
    teacher, student = convnet(6, 8), convnet(6, 8, seed=5)
    loss = attached(student, teacher)
    value(loss, student, teacher)
    state = loss.state_dict()
    student.load_state_dict(convnet(6, 8, seed=6).state_dict())
    other = attached(student, teacher)
    other.load_state_dict(state)
    assert value(other, student, teacher) == value(loss, student, teacher)
    with pytest.raises(TsdistillError, match="other groups"):
        other.load_state_dict({**state, "pairs": {}})


def test_other_widths_and_depths_and_dead_nodes_have_a_finite_gradient() -> None:
    teacher, student = convnet(6, 8, 5), convnet(9, 3, seed=5)
    student[1].weight.data[2], student[1].bias.data[2] = 0.0, -1.0
    loss = attached(student, teacher)
    loss(step_of(loss, student, teacher, digits()[0][:64])).backward()
    grads = [p.grad for p in student[0].parameters() if p.grad is not None]
    assert len(grads) == 2
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert grads[0].abs().sum() > 0


def test_a_residual_stream_and_a_flattened_map_are_compared() -> None:
    teacher = residual()
    student = copy.deepcopy(teacher)
    x = torch.randn(48, 3, 8, 8, generator=generator())
    loss = NodeAlignment(positions=0)
    loss.attach(student, teacher, [(x, None)], generator())
    assert float(loss(step_of(loss, student, teacher, x)).detach()) < 1e-5
    student.stem.weight.data = -student.stem.weight.data
    assert float(loss(step_of(loss, student, teacher, x)).detach()) > 0.05


def test_models_are_left_as_they_were() -> None:
    teacher, student = convnet(6, 8), convnet(6, 8, seed=5).train()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    attached(student, teacher).renew(batches())
    assert student.training
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


@pytest.mark.parametrize("options", [{"match": "worst"}, {"positions": -1}, {"samples": 2}])
def test_bad_options_are_refused(options: dict) -> None:
    with pytest.raises(TsdistillError, match="give"):
        NodeAlignment(**options)
