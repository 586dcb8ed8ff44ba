"""How a model's blocks are put together, read from TransformerLens's adapter and from the modules themselves.

Nothing here asks for a model's name: a block is parallel because it says so, a sublayer adds the residual itself
because it takes one, a post-norm exists because the adapter maps one. TransformerLens is imported when a model is seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from interp.errors import LoadError


@dataclass(frozen=True)
class Structure:
    """What decides where the sites of a model's blocks are.

    Attributes:
        parallel: attention and MLP both read ``hook_resid_pre``; there is no residual in between.
        post_norm: a norm stands between a sublayer and the residual addition (Gemma 2/3, OLMo 2/3, GLM-4).
        norm_after_add: the residual is normalised after each addition (OPT-350m): resid_mid = LN(resid_pre + attn_out).
        residual_from_norm: the sublayer's normalised input is added, not the residual itself (a BLOOM option).
        residual_in_attention, residual_in_mlp: that module adds the residual itself (BLOOM; MPT's MLP).
        residual_scale: factor on what a sublayer adds (Granite).
        embed_scale: factor on the token embeddings, applied outside their module (Granite).
        gated_mlp, moe: some MLP is gated; some MLP is a mixture of experts.
        fused_qkv, fused_gate_up: projections that share one matrix.
        latent_kv: keys and values come from a shared latent vector (MLA).
        positions: ``rotary``, ``alibi``, ``standard`` (learned), ...
        attention_interface: attention goes through transformers' AttentionInterface.
    """

    parallel: bool
    post_norm: bool
    norm_after_add: bool
    residual_from_norm: bool
    residual_in_attention: bool
    residual_in_mlp: bool
    residual_scale: float
    embed_scale: float
    gated_mlp: bool
    moe: bool
    fused_qkv: bool
    fused_gate_up: bool
    latent_kv: bool
    positions: str
    attention_interface: bool


class Parts:
    """A model's modules by TransformerLens's names (``blocks.1.attn.o``), found by its architecture adapter.

    Raises:
        LoadError: TransformerLens has no adapter for this architecture.
    """

    def __init__(self, hf_model: nn.Module) -> None:
        self.model = hf_model
        self.adapter = _adapter(hf_model)
        self.mapping: Any = self.adapter.get_component_mapping()
        self.config: Any = self.adapter.cfg
        blocks = self.get("blocks")
        if not isinstance(blocks, nn.ModuleList):
            raise LoadError(f"{type(hf_model).__name__} has no list of decoder blocks; a decoder language model works.")
        self.blocks = blocks

    def get(self, path: str) -> nn.Module | None:
        """The module at a TransformerLens path, or None where this model (or this layer) has none."""
        try:
            found = self.adapter.get_component(self.model, path)
        except (AttributeError, ValueError, IndexError, KeyError, TypeError):
            return None
        return found if isinstance(found, nn.Module) else None

    def bridge(self, *names: str) -> Any:
        """TransformerLens's own description of a part of a block (``"attn"``, ``"mlp"``), or None."""
        current = self.mapping["blocks"]
        for name in names:
            current = (getattr(current, "submodules", None) or {}).get(name)
            if current is None:
                return None
        return current

    def structure(self) -> Structure:
        """See `Structure`."""
        block, attention, mlp = self.blocks[0], self._first("attn"), self._first("mlp")
        mlp_parts = getattr(self.bridge("mlp"), "submodules", None) or {}
        moe = [self.is_moe(layer) for layer in range(len(self.blocks))]
        return Structure(
            parallel=self._is_parallel(),
            post_norm=self.bridge("ln1_post") is not None or self.bridge("ln2_post") is not None,
            norm_after_add=getattr(block, "do_layer_norm_before", True) is False,
            residual_from_norm=bool(getattr(block, "apply_residual_connection_post_layernorm", False)),
            residual_in_attention=_takes_residual(attention),
            residual_in_mlp=_takes_residual(mlp),
            residual_scale=float(getattr(self.mapping["blocks"], "residual_contribution_scale", 1.0)),
            embed_scale=float(getattr(getattr(self.model, "base_model", None), "embedding_multiplier", 1.0)),
            gated_mlp="dense_gate" in mlp_parts or ("gate" in mlp_parts and not all(moe)),
            moe=any(moe),
            fused_qkv=self._first("attn.qkv") is not None,
            fused_gate_up=hasattr(self.bridge("mlp"), "split_gate_up_matrix"),
            latent_kv=self._first("attn.kv_b_proj") is not None,
            positions=str(getattr(self.config, "positional_embedding_type", "unknown")),
            attention_interface=attention is not None and calls_attention_interface(attention),
        )

    def is_moe(self, layer: int) -> bool:
        """Whether this layer's MLP routes tokens to experts."""
        mlp = self.get(f"blocks.{layer}.mlp")
        routed = (getattr(mlp, name, None) for name in ("experts", "router"))
        return any(isinstance(part, nn.Module) for part in routed)

    def _first(self, path: str) -> nn.Module | None:
        found = (self.get(f"blocks.{layer}.{path}") for layer in range(len(self.blocks)))
        return next((module for module in found if module is not None), None)

    def _is_parallel(self) -> bool:
        from transformer_lens.model_bridge.generalized_components.block import ParallelBlockBridge

        if isinstance(self.mapping["blocks"], ParallelBlockBridge):
            return True
        # Falcon's newer decoder adds both sublayers to the same residual whatever `parallel_attn` says.
        return bool(getattr(getattr(self.blocks[0], "config", None), "new_decoder_architecture", False))


def calls_attention_interface(attention: nn.Module) -> bool:
    """Whether an attention module looks its attention function up in transformers' AttentionInterface."""
    forward = inspect.unwrap(type(attention).forward)
    return "ALL_ATTENTION_FUNCTIONS" in forward.__code__.co_names


def _takes_residual(module: nn.Module | None) -> bool:
    return module is not None and "residual" in inspect.signature(inspect.unwrap(type(module).forward)).parameters


def _architectures(hf_model: nn.Module) -> Iterator[str]:
    """Class names under which the model may be known, the most specific first (a user's subclass is its parent)."""
    for cls in type(hf_model).__mro__:
        if cls.__name__ == "PreTrainedModel":
            break
        yield cls.__name__
    yield from getattr(getattr(hf_model, "config", None), "architectures", None) or ()


def _adapter(hf_model: nn.Module) -> Any:
    import transformer_lens.model_bridge  # noqa: F401  (4.0 cannot import its factory first)
    from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf

    dtype = next((parameter.dtype for parameter in hf_model.parameters()), torch.float32)
    for name in _architectures(hf_model):
        try:
            config = build_bridge_config_from_hf(hf_model.config, name, name, dtype)
            return ArchitectureAdapterFactory.select_architecture_adapter(config)
        except ValueError:
            continue
    raise LoadError(
        f"{type(hf_model).__name__} is not known to TransformerLens, whose adapters say where a model's parts are; "
        "a decoder language model with a language-model head of a known architecture works "
        "(for example LlamaForCausalLM, GPT2LMHeadModel)."
    )
