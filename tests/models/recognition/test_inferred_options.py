"""Recognition of every architecture, as it is and with other classes, input channels and image sizes."""

import json
import os
import warnings
from collections import Counter
from typing import Any

import pytest
import torch

from tsdistill import models
from tsdistill.errors import TsdistillError
from tsdistill.models.files.stored_weights import shapes_of, state
from tsdistill.models.recognition.architecture_index import shipped
from tsdistill.models.recognition.inferred_options import adapt
from tsdistill.models.recognition.lookup import candidates
from tsdistill.models.sources import catalog

load: Any = models.load
info_of: Any = models.info_of

CHANGES = ("", ",num_classes=7", ",in_chans=4", ",in_chans=1,num_classes=7", ",img_size=288", ",img_size=256")
SAMPLE = [
    "timm:resnet18,in_chans=1",
    "timm:mobilenetv3_small_050,in_chans=4,num_classes=7",
    "timm:vit_tiny_patch16_224,img_size=288",
    "timm:vit_tiny_patch16_224,img_size=96,in_chans=1,num_classes=7",
    "timm:swin_tiny_patch4_window7_224,img_size=256,window_size=8",
    "timm:focalnet_tiny_srf,in_chans=5",
    "timm:convnext_atto,num_classes=0",
    "timm:resnet10t,in_chans=2,num_classes=0",
    "timm:beit_base_patch16_224,img_size=288",
    "timm:mixer_s32_224,in_chans=4",
    "torchvision:vit_b_32,image_size=384",
    "torchvision:googlenet,transform_input=true,num_classes=3",
    "torchvision:swin_t,num_classes=4",
]


def outcome(spec: str) -> str:
    """``found``, ``another`` when other architectures fit, ``nothing``, or ``no such option``."""
    try:
        tensors = state(catalog.build_empty(spec).model)
    except TsdistillError:
        return "no such option"
    found = candidates(tensors)
    return "found" if spec in found else "another" if found else "nothing"


@pytest.mark.parametrize("spec", SAMPLE)
def test_changed_architectures_are_recognised(spec):
    canonical = catalog.build_empty(spec).arch
    assert canonical in candidates(state(catalog.build_empty(spec).model))


@pytest.mark.slow
def test_all_architectures_are_recognised():
    """Prints rates; TSDISTILL_EVERY=8 takes every eighth architecture, TSDISTILL_LOG lists failures."""
    warnings.simplefilter("ignore")
    specs = sorted({entry.spec for entry in shipped().entries})[
        :: int(os.environ.get("TSDISTILL_EVERY", "1"))
    ]
    counts: dict[str, Counter[str]] = {change: Counter() for change in CHANGES}
    failures = []
    for spec in specs:
        for change in CHANGES:
            if change and not spec.startswith("timm:") and "num_classes" not in change:
                continue
            result = outcome(spec + change)
            counts[change][result] += 1
            if result in ("another", "nothing"):
                failures.append((spec + change, result))
                if "TSDISTILL_LOG" in os.environ:
                    with open(os.environ["TSDISTILL_LOG"], "a", encoding="utf-8") as log:
                        log.write(json.dumps(failures[-1]) + "\n")
    for change, count in counts.items():
        print(change or "as it is", dict(count))
    for change, least in zip(CHANGES, (1.0, 0.99, 0.97, 0.97, 0.9, 0.9), strict=True):
        tried = sum(count for kind, count in counts[change].items() if kind != "no such option")
        assert counts[change]["found"] >= least * tried, (change, failures)


def test_named_architecture_takes_classes_channels_and_size_from_the_file(tmp_path):
    model = load("timm:test_vit,num_classes=5,in_chans=1,img_size=64,pretrained=false")
    torch.save(model.state_dict(), tmp_path / "a.pt")
    again = load(tmp_path / "a.pt", arch="timm:test_vit")
    info = info_of(again)
    assert info.arch == "timm:test_vit,img_size=64,in_chans=1,num_classes=5"
    assert info.input.size == (1, 64, 64)
    assert info.notes == (
        "timm:test_vit was built with img_size=64, in_chans=1, num_classes=5 to fit the file",
    )
    x = models.example_input(model)
    assert torch.equal(again(x), model(x))


def test_options_that_the_user_gave_stay():
    shapes = shapes_of(state(catalog.build_empty("timm:test_vit,num_classes=5").model))
    assert adapt("timm:test_vit,num_classes=7", shapes) is None
    found = adapt("timm:test_vit", shapes)
    assert found is not None
    assert found.changed == ("num_classes=5",)


def test_channels_of_a_first_convolution_that_was_replaced_by_hand(tmp_path):
    model = load("torchvision:mobilenet_v3_small,pretrained=false")
    first = model.features[0][0]
    model.features[0][0] = torch.nn.Conv2d(1, first.out_channels, 3, 2, 1, bias=False)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    again = load(tmp_path / "a.pt")
    assert info_of(again).arch == "torchvision:mobilenet_v3_small"
    assert info_of(again).input.size[0] == again.features[0][0].in_channels == 1
    models.save(again, tmp_path / "b.safetensors")
    x = models.example_input(again)
    assert torch.equal(load(tmp_path / "b.safetensors")(x), model(x))
