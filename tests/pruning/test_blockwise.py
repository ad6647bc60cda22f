"""Pruning block by block: equal widths that a configuration says, and a fit towards the dense stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tsdistill as tsd
from tsdistill.pruning.blockwise import stack_fit
from tsdistill.pruning.blockwise.block_stack import find_stacks, stack_inputs
from tsdistill.pruning.blockwise.reader_fit import Moments, ReaderRegression
from tsdistill.pruning.blockwise.uniform_widths import LossCurve, kinds_of, uniform_widths
from tsdistill.pruning.selection.width_constraints import constraints_of

transformers = pytest.importorskip("transformers")

SMALL = {
    "LlamaForCausalLM": {"intermediate_size": 96, "num_key_value_heads": 4, "head_dim": 8},
    "Qwen2ForCausalLM": {"intermediate_size": 96, "num_key_value_heads": 2},
    "MistralForCausalLM": {"intermediate_size": 96, "num_key_value_heads": 2, "head_dim": 8},
    "Gemma2ForCausalLM": {"intermediate_size": 96, "num_key_value_heads": 2, "head_dim": 8},
    "GPT2LMHeadModel": {},
    "GPTNeoXForCausalLM": {"intermediate_size": 96},
    "Phi3ForCausalLM": {"intermediate_size": 96, "num_key_value_heads": 2},
    "PhiForCausalLM": {"intermediate_size": 96, "num_key_value_heads": 4},
    "OPTForCausalLM": {"ffn_dim": 96, "word_embed_proj_dim": 32},
    "BertForMaskedLM": {"intermediate_size": 96},
}
"""Types of models and what their configurations need besides the common fields."""

COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}


def model_of(kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    architecture = getattr(transformers, kind)
    fields = GPT2 if kind == "GPT2LMHeadModel" else COMMON
    model = architecture(architecture.config_class(**{**fields, **SMALL[kind]})).eval()
    with torch.no_grad():  # of a size at which layers matter
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name and "wte" not in name:
                parameter.mul_(8)
    return model


def tokens(count: int = 24, length: int = 12, seed: int = 1) -> torch.Tensor:
    return torch.randint(1, 64, (count, length), generator=torch.Generator().manual_seed(seed))


def batches(ids: torch.Tensor, mask: torch.Tensor | None = None) -> list:
    extra = {} if mask is None else {"attention_mask": mask}
    return [
        ({"input_ids": ids[n : n + 4], **{k: v[n : n + 4] for k, v in extra.items()}}, None)
        for n in range(0, len(ids), 4)
    ]


def pruned(model: nn.Module, ids: torch.Tensor, **options) -> tsd.PruneResult:
    options.setdefault("budget", {"params": 0.85})
    return tsd.prune_result(model, data=batches(ids), selection={"uniform": True}, **options)


def error(small: nn.Module, dense: nn.Module, ids: torch.Tensor) -> float:
    with torch.no_grad():
        wanted = dense(input_ids=ids).logits
        return float((small(input_ids=ids).logits - wanted).square().sum() / wanted.square().sum())


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_widths_are_equal_and_the_folder_is_read_without_tsdistill(kind, tmp_path):
    model = model_of(kind)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = pruned(model, tokens())
    assert not result.put_back
    assert result.after["params"] <= 0.85 * result.before["params"]
    assert result.after["params"] == sum(p.numel() for p in result.model.parameters())
    blocks = blocks_of(result.model)
    shapes = [{name: tuple(p.shape) for name, p in block.named_parameters()} for block in blocks]
    assert all(each == shapes[0] for each in shapes)
    tsd.save(result.model, tmp_path / "folder")
    again = getattr(transformers, kind).from_pretrained(tmp_path / "folder").eval()
    ids = tokens(3, seed=2)
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, result.model(input_ids=ids).logits)
    tsd.save(result.model, tmp_path / "file.safetensors")
    loaded = tsd.load(tmp_path / "file.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, result.model(input_ids=ids).logits)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def blocks_of(model: nn.Module) -> list[nn.Module]:
    (stack,) = find_stacks(model, {"input_ids": tokens(1)})
    return [model.get_submodule(name) for name in stack.names]


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPTNeoXForCausalLM", "OPTForCausalLM"])
def test_it_is_nearer_to_the_dense_model_than_a_bare_cut(kind):
    model, ids = model_of(kind), tokens(64)
    result = pruned(model, ids, budget={"params": 0.8})
    example = {"input_ids": ids[:1]}
    bare = tsd.cut(model, tsd.trace(model, example), result.plan.removed, example)
    other = tokens(24, seed=5)
    assert error(result.model, model, other) < 0.8 * error(bare.model, model, other)


def test_the_pruned_model_generates_with_its_cache():
    model = model_of("LlamaForCausalLM")
    result = pruned(model, tokens(), budget={"params": 0.7})
    ids = tokens(2, 5)
    out = [
        result.model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=cache, pad_token_id=0)
        for cache in (True, False)
    ]
    assert torch.equal(*out)


def test_padding_does_not_count():
    model, ids = model_of("LlamaForCausalLM"), tokens(24)
    mask = torch.ones_like(ids)
    mask[:, 8:] = 0
    short = tsd.prune_result(
        model, data=batches(ids[:, :8]), budget={"params": 0.85}, selection={"uniform": True}
    )
    padded = tsd.prune_result(
        model, data=batches(ids, mask), budget={"params": 0.85}, selection={"uniform": True}
    )
    assert padded.plan.removed == short.plan.removed
    probe = {"input_ids": ids[:2, :8]}
    with torch.no_grad():
        assert torch.allclose(padded.model(**probe).logits, short.model(**probe).logits, atol=1e-3)


@pytest.mark.parametrize("limit", [0, 3000])
def test_what_is_kept_in_memory_changes_nothing(monkeypatch, limit):
    model, ids = model_of("LlamaForCausalLM"), tokens(24)
    data = [({"input_ids": ids[:2]}, None), ({"input_ids": ids[2:16]}, None), ({"input_ids": ids[16:]}, None)]
    options: dict[str, Any] = {"data": data, "budget": {"params": 0.85}, "selection": {"uniform": True}}
    whole = tsd.prune(model, **options)
    monkeypatch.setattr(stack_fit, "_KEPT", limit)
    limited = tsd.prune(model, **options)
    with torch.no_grad():
        one, other = whole(input_ids=ids).logits, limited(input_ids=ids).logits
    assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_nothing_is_shared_with_the_dense_model():
    model = model_of("LlamaForCausalLM")
    small = pruned(model, tokens()).model
    places = {p.data_ptr() for p in model.parameters()}
    assert not places & {p.data_ptr() for p in small.parameters()}


def test_sums_that_are_no_numbers_are_refused():
    moments = Moments.zeros(4, 2, torch.device("cpu"))
    moments.add(torch.full((3, 4), torch.inf), torch.zeros(3, 2))
    with pytest.raises(tsd.TsdistillError, match="NaN or infinite"):
        ReaderRegression(moments, None, torch.zeros(2, 4).double(), False)


def test_padding_everywhere_is_refused():
    ids = tokens(4)
    data = batches(ids, torch.zeros_like(ids))
    with pytest.raises(tsd.TsdistillError, match="padding"):
        tsd.prune(
            model_of("LlamaForCausalLM"), data=data, budget={"params": 0.9}, selection={"uniform": True}
        )


def test_text_models_go_this_way_by_themselves():
    model, ids = model_of("LlamaForCausalLM"), tokens()
    options: dict[str, Any] = {"data": batches(ids), "budget": {"params": 0.9}}
    assert tsd.prune_result(model, **options).report is None
    free = tsd.prune_result(model, **options, selection={"uniform": False}, realignment={"joint": False})
    assert free.report is not None


def test_a_family_whose_configuration_says_no_width_goes_the_other_way():
    torch.manual_seed(0)
    config = transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)
    model = transformers.BloomForCausalLM(config).eval()
    options: dict[str, Any] = {
        "data": batches(tokens()),
        "budget": {"params": 0.9},
        "realignment": {"joint": False},
    }
    result = tsd.prune_result(model, **options)
    assert result.report is not None
    assert any("width of its own" in note for note in result.notes)
    with pytest.raises(tsd.TsdistillError, match="equal widths"):
        tsd.prune_result(model, **options, selection={"uniform": True})


def test_widths_are_multiples_where_that_is_asked():
    result = tsd.prune_result(
        model_of("LlamaForCausalLM"),
        data=batches(tokens()),
        budget={"params": 0.85},
        selection={"uniform": True, "round_to": 16},
    )
    assert result.model.config.intermediate_size % 16 == 0


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"budget": {"latency": 0.5}}, "params"),
        ({"budget": {"params": 0.01}}, "equal widths"),
        ({"budget": {"params": 0.8}, "realignment": {"rounds": 2}}, "rounds"),
        ({"budget": "lossless"}, "lossless"),
    ],
)
def test_what_does_not_go_with_equal_widths_is_refused(options, cause):
    with pytest.raises(tsd.TsdistillError, match=cause):
        pruned(model_of("LlamaForCausalLM"), tokens(), **options)


def test_a_model_without_a_stack_is_refused():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(tsd.TsdistillError, match="no stack"):
        tsd.prune(model, data=torch.randn(8, 4), budget={"params": 0.5}, selection={"uniform": True})


def test_made_up_data_are_refused():
    with pytest.raises(tsd.TsdistillError, match="data"):
        tsd.prune(model_of("LlamaForCausalLM"), budget={"params": 0.5}, selection={"uniform": True})


def test_a_folder_is_for_widths_that_a_configuration_says(tmp_path):
    free = tsd.prune(
        model_of("LlamaForCausalLM"),
        data=batches(tokens()),
        budget={"params": 0.7},
        selection={"uniform": False},
        realignment={"joint": False},
    )
    with pytest.raises(tsd.TsdistillError, match="safetensors"):
        tsd.save(free, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(tsd.TsdistillError, match="not empty"):
        tsd.save(model_of("LlamaForCausalLM"), tmp_path / "full")
    with pytest.raises(tsd.TsdistillError, match="transformers"):
        tsd.save(nn.Linear(2, 2), tmp_path / "other")


def test_stacks_are_found_and_their_inputs_kept():
    model = model_of("LlamaForCausalLM")
    (stack,) = find_stacks(model, {"input_ids": tokens(1)})
    assert stack.names == tuple(f"model.layers.{n}" for n in range(3))
    ids = tokens(4)
    inputs = stack_inputs(model, stack, [{"input_ids": ids}])
    stream = inputs.streams[0]
    with torch.no_grad():
        for name in stack.names:
            stream = inputs.arguments[name][0].run(model.get_submodule(name), stream)
        inner: Any = model
        logits = inner.lm_head(inner.model.norm(stream))
        assert torch.allclose(logits, model(input_ids=ids).logits, atol=1e-5)


def test_the_regression_is_least_squares_with_a_ridge():
    torch.manual_seed(0)
    z, target, weight = torch.randn(50, 6), torch.randn(50, 3), torch.randn(3, 6).double()
    moments = Moments.zeros(6, 3, z.device)
    moments.add(z, target)
    regression = ReaderRegression(moments, None, weight, False)
    stay = torch.tensor([True, True, False, True, True, True])
    solved = regression.solve(moments.of(stay), 1e-2, stay)
    scale = 1e-2 * (z[:, stay].double().square().sum(0))
    roots = torch.diag(scale.sqrt())
    rows = torch.cat([z[:, stay].double(), roots])
    aims = torch.cat([target.double(), roots @ weight[:, stay].T])
    assert torch.allclose(solved.T, torch.linalg.lstsq(rows, aims).solution, atol=1e-6)


def test_costs_are_what_the_penalised_error_grows_by():
    torch.manual_seed(0)
    z = torch.randn(80, 6) @ torch.randn(6, 6)
    target, weight = torch.randn(80, 3), torch.randn(3, 6).double()
    moments = Moments.zeros(6, 3, z.device)
    moments.add(z, target)
    regression = ReaderRegression(moments, None, weight, False)
    features = np.arange(6)[:, None]
    removed, costs = regression.choose(features, 3)
    assert len(removed) == 3

    def penalised(gone):
        stay = torch.ones(6, dtype=torch.bool)
        stay[list(gone)] = False
        scale = 1e-1 * z.double().square().sum(0)
        full = torch.zeros(3, 6, dtype=torch.float64)
        full[:, stay] = regression.solve(moments.of(stay), 1e-1, stay)
        return moments.error(full) + float((scale * (full - weight).square()).sum())

    errors = [penalised(removed[:n].tolist()) for n in range(4)]
    assert np.allclose(np.diff(errors), costs, rtol=1e-4)


def test_widths_take_from_the_kind_that_loses_least():
    model = model_of("LlamaForCausalLM")
    example = {"input_ids": tokens(1)}
    graph, stacks = tsd.trace(model, example), find_stacks(model, example)
    kinds = {kind.name: kind for kind in kinds_of(graph, stacks)}
    assert set(kinds) == {"mlp.gate_proj", "self_attn.q_proj"}
    limits = constraints_of(graph)
    for cheap, dear in (("mlp.gate_proj", "self_attn.q_proj"), ("self_attn.q_proj", "mlp.gate_proj")):
        curves = [
            LossCurve(kinds[name], np.arange(kinds[name].size + 1) * factor / kinds[name].size)
            for name, factor in ((cheap, 1e-3), (dear, 1e3))
        ]
        kept = uniform_widths(graph, curves, limits, "params", 0.95 * graph.params())
        assert graph.params(kept) <= 0.95 * graph.params()
        narrowed = {
            name for name, kind in kinds.items() if kept[next(iter(kind.groups.values())).name] < kind.size
        }
        assert narrowed == {cheap}
