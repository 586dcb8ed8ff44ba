"""Attention, and MLPs if asked, held as in the clean run at some tokens while a head or MLP puts out something else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from interp.circuits.edits import PatchHeads, SetRows
from interp.circuits.states import Sides
from interp.tracing.partial import attended, attention_given


class Held:
    """The clean run at `here`.

    What attention returns is then known, so it is not computed, where the family's attention is no more than heads and
    their output projection; elsewhere (BLOOM) it runs and its heads' outputs are set.
    """

    def __init__(self, model: Any, sides: Sides, here: slice):
        self.model = model
        self.z = {layer: z[:, here] for layer, z in sides.clean.z.items()}
        self.mlp = {layer: mlp[:, here] for layer, mlp in sides.clean.mlp.items()}
        self.results = attended(model, self.z)

    @contextmanager
    def on(
        self, layers: range, pairs: Tensor, sent: Sequence[Any], *, mlps: bool = False, computed: Sequence[int] = ()
    ) -> Iterator[list[Any]]:
        """Inside, `layers` are held but for what `sent` (edits) puts in; gives the edits that a trace has to make.

        Args:
            pairs: pair of each row.
            mlps: hold these, too.
            computed: layers whose attention runs all the same, because something in it is read.
        """
        heads = {one.layer: one for one in sent if isinstance(one, PatchHeads)}
        given: dict[int, Tensor] = {}
        z: dict[int, Tensor] = {}
        for layer in (one for one in layers if one in self.z):
            if layer in self.results and layer not in computed:
                if layer in heads:
                    patched = heads[layer].apply(self.z[layer][pairs], "", layer)
                    given |= attended(self.model, {layer: patched})
                else:
                    given[layer] = self.results[layer][pairs]
            else:
                z[layer] = self.z[layer][pairs]
        edits: list[Any] = [SetRows("attn.hook_z", z)] if z else []
        if mlps:
            edits.append(SetRows("hook_mlp_out", {one: self.mlp[one][pairs] for one in layers if one in self.mlp}))
        edits += [one for one in sent if not (isinstance(one, PatchHeads) and one.layer in given)]
        with attention_given(self.model, given):
            yield edits
