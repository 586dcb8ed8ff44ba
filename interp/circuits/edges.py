"""The graph of a model: who writes into the residual stream, who reads from it, and an edge from each earlier writer to
each later reader (Conmy et al. 2023, arXiv 2304.14997; Syed et al. 2023, arXiv 2310.10348).

Writers are the embeddings, every head and every MLP. Readers are the query, key and value of every head, the input of
every MLP, and the logits. In a parallel block attention and MLP read the same state, so no head reaches its own layer's
MLP. Where query heads share keys and values, the shared key and the shared value are the readers, one of each a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from interp.errors import UsageError

SIDES = ("q", "k", "v")


@dataclass(frozen=True)
class Writer:
    """What adds to the residual stream; `layer` of the embeddings is -1, `head` of what is no head is -1."""

    kind: Literal["input", "head", "mlp"]
    layer: int = -1
    head: int = -1

    @property
    def name(self) -> str:
        """``input``, ``a3.h1``, ``m3``."""
        return {"input": "input", "head": f"a{self.layer}.h{self.head}", "mlp": f"m{self.layer}"}[self.kind]


@dataclass(frozen=True)
class Receiver:
    """What reads the residual stream; `head` is the query head, or the key/value head of its layer."""

    kind: Literal["q", "k", "v", "mlp", "logits"]
    layer: int = -1
    head: int = -1

    @property
    def name(self) -> str:
        """``a3.h1<q>``, ``m3``, ``logits``."""
        if self.kind in SIDES:
            return f"a{self.layer}.h{self.head}<{self.kind}>"
        return "logits" if self.kind == "logits" else f"m{self.layer}"


@dataclass(frozen=True)
class Block:
    """One layer's numbers of query heads and of key/value heads (0 without attention), and whether it has an MLP."""

    heads: int
    kv_heads: int
    mlp: bool = True


@dataclass(frozen=True)
class EdgeGraph:
    """Writers and receivers in the order of the forward pass. Receiver r reads ``writers[:reach[r]]``."""

    writers: tuple[Writer, ...]
    receivers: tuple[Receiver, ...]
    reach: tuple[int, ...]

    @property
    def n_nodes(self) -> int:
        """Writers and the logits."""
        return len(self.writers) + 1

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return sum(self.reach)

    @cached_property
    def edges(self) -> np.ndarray:
        """bool [writer, receiver]: where there is an edge."""
        return np.arange(len(self.writers))[:, None] < np.array(self.reach)[None, :]

    @cached_property
    def writer(self) -> dict[tuple[str, int, int], int]:
        """(kind, layer, head) -> index in `writers`."""
        return {(one.kind, one.layer, one.head): index for index, one in enumerate(self.writers)}

    @cached_property
    def receiver(self) -> dict[tuple[str, int, int], int]:
        """(kind, layer, head) -> index in `receivers`."""
        return {(one.kind, one.layer, one.head): index for index, one in enumerate(self.receivers)}

    def heads(self, layer: int) -> slice:
        """A layer's heads in `writers`."""
        first = self.writer["head", layer, 0]
        return slice(first, first + sum(key[:2] == ("head", layer) for key in self.writer))

    def of(self, kind: str, layer: int = -1) -> slice:
        """A layer's receivers of one kind in `receivers`."""
        first = self.receiver[kind, layer, 0 if kind in SIDES else -1]
        return slice(first, first + sum(key[:2] == (kind, layer) for key in self.receiver))

    def index(self, edge: str) -> tuple[int, int]:
        """(writer, receiver) of an edge by name, such as ``a0.h1->a3.h2<q>``, ``input->m0`` or ``m3->logits``.

        Raises:
            UsageError: there is no such edge.
        """
        source, _, target = edge.partition("->")
        writers = {one.name: index for index, one in enumerate(self.writers)}
        receivers = {one.name: index for index, one in enumerate(self.receivers)}
        if source not in writers or target not in receivers or writers[source] >= self.reach[receivers[target]]:
            raise UsageError(f"no edge {edge!r}; edges read like a0.h1->a3.h2<q>, input->m0, m3->logits, sender first")
        return writers[source], receivers[target]

    def name(self, writer: int, receiver: int) -> str:
        """``a0.h1->a3.h2<q>``."""
        return f"{self.writers[writer].name}->{self.receivers[receiver].name}"


def edge_graph(blocks: Sequence[Block], parallel: bool = False) -> EdgeGraph:
    """The graph of a model of these blocks."""
    writers, receivers, reach = [Writer("input")], [], []

    def read(*new: Receiver) -> None:
        receivers.extend(new)
        reach.extend([len(writers)] * len(new))

    for layer, block in enumerate(blocks):
        for kind in SIDES:
            read(*(Receiver(kind, layer, head) for head in range(block.heads if kind == "q" else block.kv_heads)))
        if block.mlp and parallel:
            read(Receiver("mlp", layer))
        writers += [Writer("head", layer, head) for head in range(block.heads)]
        if block.mlp and not parallel:
            read(Receiver("mlp", layer))
        if block.mlp:
            writers.append(Writer("mlp", layer))
    read(Receiver("logits"))
    return EdgeGraph(tuple(writers), tuple(receivers), tuple(reach))


def graph_of(model: Any) -> EdgeGraph:
    """The graph of a loaded model."""
    sites = model.sites
    names, attention = set(sites.names()), set(sites.attention_layers())
    blocks = [
        Block(
            sites.n_heads(layer) if layer in attention else 0,
            sites.n_kv_heads(layer) if layer in attention else 0,
            f"blocks.{layer}.hook_mlp_out" in names,
        )
        for layer in range(sites.n_layers)
    ]
    return edge_graph(blocks, sites.structure.parallel)
