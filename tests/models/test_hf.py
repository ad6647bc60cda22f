"""hf_source.py, hf_inputs.py, hf_config.py: models of transformers, tiny and random."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import tsdistill as tsd
from tests.models.hf_families import FAMILIES, GROUPS, REPRESENTED, made
from tsdistill.errors import TsdistillError
from tsdistill.models.sources import catalog
from tsdistill.models.sources.hf_config import save_pretrained

transformers: Any = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def outputs(model: Any) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        found = model(**tsd.example_input(model))
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def kind(group: tsd.tracing.Group) -> str:
    heads = re.search(r"(\.|^)(q|q_proj|query|q_lin|c_attn)$", group.name)
    return (
        "heads" if heads else "mlp" if group.size in (48, 128) else "hidden" if group.size == 32 else "other"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_mlp_and_hidden_size_go_and_the_rest_comes_back_from_a_file(family, tmp_path):
    model = made(family)
    x = tsd.example_input(model)
    graph = tsd.trace(model, x)
    found = Counter(kind(group) for group in graph.groups)
    assert {name: found[name] for name in GROUPS[family]} == GROUPS[family]
    removed = {group.name: range(0, group.size, 2) for group in graph.groups}
    done = tsd.cut(model, graph, removed, x)
    assert not done.put_back
    assert set(done.removed) == set(graph.by_name)
    kept = {group.name: group.size // 2 for group in graph.groups}
    assert graph.macs(kept) < 0.45 * graph.macs()
    tsd.save(done.model, tmp_path / "small.safetensors")
    again = tsd.load(tmp_path / "small.safetensors")
    wanted = outputs(done.model)
    assert wanted
    assert all(torch.equal(value, outputs(again)[name]) for name, value in wanted.items())
    if family in REPRESENTED:
        save_pretrained(done.model, tmp_path / "folder")
        plain = type(model).from_pretrained(tmp_path / "folder").eval()
        assert sum(p.numel() for p in plain.parameters()) < sum(p.numel() for p in model.parameters())
        for name, value in outputs(plain).items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "whisper"])
def test_pruning_without_data_makes_samples_up(family):
    result = tsd.prune_result(made(family), macs=0.7, inputs={"samples": 32})
    assert result.after["macs"] <= 0.7 * result.before["macs"]
    assert "like the example input" in result.data
    assert not any("absorbing" in note and "c_fc" in note for note in result.notes)


def test_widths_that_differ_between_layers_go_to_our_own_format(tmp_path):
    model = made("bert")
    x = tsd.example_input(model)
    graph = tsd.trace(model, x)
    small = tsd.cut(model, graph, {"bert.encoder.layer.0.intermediate.dense": range(10)}, x).model
    with pytest.raises(TsdistillError, match=r"layer\.\d\.intermediate\.dense\.weight"):
        save_pretrained(small, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def grouped() -> transformers.LlamaForCausalLM:
    """A model whose width is three times that of its keys, as a fused projection of all three would be."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 40, "num_attention_heads": 6, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=50, num_hidden_layers=2, max_position_embeddings=16, tie_word_embeddings=False, **sizes
    )
    return transformers.LlamaForCausalLM(config).eval()


def test_a_width_of_three_times_the_keys_is_no_fused_projection(tmp_path):
    model = grouped()
    x = tsd.example_input(model)
    graph = tsd.trace(model, x)
    gone = {group.name: range(group.size)[::4] for group in graph.groups if group.size in (48, 40)}
    small = tsd.cut(model, graph, gone, x).model
    save_pretrained(small, tmp_path / "folder")
    plain = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "folder").eval()
    assert plain.config.num_key_value_heads == 2
    torch.testing.assert_close(outputs(plain)["logits"], outputs(small)["logits"])


