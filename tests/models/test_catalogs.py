"""timm_source.py and torchvision_source.py."""

import os
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch

from tsdistill import models
from tsdistill.errors import TsdistillError
from tsdistill.models import example_input
from tsdistill.models.sources import catalog

load: Any = models.load
info_of: Any = models.info_of


@pytest.mark.parametrize(
    ("spec", "arch"),
    [
        ("timm:test_resnet,pretrained=false", "timm:test_resnet"),
        ("timm:test_resnet.r160_in1k,pretrained=false", "timm:test_resnet"),
        ("timm:test_resnet,pretrained=false,num_classes=1000", "timm:test_resnet"),
        ("timm:test_resnet,num_classes=7,pretrained=false", "timm:test_resnet,num_classes=7"),
        ("torchvision:squeezenet1_1,pretrained=false", "torchvision:squeezenet1_1"),
        (
            "torchvision:squeezenet1_1,num_classes=5,pretrained=false",
            "torchvision:squeezenet1_1,num_classes=5",
        ),
    ],
)
def test_canonical_specification(spec, arch):
    assert info_of(load(spec)).arch == arch


def test_tag_that_changes_the_classes_shows_in_the_specification():
    built = catalog.build_empty("timm:vit_tiny_patch16_224.augreg_in21k")
    assert built.arch == "timm:vit_tiny_patch16_224,num_classes=21843"


def test_input_of_timm():
    spec = info_of(load("timm:test_vit,pretrained=false")).input
    assert spec.size == (3, 160, 160)
    assert spec.mean == (0.5, 0.5, 0.5)
    assert spec.source == "timm's configuration"


def test_input_follows_options():
    model = load("timm:test_vit,pretrained=false,img_size=64,in_chans=1")
    assert info_of(model).input.size == (1, 64, 64)
    assert len(info_of(model).input.mean) == 1
    assert model(example_input(model)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "size", "interpolation"),
    [
        ("squeezenet1_1", (3, 224, 224), "bilinear"),
        ("lraspp_mobilenet_v3_large", (3, 520, 520), "bilinear"),
        ("r3d_18", (3, 16, 112, 112), "bilinear"),
    ],
)
def test_input_of_torchvision(name, size, interpolation):
    spec: Any = catalog.build_empty(f"torchvision:{name}").input
    assert spec.size == size
    assert spec.interpolation == interpolation
    assert spec.source == "torchvision's weights"


def test_detector_takes_a_list():
    model = load("torchvision:ssdlite320_mobilenet_v3_large,pretrained=false")
    assert set(model(*example_input(model))[0]) == {"boxes", "labels", "scores"}


def test_model_made_by_timm_elsewhere_says_what_it_is():
    model = timm.create_model("test_resnet", num_classes=4)
    assert info_of(model).arch == "timm:test_resnet,num_classes=4"
    assert example_input(model).shape == (1, 3, 160, 160)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet19", "did you mean timm:resnet1"),
        ("timm:resnet18.nobody", "resnet18 has no weights 'nobody'; known: a1_in1k"),
        ("timm:test_resnet,pretrained=false,nonsense=3", "check the options"),
        ("timm:test_resnet,checkpoint_path=a.pth", "'checkpoint_path' cannot be given"),
        ("timm:", "a name is missing"),
        ("torchvision:resnet19", "did you mean resnet1"),
        ("torchvision:resnet18,weights=NONE", "no weights 'NONE'; known: IMAGENET1K_V1"),
        ("torchvision:resnet18,pretrained=false,nonsense=3", "check the options"),
        ("torchvision:resnet18,num_classes=10", "check the options"),
    ],
)
def test_one_line_errors(spec, message):
    with pytest.raises(TsdistillError, match=message) as caught:
        load(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "proxies"),
    [("timm:resnet18", True), ("timm:resnet18", False), ("torchvision:resnet18", True)],
)
def test_no_network_and_no_cache(spec, proxies, tmp_path):
    """In a process of its own: the hub has no address, the proxies lead nowhere, the caches are empty."""
    load_it = f"from tsdistill import TsdistillError, models\ntry:\n    models.load({spec!r})\n"
    code = f"{load_it}except TsdistillError as error:\n    print(error)"
    env = {**os.environ, "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    env |= {"HF_HUB_OFFLINE": "1" if proxies else "0", "HF_ENDPOINT": "http://nowhere.invalid"}
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        env.pop(name, None)
        if proxies:
            env[name] = "http://127.0.0.1:9"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert "cannot be fetched" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    assert "pretrained=false" in done.stdout
    assert done.stderr == ""


def test_building_without_weights_leaves_random_numbers_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    catalog.build("timm:test_resnet", weights=False)
    assert torch.equal(torch.rand(3), expected)
