"""The sites of one block: which module and tensor each TransformerLens name stands for, and why a block lacks one.

Names and meanings (shapes: d = d_model, H = heads, K = key-value heads):

====================  ================================================================================================
``hook_resid_pre``    what enters the block, [batch, pos, d]
``attn.hook_in``      what the attention module reads (after the first norm), [batch, pos, d]
``attn.hook_q/k/v``   projections, before any q/k norm and before rotary embedding, [batch, pos, H or K, d_head]
``attn.hook_rot_q/k`` what the attention function receives, after rotary; with a cache: all keys
``attn.hook_z``       what the output projection reads: pattern @ v, [batch, pos, H, d_head]
``attn.hook_out``     what the output projection returns, bias included, before any post-norm and factor
``hook_attn_out``     what attention adds to the residual: post-norm and residual factor counted
``hook_resid_mid``    the residual between attention and MLP; none in a parallel block
``mlp.hook_in``       what the MLP reads
``mlp.hook_pre``      before the activation function: the gate projection of a gated MLP, else the first projection
``mlp.hook_pre_linear`` the up projection of a gated MLP
``mlp.hook_post``     what the down projection reads
``mlp.hook_out``      what the MLP returns, before any post-norm and factor
``hook_mlp_out``      what the MLP adds to the residual
``hook_resid_post``   what leaves the block (never the final-normed state)
====================  ================================================================================================

Three of them differ from TransformerLens's bridge on purpose. ``hook_attn_out`` / ``hook_mlp_out`` never include the
residual itself where a module adds it inside (BLOOM, MPT). ``attn.hook_q`` of a latent-attention model (DeepSeek) is
before rotary as everywhere else, and ``hook_rot_q`` is the whole query. In a mixture of experts ``mlp.hook_pre`` and
``mlp.hook_post`` do not exist; the bridge gives these names to the input and output of the whole MLP.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from interp.models.binding import Binding, Where
from interp.models.fused import Slice, gate_up_slices, out_features, qkv_slices
from interp.models.structure import Parts, Structure, calls_attention_interface

BLOCK_SITES = (
    "hook_resid_pre",
    "attn.hook_in",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_rot_q",
    "attn.hook_rot_k",
    "attn.hook_z",
    "attn.hook_out",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_in",
    "mlp.hook_pre",
    "mlp.hook_pre_linear",
    "mlp.hook_post",
    "mlp.hook_out",
    "hook_mlp_out",
    "hook_resid_post",
)


class BlockSites:
    """Bindings of one block, by short name (``attn.hook_z``), and reasons for the names it lacks."""

    def __init__(self, parts: Parts, structure: Structure, layer: int) -> None:
        self.layer = layer
        self.bindings: dict[str, Binding] = {}
        self.lacks: dict[str, str] = {}
        self.attention = parts.get(f"blocks.{layer}.attn")
        self.mlp = parts.get(f"blocks.{layer}.mlp")
        self._parts, self._structure = parts, structure
        self._block = parts.blocks[layer]
        self._bind("hook_resid_pre", self._block, "input", keyword="hidden_states")
        self._bind("hook_resid_post", self._block, "output")
        self._attention_sites()
        self._mlp_sites()
        self._resid_mid()

    def part(self, name: str) -> nn.Module | None:
        """A module of this block by TransformerLens's name, e.g. ``attn.o``."""
        return self._parts.get(f"blocks.{self.layer}.{name}")

    def _bind(self, name: str, module: nn.Module, where: Where, **fields: Any) -> None:
        site = f"blocks.{self.layer}.{name}"
        self.bindings[name] = Binding(site=site, layer=self.layer, module=module, where=where, **fields)

    def _lack(self, reason: str, *names: str) -> None:
        self.lacks.update(dict.fromkeys(names, reason))

    def _attention_sites(self) -> None:
        attention, output = self.attention, self.part("attn.o")
        names = [name for name in BLOCK_SITES if name.startswith("attn.")] + ["hook_attn_out"]
        if attention is None or output is None:
            self._lack(f"block {self.layer} ({type(self._block).__name__}) has no attention", *names)
            return
        scale = self._structure.residual_scale
        heads = int(self._parts.config.n_heads)
        post_norm = self.part("ln1_post")
        self._bind("attn.hook_in", attention, "input", keyword="hidden_states")
        self._bind("attn.hook_z", output, "input", heads=heads)
        self._bind("attn.hook_out", output, "output")
        self._bind("hook_attn_out", post_norm or output, "output", scale=scale)
        self._rotated(attention)
        if self._structure.latent_kv:
            self._latent(attention, heads)
        elif (fused := self.part("attn.qkv")) is not None:
            self._fused(attention, fused, heads)
        else:
            self._separate(attention, heads)

    def _rotated(self, attention: nn.Module) -> None:
        names = ("attn.hook_rot_q", "attn.hook_rot_k")
        if self._structure.positions != "rotary":
            self._lack(
                f"positions are not rotary ({self._structure.positions}); attn.hook_q and attn.hook_k exist", *names
            )
        elif not calls_attention_interface(attention):
            self._lack(
                f"{type(attention).__name__} rotates and uses its queries and keys inside its own forward; "
                "attn.hook_q and attn.hook_k (before rotary) exist",
                *names,
            )
        else:
            self._bind(names[0], attention, "query")
            self._bind(names[1], attention, "key")

    def _latent(self, attention: nn.Module, heads: int) -> None:
        query = self.part("attn.q_b_proj") or self.part("attn.q_proj")
        if query is not None:
            self._bind("attn.hook_q", query, "output", heads=heads)
        self._bind("attn.hook_v", attention, "value")
        self._lack(
            "keys are built from a shared latent and a shared rotated part, so there is none per head before rotary; "
            "attn.hook_rot_k has the keys that are attended to",
            "attn.hook_k",
        )

    def _separate(self, attention: nn.Module, heads: int) -> None:
        q, k, v = (self.part(f"attn.{name}") for name in "qkv")
        names = ("attn.hook_q", "attn.hook_k", "attn.hook_v")
        if q is None or k is None or v is None:
            self._lack(f"{type(attention).__name__} has no separate query, key and value projections", *names)
            return
        d_head = self._d_head(attention, out_features(q), heads)
        if out_features(q) != heads * d_head:
            self._lack(
                f"{type(attention).__name__}'s query projection holds more than queries "
                f"({out_features(q)} outputs for {heads} heads of {d_head}); attn.hook_rot_q may exist",
                "attn.hook_q",
            )
        else:
            self._bind("attn.hook_q", q, "output", heads=heads)
        self._bind("attn.hook_k", k, "output", heads=out_features(k) // d_head)
        self._bind("attn.hook_v", v, "output", heads=out_features(k) // d_head)

    def _fused(self, attention: nn.Module, fused: nn.Module, heads: int) -> None:
        slices = qkv_slices(self._parts.bridge("attn"), attention, fused, int(self._parts.config.d_model))
        if slices is None:
            self._lack(
                f"{type(attention).__name__} fuses queries, keys and values in a layout that is not a regular slice; "
                "attn.hook_rot_q and attn.hook_rot_k may exist",
                "attn.hook_q",
                "attn.hook_k",
                "attn.hook_v",
            )
            return
        d_head = slices["q"].size // heads
        for name, part in slices.items():
            self._bind_slice(f"attn.hook_{name}", fused, part, heads=part.size // d_head)

    def _bind_slice(self, name: str, module: nn.Module, part: Slice, heads: int | None = None) -> None:
        self._bind(name, module, "output", groups=part.groups, start=part.start, stop=part.stop, heads=heads)

    @staticmethod
    def _d_head(attention: nn.Module, width: int, heads: int) -> int:
        stated = getattr(attention, "head_dim", None)
        return stated if isinstance(stated, int) and stated > 0 else width // heads

    def _mlp_sites(self) -> None:
        names = [name for name in BLOCK_SITES if name.startswith("mlp.")] + ["hook_mlp_out"]
        mlp = self.mlp
        if mlp is None:
            self._lack(f"block {self.layer} ({type(self._block).__name__}) has no MLP", *names)
            return
        dense = self._dense_parts()
        inside = mlp is self._block  # OPT keeps its two projections in the block itself
        first, last = dense.get("in"), dense.get("out")
        reader, writer = (first, last) if inside else (mlp, mlp)
        if self._structure.residual_in_mlp and last is not None:
            writer = last  # the module's own result has the residual in it
        if reader is None or writer is None:
            self._lack(f"{type(self._block).__name__} keeps its MLP in the block in a way that is not mapped", *names)
            return
        # A parallel block may add attention's output into the MLP's result in place (Falcon does).
        overwritten = self._structure.parallel
        post_norm = self.part("ln2_post")
        self._bind("mlp.hook_in", reader, "input", keyword="hidden_states")
        self._bind("mlp.hook_out", writer, "output", overwritten=overwritten)
        out = post_norm or writer
        self._bind("hook_mlp_out", out, "output", scale=self._structure.residual_scale, overwritten=overwritten)
        self._mlp_inside(mlp, dense)

    def _dense_parts(self) -> dict[str, nn.Module]:
        """The MLP's own projections (gate, in, out) in this layer; experts have none (a router is not a gate)."""
        declared = getattr(self._parts.bridge("mlp"), "submodules", None) or {}
        prefix = "dense_" if "dense_out" in declared else ""
        if self._parts.is_moe(self.layer):
            return {}
        found = {name: self.part(f"mlp.{prefix}{name}") for name in ("gate", "in", "out")}
        return {name: module for name, module in found.items() if module is not None}

    def _mlp_inside(self, mlp: nn.Module, dense: dict[str, nn.Module]) -> None:
        if "out" not in dense:
            self._lack(
                f"{type(mlp).__name__} routes each token to experts, which have no hidden layer in common; "
                "mlp.hook_in and mlp.hook_out exist",
                "mlp.hook_pre",
                "mlp.hook_pre_linear",
                "mlp.hook_post",
            )
            return
        self._bind("mlp.hook_post", dense["out"], "input")
        fused = gate_up_slices(self._parts.bridge("mlp"), mlp, int(self._parts.config.d_model))
        if fused is not None:
            self._bind_slice("mlp.hook_pre", fused[0], fused[1]["gate"])
            self._bind_slice("mlp.hook_pre_linear", fused[0], fused[1]["up"])
        elif "gate" in dense and "in" in dense:
            self._bind("mlp.hook_pre", dense["gate"], "output")
            self._bind("mlp.hook_pre_linear", dense["in"], "output")
        elif "in" in dense:
            self._bind("mlp.hook_pre", dense["in"], "output")
            self._lack(
                f"{type(mlp).__name__} is not gated; mlp.hook_pre and mlp.hook_post exist", "mlp.hook_pre_linear"
            )
        else:
            self._lack(f"{type(mlp).__name__} has no projection before its activation function", "mlp.hook_pre")

    def _resid_mid(self) -> None:
        structure, name = self._structure, "hook_resid_mid"
        first_norm, second_norm = self.part("ln1"), self.part("ln2")
        if structure.parallel:
            self._lack(
                "its blocks are parallel: attention and MLP both read hook_resid_pre, and hook_resid_post = "
                "hook_resid_pre + hook_attn_out + hook_mlp_out",
                name,
            )
        elif structure.norm_after_add and first_norm is not None:
            self._bind(name, first_norm, "output")
        elif second_norm is not None:
            # Where the normalised value is what gets added (residual_from_norm), nothing else reads the residual here.
            self._bind(name, second_norm, "input", keyword="hidden_states", shared=not structure.residual_from_norm)
        elif self.part("ln2_post") is not None and self.mlp is not None:
            self._bind(name, self.mlp, "input", keyword="hidden_states", shared=True)
        else:
            self._lack(f"block {self.layer} has no norm or MLP that reads the residual after attention", name)
