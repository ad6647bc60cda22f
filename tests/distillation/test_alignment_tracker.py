"""Alignment during training: the figures of ``analyze``, in little time."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional

import tsdistill as tsd
from tests.digits import digits
from tests.distillation.networks import batches, shuffled
from tests.networks import convnet
from tsdistill.distillation.alignment_tracker import AlignmentTracker, tracked_samples
from tsdistill.errors import TsdistillError
from tsdistill.report.history_table import history_table


def test_it_equals_analyze_on_the_same_samples() -> None:
    teacher, student = convnet(6, 8), convnet(9, 7, seed=5)
    tracker = AlignmentTracker(student, teacher, batches(), seed=3)
    figures = tracker.measure("start")
    report = tsd.analyze(
        student,
        teacher,
        batches(),
        seed=3,
        analysis={"positions": 32, "strength_samples": 128, "strength_target": None, "for_pruning": False},
    )
    means = []
    for group in report.groups:
        means.append(group.teacher_best[group.teacher_strength > 0].mean())
        assert figures[f"alignment/{group.name}"] == pytest.approx(means[-1], abs=1e-7)
    assert figures["alignment"] == pytest.approx(np.mean(means))
    assert figures["aligned"] == sum((g.teacher_best >= 0.9).sum() for g in report.groups)
    history = tracker.history()
    for seen in history.groups:
        analysed = report.by_name[seen.name]
        np.testing.assert_allclose(seen.best[0], analysed.teacher_best, atol=1e-7)
        np.testing.assert_allclose(seen.teacher_strength, analysed.teacher_strength, rtol=1e-6)
    strong = [group.thirds()[0, 0] * len(group.by_strength()[0]) for group in history.groups]
    nodes = sum(len(group.by_strength()[0]) for group in history.groups)
    assert figures["alignment/strong"] == pytest.approx(sum(strong) / nodes)


def test_a_training_is_followed_and_shown() -> None:
    teacher, student = convnet(6, 8), convnet(6, 8, seed=5)
    tracker = AlignmentTracker(student, teacher, batches())
    first = tracker.measure("start")
    x = digits()[0][:256]
    with torch.no_grad():
        wanted = teacher.eval()(x)
    optimizer = torch.optim.Adam(student.parameters(), 0.01)
    student.train()
    for _ in range(30):
        optimizer.zero_grad()
        functional.mse_loss(student(x), wanted).backward()
        optimizer.step()
    assert tracker.measure("epoch 1") != first
    assert student.training
    student.load_state_dict(shuffled(teacher)[0].state_dict())
    last = tracker.measure("epoch 2")
    assert last["alignment"] == pytest.approx(1, abs=1e-5)
    assert first["alignment"] < 0.9
    history = tracker.history()
    assert history.names == ("start", "epoch 1", "epoch 2")
    acting = sum((group.teacher_strength > 0).sum() for group in history.groups)
    assert last["aligned"] == history.aligned[-1] == acting >= 12
    assert history.thirds().shape == (3, 3)
    assert history_table(history)


def test_a_resumed_run_goes_on_where_it_was() -> None:
    teacher, student = convnet(6, 8), convnet(6, 8, seed=5)
    tracker = AlignmentTracker(student, teacher, batches())
    tracker.measure("start")
    tracker.measure("epoch 1")
    other = AlignmentTracker(copy.deepcopy(student), teacher, batches())
    other.load_state_dict(tracker.state_dict())
    other.measure("epoch 1")
    assert other.names == ("start", "epoch 1")
    for one, two in zip(tracker.history().groups, other.history().groups, strict=True):
        np.testing.assert_array_equal(one.best, two.best)
    with pytest.raises(TsdistillError, match="other groups"):
        other.load_state_dict({"names": [], "best": {"none": torch.zeros(1, 1)}, "strength": {}})


def test_it_costs_little_of_an_epoch() -> None:
    teacher, student = convnet(16, 16, 16), convnet(8, 8, 8, seed=5)
    x = digits()[0].repeat(5, 1, 1, 1)[:8192]
    few = tracked_samples(len(x))
    tracker = AlignmentTracker(student, teacher, [(part, None) for part in x[:few].split(128)])
    tracker.measure("start")
    seen: Counter[str] = Counter()
    for name, model in (("teacher", teacher), ("student", student)):
        model.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: len(given[0])}))
    tracker.measure("again")
    assert few == 128
    assert seen["teacher"] <= few + 1
    assert seen["student"] <= few + 1


def test_what_cannot_be_tracked_is_said() -> None:
    teacher = convnet(6, 8)
    with pytest.raises(TsdistillError, match="no samples"):
        AlignmentTracker(teacher, teacher, [])
    with pytest.raises(TsdistillError, match="measure"):
        AlignmentTracker(teacher, convnet(6, 8, seed=1), batches()).history()
    assert (tracked_samples(None), tracked_samples(10), tracked_samples(60000), tracked_samples(10**7)) == (
        64,
        64,
        937,
        1024,
    )


def test_groups_that_a_trial_cut_would_leave_out_are_followed_to_the_end() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    def language_model(width: int, seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=30,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=32,
        )
        return LlamaForCausalLM(config)

    ids = torch.randint(30, (64, 6), generator=torch.Generator().manual_seed(0))
    x = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    tracker = AlignmentTracker(language_model(16, 1), language_model(32, 2), [(x, None)])
    tracker.measure("start")
    followed = {group.name for group in tracker.history().groups}
    assert followed == set(tracker.pairs)
