"""Heads of a pair edited with plain hooks on the model's own modules, for tests to compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from interp.circuits.pairs import pair_of
from probes.base import Prompt
from tests.plain import eager


class Plain:
    """Heads edited by hand: hooks before each output projection, patterns from eager attention."""

    def __init__(self, model: Any):
        self.hf, self.n_heads = model.hf, model.n_heads
        self.gpt2 = hasattr(self.hf, "transformer")
        blocks = self.hf.transformer.h if self.gpt2 else self.hf.model.layers
        self.attn = [block.attn if self.gpt2 else block.self_attn for block in blocks]
        self.out = [one.c_proj if self.gpt2 else one.o_proj for one in self.attn]
        self.value = [one.c_attn if self.gpt2 else one.v_proj for one in self.attn]

    def run(self, ids: Sequence[int], changes: Mapping[int, Callable[[Tensor], None]]) -> tuple[Tensor, Any, Any]:
        """(logits at the last position, z [position, head, d_head] by layer, v by layer); a change works on z."""
        kept: dict[int, Tensor] = {}
        values: dict[int, Tensor] = {}

        def before(layer: int) -> Any:
            def hook(module: Any, args: Any) -> Any:
                z = args[0].clone()
                if layer in changes:
                    changes[layer](z[0].unflatten(-1, (self.n_heads, -1)))
                kept[layer] = z[0].unflatten(-1, (self.n_heads, -1)).clone()
                return (z, *args[1:])

            return hook

        def after(layer: int) -> Any:
            def hook(module: Any, args: Any, out: Tensor) -> None:
                d_head = kept[0].shape[-1] if kept else self.hf.config.hidden_size // self.n_heads
                v = out[0, :, -self.n_heads * d_head :] if self.gpt2 else out[0]
                values[layer] = v.clone()

            return hook

        with ExitStack() as stack, torch.no_grad():
            for layer, module in enumerate(self.out):
                stack.callback(module.register_forward_pre_hook(before(layer)).remove)
                stack.callback(self.value[layer].register_forward_hook(after(layer)).remove)
            logits, patterns = eager(self.hf, torch.tensor([list(ids)]), torch.ones(1, len(ids), dtype=torch.long))
        self.patterns = [pattern[0] for pattern in patterns]
        return logits[0, -1].float(), kept, values

    def difference(self, prompt: Prompt, changes: Mapping[int, Callable[[Tensor], None]]) -> float:
        pair = pair_of(prompt)
        logits = self.run(prompt.ids, changes)[0]
        return float(logits[pair.answer] - logits[list(pair.wrong)].mean())

    def set(
        self, heads: Sequence[tuple[int, int]], outputs: Any, at: Sequence[int] | None = None
    ) -> dict[int, Callable[[Tensor], None]]:
        """`outputs(layer, head)` [position, d_head] or a number stands for the heads' z at those positions."""

        def change(layer: int) -> Callable[[Tensor], None]:
            def edit(z: Tensor) -> None:
                for here, head in heads:
                    if here == layer:
                        for position in range(len(z)) if at is None else at:
                            new = outputs(layer, head)
                            z[position, head] = new if isinstance(new, float) else new[position]

            return edit

        return {layer: change(layer) for layer in {layer for layer, _ in heads}}

    def knocked(
        self, prompt: Prompt, heads: Sequence[tuple[int, int]], queries: Any, keys: Any, renormalise: bool
    ) -> dict[int, Callable[[Tensor], None]]:
        """Layer by layer, since a later head's row follows from what was cut before."""
        changes: dict[int, Callable[[Tensor], None]] = {}
        for layer in sorted({layer for layer, _ in heads}):
            _, z, values = self.run(prompt.ids, changes)
            v = values[layer].unflatten(-1, (-1, z[layer].shape[-1]))
            new = z[layer].clone()
            for head in [head for here, head in heads if here == layer]:
                pattern = self.patterns[layer][head].clone()
                mine = v[:, head // (self.n_heads // v.shape[1])]
                torch.testing.assert_close(pattern @ mine, z[layer][:, head], atol=1e-5, rtol=1e-4)
                for query in queries:
                    pattern[query, list(keys)] = 0
                    if renormalise:
                        pattern[query] /= pattern[query].sum()
                new[:, head] = pattern @ mine
            mine_only = [one for one in heads if one[0] == layer]
            changes |= self.set(mine_only, lambda at, head, new=new: new[:, head])
        return changes
