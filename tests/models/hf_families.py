"""One tiny random model a family of transformers."""

from __future__ import annotations

from typing import Any

import torch

import tsdistill as tsd
from tests.tracing.networks import randomise

_TEXT = "hidden_size=32,num_hidden_layers=2,num_attention_heads=4,intermediate_size=48,vocab_size=50"
_GROUPED = f"{_TEXT},max_position_embeddings=16,num_key_value_heads=2"
_VISION = "hidden_size=32,num_hidden_layers=2,num_attention_heads=4,intermediate_size=48,image_size=16"
_INNER = (
    '{"hidden_size": 32%2C "num_hidden_layers": 2%2C "num_attention_heads": 4%2C "intermediate_size": 48%2C '
    '"projection_dim": 24'
)

FAMILIES = {
    "bert": f"BertForSequenceClassification,{_TEXT},max_position_embeddings=16",
    "distilbert": "DistilBertForSequenceClassification,dim=32,n_layers=2,n_heads=4,hidden_dim=48,"
    "vocab_size=50,max_position_embeddings=16",
    "roberta": f"RobertaForSequenceClassification,{_TEXT},max_position_embeddings=20",
    "gpt2": "GPT2LMHeadModel,n_embd=32,n_layer=2,n_head=4,vocab_size=50,n_positions=16",
    "t5": "T5ForConditionalGeneration,d_model=32,d_kv=8,d_ff=48,num_layers=2,num_heads=4,vocab_size=50",
    "llama": f"LlamaForCausalLM,{_GROUPED}",
    "qwen2": f"Qwen2ForCausalLM,{_GROUPED}",
    "mistral": f"MistralForCausalLM,{_GROUPED},head_dim=8",
    "vit": f"ViTForImageClassification,{_VISION},patch_size=4",
    "clip": f'CLIPModel,projection_dim=24,vision_config={_INNER}%2C "image_size": 16%2C "patch_size": 4}}'
    f',text_config={_INNER}%2C "vocab_size": 50%2C "max_position_embeddings": 16%2C "bos_token_id": 0%2C '
    '"eos_token_id": 1}',
    "whisper": "WhisperForConditionalGeneration,vocab_size=50,num_mel_bins=8,d_model=32,encoder_layers=2,"
    "decoder_layers=2,encoder_attention_heads=4,decoder_attention_heads=4,encoder_ffn_dim=48,"
    "decoder_ffn_dim=48,max_source_positions=16,max_target_positions=16,pad_token_id=0,bos_token_id=1,eos_token_id=2,"
    "decoder_start_token_id=1",
    "wav2vec2": f"Wav2Vec2ForCTC,{_TEXT},conv_dim=[16%2C16],conv_stride=[4%2C4],conv_kernel=[8%2C4],"
    "num_conv_pos_embeddings=8,num_conv_pos_embedding_groups=4,pad_token_id=0",
}

GROUPS = {
    "bert": {"hidden": 2, "heads": 2, "mlp": 2},
    "distilbert": {"hidden": 2, "heads": 2, "mlp": 2},
    "roberta": {"hidden": 2, "heads": 2, "mlp": 2},
    "gpt2": {"hidden": 1, "heads": 2, "mlp": 2},
    "t5": {"hidden": 1, "heads": 3, "mlp": 4},
    "llama": {"hidden": 1, "heads": 2, "mlp": 2},
    "qwen2": {"hidden": 1, "heads": 2, "mlp": 2},
    "mistral": {"hidden": 1, "heads": 2, "mlp": 2},
    "vit": {"hidden": 1, "heads": 2, "mlp": 2},
    "clip": {"hidden": 2, "heads": 4, "mlp": 4},
    "whisper": {"hidden": 3, "heads": 6, "mlp": 4},
    "wav2vec2": {"hidden": 0, "heads": 2, "mlp": 2},
}
"""How many groups are streams (hidden size, also of a stem or classifier), heads and MLPs."""

REPRESENTED = set(FAMILIES) - {"t5", "wav2vec2"}
"""Families whose configuration can say half of every width (T5 scales its logits by the hidden size,
Wav2Vec2 has a vector that is used in training only and stays whole)."""


def made(family: str) -> Any:
    """The model of a family, every parameter drawn at random; the same every time."""
    torch.manual_seed(0)
    return randomise(tsd.load(f"hf:{FAMILIES[family]}"))