def test_a_model_that_from_pretrained_gave_is_saved_and_read_without_its_folder(tmp_path):
    grouped().save_pretrained(tmp_path / "own")
    own = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "own").eval()
    factory = tmp_path / "own.py"
    factory.write_text(
        "import transformers\n\n\ndef fresh():\n"
        f"    config = transformers.LlamaConfig.from_pretrained({str(tmp_path / 'own')!r})\n"
        "    return transformers.LlamaForCausalLM(config)\n"
    )
    x = tsd.example_input(own)
    graph = tsd.trace(own, x)
    small = tsd.cut(own, graph, {group.name: range(group.size)[::3] for group in graph.groups}, x).model
    for number, model in enumerate((own, small)):
        for arch in (None, f"hf:{tmp_path / 'own'}", f"{factory}:fresh"):
            file = tmp_path / f"{number}.safetensors"
            tsd.save(model, file, arch=arch)
            again = tsd.load(file, arch=arch if arch and arch.endswith("fresh") else None)
            assert torch.equal(outputs(again)["logits"], outputs(model)["logits"])


def test_a_folder_gives_its_weights_and_a_specification_without_it(tmp_path):
    model = made("llama")
    model.save_pretrained(tmp_path)
    loaded = tsd.load(f"hf:{tmp_path}")
    arch = str(tsd.info_of(loaded).arch)
    assert type(loaded) is transformers.LlamaForCausalLM
    assert str(tmp_path) not in arch
    assert arch.startswith("hf:LlamaForCausalLM,head_dim=8,hidden_size=32,")
    assert catalog.build_empty(arch).arch == arch
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_the_class_can_be_chosen(tmp_path):
    made("bert").save_pretrained(tmp_path)
    assert type(tsd.load(f"hf:{tmp_path}#BertModel")) is transformers.BertModel
    chosen = tsd.load(f"hf:{tmp_path}#AutoModelForTokenClassification")
    assert type(chosen) is transformers.BertForTokenClassification


def test_images_say_their_size():
    spec = tsd.info_of(made("vit")).input
    assert spec.size == (3, 16, 16)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:NoSuchModel", "has no model class 'NoSuchModel'"),
        ("hf:BertConfig", "has no model class"),
        ("hf:AutoModel,hidden_size=32", "goes behind a folder"),
        ("hf:BertModel,hidden_size=33,num_attention_heads=4", "transformers (cannot build|refuses)"),
        ("hf:BertModel,num_hidden_layers=2000", "more than the 1024"),
        ("hf:BertModel,vocab_size=99999999", "more than the 1048576"),
        ("hf:BertModel,auto_map={}", "'auto_map' cannot be given"),
        ("hf:BertModel,_attn_implementation=x", "cannot be given"),
        ("hf:./nowhere", r"no config.json"),
        ("hf:nobody/nothing-here", "configuration cannot be read"),
    ],
)
def test_bad_specifications_are_one_line(spec, message):
    with pytest.raises(TsdistillError, match=message) as caught:
        tsd.load(spec)
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_or_with_pickles_only_is_refused(tmp_path):
    model = made("bert")
    model.config.architectures = ["BertForSequenceClassification"]
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(TsdistillError, match="its weights cannot be read"):
        tsd.load(f"hf:{tmp_path}")


def test_code_that_comes_with_a_folder_is_not_run(tmp_path):
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'w').close()\n"
    (tmp_path / "modeling_evil.py").write_text(code)
    (tmp_path / "configuration_evil.py").write_text(code)
    config = {"model_type": "evil", "architectures": ["EvilModel"]}
    config["auto_map"] = {"AutoConfig": "configuration_evil.E", "AutoModel": "modeling_evil.E"}  # type: ignore[assignment]
    (tmp_path / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(TsdistillError, match="configuration cannot be read"):
        tsd.load(f"hf:{tmp_path}")
    assert not canary.exists()


def test_without_transformers_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TsdistillError, match=r"pip install tsdistill\[hf\]"):
        tsd.load("hf:BertModel")


def assert_half_comes_back(model: Any, graph: tsd.NodeGraph, x: Any, folder: Path) -> None:
    """Half of every group goes, and what is left is the same bit for bit when it comes from a file."""
    done = tsd.cut(model, graph, {group.name: range(0, group.size, 2) for group in graph.groups}, x)
    assert not done.put_back
    tsd.save(done.model, folder / "small.safetensors")
    again: Any = tsd.load(folder / "small.safetensors")
    wanted, found = outputs(done.model), outputs(again)
    assert wanted
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


