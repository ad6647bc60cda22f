"""Attention transfer: where there is much activation, whichever node has it."""

import pytest
import torch

from tests.alignment.small import mlp
from tests.distillation.networks import batches, convnet, digits, generator, shuffled, step_of
from tsdistill.distillation.losses.attention_transfer import AttentionTransfer
from tsdistill.errors import TsdistillError


def test_it_is_the_squared_difference_of_normalised_maps() -> None:
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
    with pytest.raises(TsdistillError, match="needs feature maps in both"):
        AttentionTransfer().attach(model, model, [(x[:32], None)], generator())
