"""Tiny random causal language models, built from configs without any download.

Each architecture keeps the variant that makes it hard: grouped queries, sliding windows shorter than the prompts,
soft-capped scores, learned sinks, ALiBi, parallel blocks, latent attention. Weights are drawn wide enough that
attention is far from uniform.
"""

from __future__ import annotations

import string
import warnings
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

_DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_HEAD = {"head_dim": 8}
_GEMMA = dict(
    _DECODER,
    head_dim=8,
    sliding_window=8,
    query_pre_attn_scalar=8,
    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
)
_YARN_FREE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}

_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", dict(_DECODER)),
    "mistral": ("mistral", dict(_DECODER, **_HEAD, sliding_window=8)),
    "mixtral": ("mixtral", dict(_DECODER, num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
    "qwen2": (
        "qwen2",
        dict(_DECODER, use_sliding_window=True, sliding_window=8, max_window_layers=1),
    ),
    "qwen3": ("qwen3", dict(_DECODER, head_dim=12)),
    "qwen3_moe": (
        "qwen3_moe",
        dict(_DECODER, **_HEAD, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, mlp_only_layers=[0]),
    ),
    "gemma2": (
        "gemma2",  # eager: transformers before 5.22 lets sdpa run it and drop the soft cap
        dict(_GEMMA, attn_logit_softcapping=5.0, final_logit_softcapping=10.0, attn_implementation="eager"),
    ),
    "gemma3": ("gemma3_text", dict(_GEMMA)),
    "phi3": ("phi3", dict(_DECODER, sliding_window=None)),
    "phi": ("phi", dict(_DECODER, partial_rotary_factor=0.5)),
    "olmo2": ("olmo2", dict(_DECODER)),
    "olmo3": (
        "olmo3",
        dict(_DECODER, sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    ),
    "gpt_oss": (
        "gpt_oss",
        dict(
            _DECODER,
            **_HEAD,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters=_YARN_FREE,
        ),
    ),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}),
    "gpt_neox": (
        "gpt_neox",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "use_parallel_residual": True,
        },
    ),
    "gptj": ("gptj", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "rotary_dim": 4}),
    "opt": (
        "opt",
        {
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "word_embed_proj_dim": 32,
        },
    ),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "falcon": (
        "falcon",
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "multi_query": True,
            "parallel_attn": True,
            "new_decoder_architecture": False,
            "alibi": False,
            "bias": False,
            "max_position_embeddings": 256,
        },
    ),
    "gpt_neo": (
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 4,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 8,
            "max_position_embeddings": 256,
        },
    ),
    "glm4": ("glm4", dict(_DECODER, **_HEAD, partial_rotary_factor=0.5)),
    "granite": (
        "granite",
        dict(_DECODER, residual_multiplier=0.6, attention_multiplier=0.3, embedding_multiplier=3.0, logits_scaling=2.0),
    ),
    "cohere": ("cohere", dict(_DECODER, use_qk_norm=True, logit_scale=0.5)),
    "stablelm": ("stablelm", dict(_DECODER, use_parallel_residual=False, use_qkv_bias=True, partial_rotary_factor=0.5)),
    "smollm3": ("smollm3", dict(_DECODER, no_rope_layers=[1, 0, 1], use_sliding_window=False)),
    "starcoder2": ("starcoder2", dict(_DECODER, sliding_window=8, use_bias=True)),
    "deepseek_v3": (
        "deepseek_v3",
        dict(
            _DECODER | {"num_key_value_heads": 4},
            moe_intermediate_size=24,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_shared_experts=1,
            n_group=2,
            topk_group=1,
            first_k_dense_replace=1,
            kv_lora_rank=16,
            q_lora_rank=24,
            qk_rope_head_dim=4,
            qk_nope_head_dim=8,
            v_head_dim=6,
            rope_parameters=_YARN_FREE,
        ),
    ),
    "codegen": (
        "codegen",
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "n_ctx": 256, "rotary_dim": 4},
    ),
    "mpt": ("mpt", {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 256, "expansion_ratio": 2}),
}

ARCHS: tuple[str, ...] = tuple(_CONFIGS)

# They never call transformers' attention interface; GPT-J and CodeGen do from 5.24 on.
BYPASSING = frozenset({"bloom", "falcon", "gpt_neo", "mpt"}) | (
    {"gptj", "codegen"} if Version(transformers.__version__) < Version("5.24") else set()
)


def tiny(arch: str, seed: int = 0, **config_overrides: Any) -> PreTrainedModel:
    """A random model of `arch` (one of `ARCHS`): fp32, eval mode, CPU, vocabulary 128; one seed, one set of weights."""
    model_type, settings = _CONFIGS[arch]
    ids = {"vocab_size": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(model_type, **{**ids, **settings, **config_overrides})
    config.architectures = [AutoModelForCausalLM._model_mapping[type(config)].__name__]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        _widen(model)
    return model.eval()


def _widen(model: PreTrainedModel) -> None:
    """Redraw every parameter in place: matrices larger for queries and keys, non-trivial biases, norms and sinks."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if "sinks" in name:
                parameter.copy_(noise)
            elif "embed" in name or ".wte" in name or ".wpe" in name:
                parameter.copy_(0.5 * noise)
            elif "norm" in name or ".ln_" in name:
                centre = parameter.mean().round().item()  # 1 for most norms; 0 for biases and for Gemma's (1 + w) norms
                if name.endswith(("q_norm.weight", "k_norm.weight")):
                    centre += 0.8
                parameter.copy_(centre + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.2 * noise)
            else:
                # GPT-Neo does not divide scores by the root of d_head; its queries and keys are smaller instead.
                gain = 1.2 if model.config.model_type == "gpt_neo" else 2.0
                reads_queries = any(
                    part in name for part in ("q_proj", "k_proj", "qkv", "query", "c_attn", "q_b_proj", "kv_b")
                )
                parameter.copy_(noise * (gain if reads_queries else 1.0) / 32**0.5)


def tiny_tokenizer(vocab_size: int = 128) -> PreTrainedTokenizerFast:
    """A word-level fast tokenizer in memory: `<pad>` 0, `<s>` 1 (BOS, added unless told not to), `</s>` 2, `<unk>` 3.

    Its vocabulary has exactly `vocab_size` entries (at least 64); any text of unknown words encodes to `<unk>`.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import Fuse, Sequence
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    common = [
        "the",
        "a",
        "and",
        "of",
        "to",
        "in",
        "is",
        "it",
        "cat",
        "dog",
        "sat",
        "on",
        "mat",
        "ran",
        "was",
        "red",
        "blue",
    ]
    words = [" ", "\n", *".,!?'\"():;-<>/", *string.digits, *common]
    fill = [f"w{i}" for i in range(vocab_size)]
    vocabulary = {word: index for index, word in enumerate((special + words + fill)[:vocab_size])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Split(Regex(r"\w+|[^\w]"), behavior="isolated")
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.decoder = Sequence([Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