_LATER = {
    "an underscore in its class": "Ernie4_5Model,hidden_size=32,num_hidden_layers=1,num_attention_heads=4,"
    "num_key_value_heads=2,head_dim=8,intermediate_size=48,vocab_size=50,max_position_embeddings=16",
    "spectrograms": "ASTModel,hidden_size=32,num_hidden_layers=1,num_attention_heads=4,intermediate_size=48,"
    "max_length=64,num_mel_bins=32",
    "characters": "CanineModel,hidden_size=32,num_hidden_layers=1,num_attention_heads=4,intermediate_size=48,"
    "max_position_embeddings=64",
    "a configuration that is longer than a line": "Ministral3Model,hidden_size=32,num_hidden_layers=1,"
    "num_attention_heads=4,num_key_value_heads=2,head_dim=8,intermediate_size=48,vocab_size=50",
    "a backbone of another library": "DetrModel,d_model=32,encoder_layers=1,decoder_layers=1,num_queries=5,"
    "encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=48,decoder_ffn_dim=48",
}


@pytest.mark.parametrize("what", _LATER)
def test_a_cut_model_comes_back_with(what, tmp_path):
    torch.manual_seed(0)
    model: Any = tsd.load(f"hf:{_LATER[what]}")
    x = tsd.example_input(model)
    graph = tsd.trace(model, x)
    assert_half_comes_back(model, graph, x, tmp_path)


_TEXT = (
    '"hidden_size": 32%2C "num_hidden_layers": 1%2C "num_attention_heads": 4%2C "num_key_value_heads": 2%2C '
    '"intermediate_size": 48%2C "vocab_size": 50%2C "max_position_embeddings": 64%2C "bos_token_id": 1%2C '
    '"eos_token_id": 2'
)
_TOWER = '"hidden_size": 32%2C "num_hidden_layers": 1%2C "num_attention_heads": 4%2C "intermediate_size": 48'
_SEVERAL = {
    "LlavaModel,image_token_index=5,image_seq_length=16,"
    f'vision_config={{"model_type": "clip_vision_model"%2C {_TOWER}%2C "image_size": 16%2C "patch_size": 4}},'
    f'text_config={{"model_type": "llama"%2C {_TEXT}%2C "head_dim": 8}}': {"pixel_values", "input_ids"},
    "Qwen2_5_VLForConditionalGeneration,image_token_id=5,video_token_id=6,vision_start_token_id=8,"
    'vision_end_token_id=9,vision_config={"model_type": "qwen2_5_vl_vision"%2C "depth": 1%2C '
    '"intermediate_size": 48%2C "hidden_size": 32%2C "num_heads": 2%2C "out_hidden_size": 256%2C '
    '"patch_size": 4},text_config={"model_type": "qwen2_5_vl_text"%2C "num_hidden_layers": 1%2C '
    '"vocab_size": 50%2C "intermediate_size": 48%2C "max_position_embeddings": 64%2C "hidden_size": 256%2C '
    '"num_attention_heads": 2%2C "num_key_value_heads": 1%2C "bos_token_id": 1%2C "eos_token_id": 2}': {
        *("pixel_values", "image_grid_thw", "input_ids")
    },
    "Qwen2_5_VisionTransformerPretrainedModel,depth=1,intermediate_size=48,hidden_size=32,num_heads=2,"
    "patch_size=4,out_hidden_size=32": {"hidden_states", "grid_thw"},
    "VideoMAEForVideoClassification,hidden_size=32,num_hidden_layers=1,num_attention_heads=4,"
    "intermediate_size=48,num_frames=4,image_size=16,patch_size=4": {"pixel_values"},
    "VJEPA2Model,hidden_size=32,num_hidden_layers=1,num_attention_heads=4,frames_per_clip=4,image_size=32,"
    "crop_size=32,patch_size=8,pred_hidden_size=24,pred_num_attention_heads=4,pred_num_hidden_layers=1": {
        "pixel_values_videos"
    },
    "Wav2Vec2BertModel,hidden_size=32,num_hidden_layers=1,num_attention_heads=4,intermediate_size=48": {
        "input_features"
    },
    "MoonshineModel,hidden_size=32,intermediate_size=48,vocab_size=50,encoder_num_hidden_layers=1,"
    "decoder_num_hidden_layers=1,encoder_num_attention_heads=4,decoder_num_attention_heads=4,"
    "encoder_num_key_value_heads=4,decoder_num_key_value_heads=4,decoder_start_token_id=1": {
        *("input_values", "decoder_input_ids")
    },
    "LayoutLMModel,hidden_size=32,num_hidden_layers=1,num_attention_heads=4,intermediate_size=48,"
    "vocab_size=50,max_position_embeddings=64,max_2d_position_embeddings=200": {"input_ids", "bbox"},
    "PatchTSTForClassification,d_model=32,num_hidden_layers=1,num_attention_heads=4,ffn_dim=48": {
        "past_values"
    },
}


