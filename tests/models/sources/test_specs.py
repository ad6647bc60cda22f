import pytest

from tsdistill.errors import TsdistillError
from tsdistill.models.sources.specs import in_catalog, join, parse


def test_options_are_typed():
    name, options = parse("resnet18.a1_in1k,num_classes=10,drop_rate=0.5,flag=True,act_layer=gelu", "spec")
    assert name == "resnet18.a1_in1k"
    assert options == {"num_classes": 10, "drop_rate": 0.5, "flag": True, "act_layer": "gelu"}
    assert [type(value) for value in options.values()] == [int, float, bool, str]


def test_join_is_canonical():
    assert join("timm", "a", {"z": True, "b": 1}) == "timm:a,b=1,z=true"
    assert parse("a,b=1,z=true", "") == ("a", {"b": 1, "z": True})


@pytest.mark.parametrize("text", ["a,b", "a,b=", "a,1b=2", "a,b=1,b=2", "", ",b=1"])
def test_bad_options(text):
    with pytest.raises(TsdistillError, match=r"^timm:x: "):
        parse(text, "timm:x")


@pytest.mark.parametrize(("arch", "expected"), [("timm:a", True), ("torchvision:a", True), ("a.py:b", False)])
def test_in_catalog(arch, expected):
    assert in_catalog(arch) is expected
