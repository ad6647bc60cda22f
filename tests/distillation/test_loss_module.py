"""The loss of `distill` as a criterion in a loop of one's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tsdistill.distillation.losses import parse


def network(width: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)
    )


def batch(seed: int = 1, count: int = 32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator), torch.randint(0, 4, (count,), generator=generator)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_soft_targets_are_the_divergence_of_the_two_models():
    student, teacher = network(5), network(8, 1)
    x, _ = batch()
    criterion = tsd.DistillationLoss(student, teacher, "soft-targets:T=2")
    with torch.no_grad():
        one, other = ((model(x) / 2).log_softmax(1) for model in (student, teacher))
    wanted = 4 * nn.functional.kl_div(one, other, reduction="batchmean", log_target=True)
    assert torch.allclose(criterion(x, student(x)), wanted, atol=1e-6)
    assert criterion(x, teacher(x)).abs() < 1e-6
    assert hooks(student) == hooks(teacher) == 0


@pytest.mark.parametrize(
    "loss", [None, "soft-targets + 0.05*cross-entropy", "node-alignment", "soft-targets + node-alignment"]
)
def test_training_by_it_brings_the_student_to_the_teacher(loss):
    student, teacher = network(8), network(8, 1)
    x, y = batch(count=64)
    with tsd.DistillationLoss(student, teacher, loss, samples=x) as criterion:
        parameters = [*student.parameters(), *criterion.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        history = []
        for epoch in range(30):
            criterion.epoch = float(epoch)
            value = criterion(x, student(x), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            history.append(value.item())
        assert history[-1] < 0.7 * history[0]
        assert criterion.values
        assert all(value.ndim == 0 for value in criterion.values.values())
    assert hooks(student) == hooks(teacher) == 0
    assert all(p.grad is None for p in teacher.parameters())


def test_the_teacher_is_no_part_of_it():
    student, teacher = network(5), network(8, 1).train()
    x, _ = batch()
    criterion = tsd.DistillationLoss(student, teacher, "soft-targets + node-alignment", samples=x)
    theirs = {id(p) for p in (*teacher.parameters(), *student.parameters())}
    assert not theirs & {id(p) for p in criterion.parameters()}
    criterion.double()
    assert next(teacher.parameters()).dtype == torch.float32
    before = copy.deepcopy(teacher.state_dict())
    criterion(x, student(x)).backward()
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_its_state_goes_on():
    x, _ = batch()
    teacher = network(8, 1)

    def criterion_of(seed):
        return tsd.DistillationLoss(network(5), teacher, "node-alignment", samples=x, seed=seed)

    first, second = criterion_of(0), criterion_of(1)
    second.load_state_dict(first.state_dict())
    students = [criterion._models[0] for criterion in (first, second)]
    assert torch.equal(first(x, students[0](x)), second(x, students[1](x)))
    first.renew(x)
    first.renew([(x, None)])


def test_wrapped_and_compiled_students_are_known():
    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x)

    student, teacher = network(5), network(8, 1)
    x, _ = batch()
    bare = tsd.DistillationLoss(student, teacher, "node-alignment", samples=x)
    value = bare(x, student(x))
    bare.close()
    wrapped = Wrapped(student)
    with tsd.DistillationLoss(wrapped, teacher, "node-alignment", samples=x) as criterion:
        assert torch.equal(criterion(x, wrapped(x)), value)
    compiled: Any = torch.compile(student, backend="eager")
    with tsd.DistillationLoss(compiled, teacher, "node-alignment", samples=x) as criterion:
        assert torch.allclose(criterion(x, compiled(x)), value)


def test_it_works_under_autocast():
    student, teacher = network(5), network(8, 1)
    x, _ = batch()
    with tsd.DistillationLoss(student, teacher, "soft-targets + node-alignment", samples=x) as criterion:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = criterion(x, student(x))
        value.backward()
        assert value.isfinite()
        assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)


def test_labels_alone_need_no_teacher():
    student = network(5)
    x, y = batch()
    criterion = tsd.DistillationLoss(student, None, "cross-entropy")
    assert torch.allclose(criterion(x, student(x), y), nn.functional.cross_entropy(student(x), y))
    with pytest.raises(tsd.TsdistillError, match="labels"):
        criterion(x, student(x))


@pytest.mark.parametrize(
    ("loss", "teacher", "samples", "cause"),
    [
        ("node-alignment", True, None, "samples"),
        ("soft-targets", False, None, "teacher"),
        ("no-such-loss", True, None, "no-such-loss"),
        ("node-alignment", True, [], "samples"),
        ("node-alignment", True, [1, 2], "samples"),
    ],
)
def test_what_does_not_fit_is_one_line(loss, teacher, samples, cause):
    with pytest.raises(tsd.TsdistillError, match=cause):
        tsd.DistillationLoss(network(5), network(8, 1) if teacher else None, loss, samples=samples)


def test_other_classes_than_the_teachers_are_refused():
    student = nn.Linear(6, 3)
    x, _ = batch()
    with pytest.raises(tsd.TsdistillError, match="classes"):
        tsd.DistillationLoss(student, network(8, 1))(x, student(x))


def test_a_loss_of_ones_own_is_taken():
    student, teacher = network(5), network(8, 1)
    x, _ = batch()
    own = parse("mse")
    assert torch.equal(
        tsd.DistillationLoss(student, teacher, own)(x, student(x)),
        tsd.DistillationLoss(student, teacher, "mse")(x, student(x)),
    )