@pytest.mark.parametrize("spec", _SEVERAL, ids=lambda spec: spec.partition(",")[0])
def test_images_videos_sound_and_series_are_what_a_model_takes(spec, tmp_path):
    torch.manual_seed(0)
    model: Any = tsd.load(f"hf:{spec}")
    x = tsd.example_input(model)
    assert x.keys() == _SEVERAL[spec]
    graph = tsd.trace(model, x)
    assert graph.groups
    assert_half_comes_back(model, graph, x, tmp_path)


def test_experts_and_what_they_read_go_in_whole_lines_of_memory():
    torch.manual_seed(0)
    model: Any = tsd.load(
        "hf:MixtralForCausalLM,hidden_size=32,num_hidden_layers=2,num_attention_heads=4,"
        "num_key_value_heads=2,head_dim=8,intermediate_size=48,vocab_size=50,num_local_experts=4"
    )
    x = tsd.example_input(model)
    graph = tsd.trace(model, x)
    steps = {group.name: (group.size, group.step) for group in graph.groups}
    experts = "model.layers.0.mlp.experts.gate_up_proj"
    assert steps[experts] == (48, 8)
    assert steps["model.embed_tokens"] == (32, 8)
    done = tsd.cut(model, graph, {experts: range(24), "model.embed_tokens": range(16)}, x)
    assert not done.put_back
    assert done.model.model.layers[0].mlp.experts.down_proj.shape == (4, 16, 24)
    odd = tsd.cut(model, graph, {experts: range(23)}, x)
    assert [item.name for item in odd.put_back] == [experts]
    plan = tsd.prune_result(model, macs=0.7, inputs={"samples": 8}).plan
    assert all(len(plan.removed.get(name, ())) % 8 == 0 for name, (_, step) in steps.items() if step == 8)


def test_what_a_file_would_name_is_built_before_it_is_written(tmp_path, monkeypatch):
    made("bert").save_pretrained(tmp_path / "bert")
    model = tsd.load(f"hf:{tmp_path / 'bert'}#BertModel")
    monkeypatch.setattr(
        "tsdistill.models.sources.hf_source.canonical", lambda _: "hf:BertModel,hidden_size=31"
    )
    with pytest.raises(TsdistillError, match="hidden_size=31"):
        tsd.save(model, tmp_path / "small.safetensors", arch=f"hf:{tmp_path / 'bert'}#BertModel")
    assert not (tmp_path / "small.safetensors").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": 5}, "no valid 'architectures'"),
        ({"architectures": [3]}, r"no valid 'architectures\.0'"),
        ({"model_type": []}, "no valid 'model_type'"),
        ({"num_labels": 10**9}, "num_labels asks for something enormous"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers asks for something enormous"),
        ({"hidden_size": 10**12}, "hidden_size asks for something enormous"),
        ({"vocab_size": 10**9}, "more than .* parameters"),
        ({"hidden_size": 0}, "cannot be read|cannot build"),
    ],
)
def test_folders_that_ask_for_anything_odd_are_one_line(tmp_path, fields, message):
    model = made("bert")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **fields}))
    with pytest.raises(TsdistillError, match=message) as caught:
        tsd.load(f"hf:{tmp_path}")
    assert str(caught.value).isprintable()


def test_shards_of_a_folder_lie_in_it(tmp_path):
    made("bert").save_pretrained(tmp_path / "in")
    (tmp_path / "in" / "model.safetensors").rename(tmp_path / "out.safetensors")
    index = {"metadata": {}, "weight_map": {"pooler.dense.weight": "../out.safetensors"}}
    (tmp_path / "in" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(TsdistillError, match="no plain name of a file"):
        tsd.load(f"hf:{tmp_path / 'in'}")
