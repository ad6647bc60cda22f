"""Losses of features: hints and attention transfer."""

import copy

import pytest
import torch

from tests.digits import digits
from tests.distillation.networks import batches, generator, shuffled, step_of
from tests.networks import convnet, mlp
from tsdistill.distillation.losses.feature_losses import AttentionTransfer, Hints
from tsdistill.errors import TsdistillError


def test_the_map_is_trained_along_and_finds_the_teachers_nodes() -> None:
    teacher, student = convnet(6, 8, 5), convnet(4, 12, 5, seed=5)
    student[0].weight.data = teacher[0].weight.data[:4]
    loss = Hints(at="3")
    loss.attach(student, teacher, batches(), generator())
    assert loss.student_taps == ("6:input",)
    assert [tuple(p.shape) for p in loss.parameters()] == [(8, 12), (8,)]
    optimizer = torch.optim.Adam([*student.parameters(), *loss.parameters()], 0.02)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(step_of(loss, student, teacher, digits()[0][:64]))
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.3 * values[0]


def test_it_is_zero_where_the_map_is_the_identity_of_equal_models() -> None:
    teacher = convnet(6, 8, 5)
    student = copy.deepcopy(teacher)
    loss = Hints()
    loss.attach(student, teacher, batches(), generator())
    loss.load_state_dict({"0.weight": torch.eye(8), "0.bias": torch.zeros(8)})
    assert float(loss(step_of(loss, student, teacher, digits()[0][:64])).detach()) < 1e-10


def test_starts_and_states() -> None:
    teacher, student = convnet(6, 8, 5), convnet(4, 12, 5, seed=5)
    made = [Hints(at="all") for _ in range(3)]
    for loss, seed in zip(made, (1, 1, 2), strict=True):
        loss.attach(student, teacher, batches(), generator(seed))
    states = [loss.state_dict() for loss in made]
    assert len(states[0]) == 6
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["0.weight"], states[2]["0.weight"])
    made[2].load_state_dict(states[0])
    assert torch.equal(made[2].state_dict()["1.weight"], states[0]["1.weight"])
    with pytest.raises(TsdistillError, match="other groups"):
        made[2].load_state_dict({"0.weight": torch.zeros(1, 1)})


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(TsdistillError, match=r"hints:at=9.*middle.*all.*0, 3"):
        Hints(at="9").attach(convnet(4, 5), convnet(4, 5), batches(), generator())
    with pytest.raises(TsdistillError, match="needs a teacher"):
        Hints().attach(convnet(4, 5), None, batches(), generator())


def test_attention_transfer_is_the_squared_difference_of_normalised_maps() -> None:
    teacher, student = convnet(6, 8), convnet(4, 5, seed=5)
    loss = AttentionTransfer()
    loss.attach(student, teacher, batches(), generator())
    step = step_of(loss, student, teacher, digits()[0][:64])
    assert loss.student_taps == loss.teacher_taps == ("3:input",)
    maps = [
        seen["3:input"].square().sum(1).flatten(1) for seen in (step.student_features, step.teacher_features)
    ]
    a, b = (each / each.norm(dim=1, keepdim=True) for each in maps)
    torch.testing.assert_close(loss(step), (a - b).square().sum(1).mean())


def test_the_order_of_nodes_and_one_scale_for_all_make_no_difference() -> None:
    teacher = convnet(6, 8)
    student, _ = shuffled(teacher)
    loss = AttentionTransfer()
    loss.attach(student, teacher, batches(), generator())
    scaled = float(loss(step_of(loss, student, teacher, digits()[0][:64])).detach())
    student.load_state_dict(teacher.state_dict())
    for tensor in student[1].parameters():
        tensor.data *= 3
    assert float(loss(step_of(loss, student, teacher, digits()[0][:64])).detach()) < 1e-6 < scaled


def test_vectors_have_no_maps() -> None:
    model = mlp(64, 6, 10)
    x = digits()[0].flatten(1)
    with pytest.raises(TsdistillError, match="feature maps"):
        AttentionTransfer().attach(model, model, [(x[:32], None)], generator())
