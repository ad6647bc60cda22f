from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from tsdistill.augmentation import Setting, augmented, needs_teacher, opened, prepared
from tsdistill.errors import TsdistillError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def setting(teacher: nn.Module | None = None) -> Setting:
    x = torch.randn(64, 3, 8, 8, generator=generator())
    return Setting(teacher, lambda: [x], generator())


def test_options_are_read_as_what_they_are() -> None:
    strategy = opened("teacher-aware:steps=3,share=0.25,copies=yes")
    assert dataclasses.is_dataclass(strategy)
    assert (strategy.steps, strategy.share, strategy.copies) == (3, 0.25, True)
    assert opened("teacher-aware").steps == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacher-awear", "did you mean teacher-aware"),
        ("teacher-aware:step=3", "no option 'step'.*options are scale, steps, share, copies"),
        ("teacher-aware:steps", "write steps=VALUE"),
        ("teacher-aware:steps=3.5", "steps=3.5: .* whole number"),
        ("directions:copies=perhaps", "copies=perhaps: .* yes or no"),
        ("directions:scale=far", "scale=far: .* a number"),
        ("standard:flip=no", "standard has no option 'flip'"),
        ("mixup+standard", "only the last"),
        ("mixup+cutmix", "only the last"),
        ("mixup:mixup=0", "one has to be positive"),
        ("mixup:mode=all", "batch, pair, elem"),
        ("randaugment:magnitude=31", "magnitude from 0 to 30"),
    ],
)
def test_what_does_not_exist_is_said(text: str, message: str) -> None:
    with pytest.raises(TsdistillError, match=message):
        opened(text)


def test_a_chain_applies_its_parts_in_order() -> None:
    x = torch.randn(8, 3, 8, 8, generator=generator(1))
    chain = prepared(opened("standard+directions:scale=0.5,copies=yes"), setting())
    made, y = augmented(chain, x, torch.arange(8), generator(2), 10)
    together = generator(2)
    by_hand = opened("directions:scale=0.5,copies=yes")(opened("standard")(x, together), together)
    assert torch.equal(made, by_hand)
    assert made.shape == (24, 3, 8, 8)
    assert torch.equal(y, torch.arange(8).repeat(3))


def test_a_chain_that_mixes_gives_labels_to_match_expanded_samples() -> None:
    x = torch.randn(6, 3, 8, 8, generator=generator(1))
    chain = prepared(opened("directions:copies=yes+mixup"), setting())
    made, y = augmented(chain, x, torch.arange(6), generator(2), 6)
    assert made.shape == (18, 3, 8, 8)
    assert y.shape == (18, 6)
    torch.testing.assert_close(y.sum(1), torch.ones(18))


def test_a_chain_hands_the_teacher_on() -> None:
    chain = opened("standard+teacher-aware:share=1")
    assert needs_teacher(chain)
    with pytest.raises(TsdistillError, match="give teacher"):
        prepared(chain, setting())
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    x = torch.randn(8, 3, 8, 8, generator=generator(1))
    made, _ = augmented(prepared(chain, setting(teacher)), x, None, generator(), 10)
    assert not torch.equal(made, prepared(opened("standard"), setting())(x, generator()))


def halved(x: Tensor, generator: torch.Generator) -> Tensor:
    return x[::2]


def doubled(x: Tensor, generator: torch.Generator) -> Tensor:
    return x.double()


def endless(x: Tensor, generator: torch.Generator) -> Tensor:
    return x / 0


def broken(x: Tensor, generator: torch.Generator) -> Tensor:
    raise ValueError("out of luck")


def listed(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    return list(x)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (halved, r"halved makes a batch of shape \(4, 5\) of one of shape \(8, 5\)"),
        (doubled, "doubled gives torch.float64 on cpu, not torch.float32"),
        (endless, "endless makes samples that are not finite"),
        (broken, r"broken fails on samples of shape \(5,\): ValueError: out of luck"),
        (listed, "listed gives list, not a tensor"),
    ],
)
def test_a_plugin_that_does_something_else_is_named(strategy: object, message: str) -> None:
    with pytest.raises(TsdistillError, match=message):
        augmented(strategy, torch.randn(8, 5), None, generator())  # type: ignore[arg-type]
