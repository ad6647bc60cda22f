"""Networks that are trained for quantisation (eager mode of torch.ao) are cut, and trained on."""

import copy

import pytest
import torch
import torch.ao.quantization as quantization
from torch import nn

import tsdistill as tsd
from tsdistill.runtime.quantisers import without_rounding


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
        self.c1, self.b1, self.r1 = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()
        self.c2, self.r2 = nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU()
        self.out = nn.Linear(16, 5)

    def forward(self, x):
        x = self.r2(self.c2(self.r1(self.b1(self.c1(self.quant(x))))))
        return self.dequant(self.out(x.mean((2, 3))))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = quantization.fuse_modules_qat(Net().train(), [["c1", "b1", "r1"], ["c2", "r2"]])
    net.qconfig = quantization.get_default_qat_qconfig("x86")
    quantization.prepare_qat(net, inplace=True)
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(8, 3, 8, 8))
    return net.eval()


def test_scales_of_channels_leave_with_them(model):
    result = tsd.prune_result(model, data=torch.randn(48, 3, 8, 8), macs=0.5)
    assert result.before["nodes"] == 28
    assert result.after["macs"] <= 0.5 * result.before["macs"]
    assert not result.put_back
    small = result.model
    for layer in (small.c1, small.c2):
        width = layer.weight.shape[0]
        scales = layer.weight_fake_quant
        assert scales.scale.shape == scales.zero_point.shape == (width,)
        assert scales.activation_post_process.min_val.shape == (width,)
    trained = copy.deepcopy(small).train()
    trained(torch.randn(4, 3, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.parameters())
    assert quantization.convert(trained.eval())(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_readers_absorb_though_their_weights_are_rounded(model):
    report = tsd.analyze(model, data=torch.randn(32, 3, 8, 8))
    assert {key: each.multiples for key, each in report.statistics.taking.items()} == {
        "c2": True,
        "out": True,
    }


def test_nothing_is_rounded_inside_the_block_and_all_flags_come_back(model):
    flags = {name: value.clone() for name, value in model.named_buffers() if name.endswith("_enabled")}
    x = torch.randn(2, 3, 8, 8)
    with without_rounding(model.modules()), torch.no_grad():
        assert torch.equal(model.quant(x), x)
    assert flags
    assert all(torch.equal(value, model.get_buffer(name)) for name, value in flags.items())
