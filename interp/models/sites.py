"""The map from TransformerLens's hook names to the modules of an untouched Hugging Face model.

Blocks' sites and their exact meanings are in `interp.models.block_sites`. Outside the blocks:

======================= ==============================================================================================
``hook_embed``          token embeddings as they enter the residual stream, any factor counted (Gemma, Granite)
``hook_pos_embed``      learned position embeddings, [1 or batch, pos, d_model]; models that add them only
``ln_final.hook_normalized``  what the unembedding reads: the final norm's result, weight included (the bridge's
                        ``ln_final.hook_out``; its own ``hook_normalized`` is before the weight)
``unembed.hook_out``    logits before any cap or factor
======================= ==============================================================================================

``hook_embed + hook_pos_embed = blocks.0.hook_resid_pre``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

import torch
from torch import nn

from interp.errors import SiteError
from interp.models.binding import Binding, put, take
from interp.models.block_sites import BLOCK_SITES, BlockSites
from interp.models.device import in_memory
from interp.models.fused import is_conv1d, out_features
from interp.models.structure import Parts, Structure

__all__ = ["Binding", "SiteMap", "Structure", "put", "take"]


class SiteMap:
    """Every site of a Hugging Face decoder language model (the model is neither wrapped nor changed).

    Attributes:
        family: ``config.model_type``.
        n_layers: number of blocks.
        structure: how the blocks are put together.

    Raises:
        LoadError: TransformerLens has no adapter for the architecture.
    """

    def __init__(self, hf_model: nn.Module) -> None:
        parts = Parts(hf_model)
        self.family = str(getattr(getattr(hf_model, "config", None), "model_type", type(hf_model).__name__))
        self.n_layers = len(parts.blocks)
        self.structure = parts.structure()
        self._class = type(hf_model).__name__
        self._blocks = [BlockSites(parts, self.structure, layer) for layer in range(self.n_layers)]
        self._modules = list(parts.blocks)
        self._lacks: dict[str, str] = {}
        before, after = self._outside(parts)
        self._bindings = {binding.site: binding for binding in before}
        for block in self._blocks:
            ordered = [block.bindings[name] for name in BLOCK_SITES if name in block.bindings]
            self._bindings.update({binding.site: binding for binding in ordered})
            self._lacks.update({f"blocks.{block.layer}.{name}": reason for name, reason in block.lacks.items()})
        self._bindings.update({binding.site: binding for binding in after})

    def names(self) -> tuple[str, ...]:
        """Every site this model has, in the order of the forward pass."""
        return tuple(self._bindings)

    def expand(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Sites that match any of the shell-style patterns, in the order of the forward pass.

        Raises:
            SiteError: a pattern matches none; the message says why the family lacks it and what it has.
        """
        wanted: set[str] = set()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            matched = fnmatch.filter(self._bindings, pattern)
            if not matched:
                raise self._missing(pattern)
            wanted.update(matched)
        return tuple(site for site in self._bindings if site in wanted)

    def binding(self, site: str) -> Binding:
        """Where one site is.

        Raises:
            SiteError: this family has no such site.
        """
        found = self._bindings.get(site)
        if found is None:
            raise self._missing(site)
        return found

    def block(self, layer: int) -> nn.Module:
        """The block's module."""
        return self._modules[self._checked(layer)]

    def attention(self, layer: int) -> nn.Module:
        """The module that computes this layer's attention (and calls the attention function).

        Raises:
            SiteError: the layer has none.
        """
        found = self._blocks[self._checked(layer)].attention
        if found is None:
            raise self._missing(f"blocks.{layer}.attn.hook_z")
        return found

    def attention_layers(self) -> tuple[int, ...]:
        """Layers that have attention (all of them, but for hybrids)."""
        return tuple(block.layer for block in self._blocks if "attn.hook_z" in block.bindings)

    def n_heads(self, layer: int) -> int:
        """Number of query heads."""
        return self.binding(f"blocks.{self._checked(layer)}.attn.hook_z").heads or 1

    def n_kv_heads(self, layer: int) -> int:
        """Number of key-value heads (of the projections; latent attention has as many as query heads)."""
        site = f"blocks.{self._checked(layer)}.attn.hook_v"
        found = self._bindings.get(site)
        return found.heads if found is not None and found.heads else self.n_heads(layer)

    def output_weight(self, layer: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The output projection, head by head: ``attn.hook_out = sum_h hook_z[h] @ W[h] + b``.

        Returns:
            W [head, d_head, d_model] (a view of the model's weight, or a copy of one that accelerate keeps elsewhere)
            and b [d_model] or None.

        Raises:
            SiteError: the layer has no attention, or its weight is packed by a quantisation.
        """
        projection = self.binding(f"blocks.{self._checked(layer)}.attn.hook_out").module
        weight, bias = projection.weight, getattr(projection, "bias", None)
        if isinstance(weight, torch.Tensor) and weight.device.type == "meta":
            weight = in_memory(projection, "weight")
            bias = None if bias is None else in_memory(projection, "bias")
        if not isinstance(weight, torch.Tensor) or not weight.is_floating_point() or weight.ndim != 2:
            raise SiteError(
                f"{self._class}: the output projection of block {layer} is packed "
                f"({type(projection).__name__}); its weight can be read from a model loaded without quantisation."
            )
        rows = weight if is_conv1d(projection) else weight.T
        return rows.reshape(self.n_heads(layer), -1, out_features(projection)), bias

    def _checked(self, layer: int) -> int:
        if not 0 <= layer < self.n_layers:
            raise SiteError(
                f"{self._class} ({self.family}) has blocks 0 to {self.n_layers - 1}; there is no block {layer}."
            )
        return layer

    def _outside(self, parts: Parts) -> tuple[list[Binding], list[Binding]]:
        """Bindings before and after the blocks."""
        before, after = [], []
        embed = parts.get("embed_ln") or self._embedding(parts)
        if embed is not None:
            before.append(Binding("hook_embed", None, embed, "output", scale=self.structure.embed_scale))
        positions = parts.get("pos_embed")
        if positions is not None:
            before.append(Binding("hook_pos_embed", None, positions, "output"))
        else:
            self._lacks["hook_pos_embed"] = f"position embeddings are not added ({self.structure.positions})"
        final = parts.get("ln_final")
        if final is not None:
            after.append(Binding("ln_final.hook_normalized", None, final, "output"))
        else:
            self._lacks["ln_final.hook_normalized"] = "there is no final norm"
        unembed = parts.get("unembed")
        if unembed is not None:
            after.append(Binding("unembed.hook_out", None, unembed, "output"))
        return before, after

    @staticmethod
    def _embedding(parts: Parts) -> nn.Module | None:
        embed = parts.get("embed")
        if embed is not None and getattr(embed, "embedding_dim", None) != int(parts.config.d_model):
            # Narrow embeddings are widened by a projection before they enter the residual stream (OPT-350m).
            named = (module for name, module in parts.model.named_modules() if name.endswith("project_in"))
            return next(named, embed)
        return embed

    def _missing(self, pattern: str) -> SiteError:
        reasons = {reason for site, reason in self._lacks.items() if fnmatch.fnmatchcase(site, pattern)}
        where = f"{self._class} ({self.family})"
        if reasons:
            return SiteError(f"{where} has no site {pattern!r}: {'; '.join(sorted(reasons))}.")
        parts = pattern.split(".")
        if parts[0] == "blocks" and len(parts) > 1 and parts[1].isdigit() and int(parts[1]) >= self.n_layers:
            return SiteError(f"{where} has no site {pattern!r}: its blocks are 0 to {self.n_layers - 1}.")
        short = {name.split(".", 2)[2] if name.startswith("blocks.") else name: None for name in self._bindings}
        inside = ", ".join(name for name in BLOCK_SITES if name in short)
        outside = ", ".join(name for name in short if name not in BLOCK_SITES)
        return SiteError(
            f"{where} has no site {pattern!r}. It has {outside}, and in every block blocks.<layer>. {inside}."
        )
