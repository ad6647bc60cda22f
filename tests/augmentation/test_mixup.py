from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.digits import digits
from tsdistill.augmentation import augmented, opened
from tsdistill.augmentation.mixup import SampleMixture
from tsdistill.errors import TsdistillError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "mixup:mixup=1,cutmix=1,mode=elem"])
@pytest.mark.parametrize("count", [32, 31])
def test_labels_say_how_much_of_each_sample_is_there(name: str, count: int) -> None:
    x, _ = digits(count)
    numbers = torch.arange(count)
    mixed, labels = augmented(opened(name), x, numbers, generator(3), count)
    assert mixed.shape == x.shape
    torch.testing.assert_close(labels.sum(1), torch.ones(count))
    assert not torch.equal(mixed, x)
    if name == "mixup":
        torch.testing.assert_close(mixed, torch.einsum("ij,jchw->ichw", labels, x), atol=1e-4, rtol=1e-4)
    elif name == "cutmix":
        constant = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(count, 1, 40, 40)
        boxes, shares = augmented(opened(name), constant.clone(), numbers, generator(3), count)
        torch.testing.assert_close(boxes.mean((1, 2, 3)), shares @ numbers.float(), atol=1e-3, rtol=1e-3)


def test_nothing_else_is_touched_and_the_seed_decides() -> None:
    x, y = digits(16)
    before, theirs, outside = x.clone(), np.random.get_state()[1].copy(), torch.get_rng_state()
    strategy = SampleMixture(mixup=0.8)
    first, again, other = (strategy.mix(x, y, 10, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(first[0], strategy(x, generator(1)))
    assert torch.equal(x, before)
    assert (theirs == np.random.get_state()[1]).all()
    assert torch.equal(outside, torch.get_rng_state())


def test_labels_stay_where_the_number_of_classes_is_not_known() -> None:
    x, y = digits(16)
    mixed, labels = augmented(opened("mixup"), x, y, generator())
    assert labels is y
    assert not torch.equal(mixed, x)


def test_what_cannot_be_mixed_is_said() -> None:
    x, y = digits(8)
    with pytest.raises(TsdistillError, match="cutmix"):
        opened("cutmix")(x.flatten(1), generator())
    with pytest.raises(TsdistillError, match="real values"):
        opened("mixup")(x.long(), generator())
    with pytest.raises(TsdistillError, match="3 classes"):
        augmented(opened("mixup"), x, y, generator(), 3)
