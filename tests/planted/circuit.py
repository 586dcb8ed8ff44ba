"""Builds the model of `circuit_plan`: in Llama's form with grouped queries, and in GPT-2's with learned positions.

Scores are sums of terms: each term has head dimensions of its own, in which the query reads one part of the residual
stream and the key another. Writes are a part of the attended token, moved elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.planted.circuit_plan import (
    AVOID,
    BEHIND,
    BIAS,
    CODE,
    DOUBLED,
    DUP,
    END,
    ENDINGS,
    FIRST,
    GROUPS,
    HEAD_WIDTH,
    HEADS,
    ID,
    LAYERS,
    LINK,
    NAME,
    NAMES,
    NOISE,
    NOISY,
    NORM,
    OUT,
    PAD,
    PAIRS,
    POS,
    SPECIAL,
    VOCABULARY,
    WIDTH,
    Circuit,
    codes,
)
from tests.planted.families import FAMILIES
from tests.planted.retrieval_families import THETA, Home
from tests.planted.weights import Block, Family
from tests.tiny import tiny

_LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": HEAD_WIDTH,
    "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
    "tie_word_embeddings": False,
}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_inner": 64,
    "tie_word_embeddings": False,
}


def _home(arch: str, settings: dict[str, Any]) -> Family:
    known = FAMILIES[arch]
    return Family(settings, known.blocks, known.read, positions=known.positions)


HOMES = {
    "llama": Home(_home("llama", _LLAMA)),
    "gpt2": Home(_home("gpt2", _GPT2), rotary=0, final=lambda model: model.transformer.ln_f),
}
LOUD = 2.0
"""How strongly `OUT` is read by the unembedding; logits are some five times that for a mover of size 1."""
READS, WRITES, MURMUR = 1.0, 0.1, 0.02
"""Size of noise that reads, that writes, and that the unembedding reads."""


@dataclass(frozen=True)
class Term:
    """`score` where the query's `query` and the key's `key` are equal and of length 1; slices of one width."""

    query: slice
    key: slice
    score: float


@dataclass(frozen=True)
class Plan:
    """A head: the terms of its scores, how near is scored (tokens back, score, frequencies), and what it moves where:
    (from, to, size)."""

    terms: tuple[Term, ...]
    moves: tuple[tuple[slice, slice, float], ...]
    near: tuple[int, float, int] | None = None


def _rest(score: float) -> Term:
    return Term(BIAS, FIRST, score)


MATCH, REST = 30.0, 15.0
PREVIOUS = Plan((), ((ID, LINK, 1.0), (NAME, BEHIND, 1.0)), (1, 100.0, PAIRS))
DUPLICATE = Plan((Term(ID, ID, MATCH), _rest(REST)), ((ID, DUP, 0.5), (NAME, DOUBLED, 0.5)), (0, -0.7 * MATCH, 3))
INDUCTION = Plan((Term(ID, LINK, MATCH), _rest(REST)), ((LINK, DUP, 0.8), (BEHIND, DOUBLED, 0.8)))
INHIBITION = Plan((Term(END, DOUBLED, 25.0), _rest(8.0)), ((DUP, AVOID, 0.8),))


def _mover(size: float) -> Plan:
    return Plan((Term(END, NAME, 9.0), Term(AVOID, ID, -6.0), _rest(4.0)), ((ID, OUT, size),))


BACKUP = Plan((*_mover(0.0).terms, Term(OUT, ID, -6.5)), ((ID, OUT, 0.8),))


def plant(arch: str, circuit: Circuit | None, seed: int = 0, *, inhibits: bool = True) -> PreTrainedModel:
    """A model of the family `arch` with a circuit, or all noise with None.

    Args:
        inhibits: False = the queries of the inhibition heads do not see the end: they rest on the first token there,
            and the movers say whom they see most often, the wrong one.
    """
    home = HOMES[arch]
    model = tiny(arch, seed=seed, **home.family.settings)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        _embed(model, home, rng)
        blocks = [home.family.read(module) for module in home.family.blocks(model)]
        for block in blocks:
            _fill_with_noise(block, rng)
        for (layer, head), plan in ({} if circuit is None else _plans(circuit, inhibits)).items():
            _plant_head(blocks[layer], head, plan, home)
        home.final(model).weight.fill_(1.0)
    return model


def _plans(circuit: Circuit, inhibits: bool) -> dict[tuple[int, int], Plan]:
    broken = Plan((_rest(8.0),), INHIBITION.moves)
    return {
        circuit.previous: PREVIOUS,
        circuit.duplicate: DUPLICATE,
        circuit.induction: INDUCTION,
        **dict.fromkeys(circuit.inhibition, INHIBITION if inhibits else broken),
        **dict(zip(circuit.movers, (_mover(1.0), _mover(0.7)), strict=True)),
        circuit.negative: _mover(-0.5),
        circuit.backup: BACKUP,
    }


def _pair(size: float = 1.0) -> Tensor:
    return torch.tensor([size, -size]) / 2**0.5


def _embed(model: PreTrainedModel, home: Home, rng: torch.Generator) -> None:
    rows = torch.zeros(VOCABULARY, WIDTH)
    noise = torch.randn(VOCABULARY, NOISE.stop - NOISE.start, generator=rng)
    noise -= noise.mean(-1, keepdim=True)
    rows[:, NOISE] = NOISY * noise / noise.norm(dim=-1, keepdim=True)
    rows[:, BIAS] = _pair()
    rows[1, FIRST] = _pair()
    words = rows[SPECIAL:]
    words[:, ID] = codes()
    words[list(NAMES), NAME] = _pair()
    words[list(ENDINGS), END] = _pair()
    rows[:, PAD] = (NORM**2 - rows.square().sum(-1, keepdim=True)).sqrt() * _pair()
    said = torch.zeros(VOCABULARY, WIDTH)
    said[:, NOISE] = MURMUR * torch.randn(noise.shape, generator=rng)
    said[SPECIAL:, OUT] = LOUD * codes()
    for module, values in ((model.get_input_embeddings(), rows), (model.get_output_embeddings(), said)):
        weight = getattr(module, "weight", None)
        assert isinstance(weight, Tensor)
        weight.copy_(values)
    if home.family.positions is not None:
        learned = home.family.positions(model)
        learned.zero_()
        angles = torch.arange(len(learned))[:, None] * torch.tensor(home.frequencies(PAIRS))
        turned = torch.stack([angles.cos(), angles.sin(), -angles.cos(), -angles.sin()], -1)
        learned[:, POS] = turned.flatten(1) / (2 * PAIRS) ** 0.5


def _fill_with_noise(block: Block, rng: torch.Generator) -> None:
    """Noise reads everything and writes to `NOISE` alone."""
    reading, writing = [block.query, block.key, block.value], [block.out]
    for expert in block.experts:
        reading += [part for part in (expert.gate, expert.up) if part is not None]
        writing.append(expert.down)
    for weight, size in [(one, READS) for one in reading] + [(one, WRITES) for one in writing]:
        weight.copy_(size * torch.randn(weight.shape, generator=rng) / weight.shape[-1] ** 0.5)
    for weight in writing:
        weight[: NOISE.start] = 0
    for norm in block.ones:
        norm.fill_(1.0)


def _plant_head(block: Block, number: int, plan: Plan, home: Home) -> None:
    groups = block.key.numel() // (HEAD_WIDTH * WIDTH)
    query = block.query.view(HEADS, HEAD_WIDTH, WIDTH)[number]
    key, value = (
        weight.view(groups, HEAD_WIDTH, WIDTH)[number * groups // HEADS] for weight in (block.key, block.value)
    )
    out = block.out.view(WIDTH, HEADS, HEAD_WIDTH)[:, number]
    for weight in (query, key, value, out):
        weight.zero_()
    if plan.near is not None:
        _compare_places(query, key, home, *plan.near)
    _add_terms(query, key, home.still(), plan.terms)
    stretch = WIDTH**0.5 / NORM  # of the norm before attention
    for weight in (query, key):
        weight *= HEAD_WIDTH**0.25 / stretch
    taken = 0
    for source, target, size in plan.moves:
        width = source.stop - source.start
        dims = range(taken, taken + width)
        value[dims, range(source.start, source.stop)] = 1 / stretch
        out[range(target.start, target.stop), dims] = size
        taken += width


def _add_terms(query: Tensor, key: Tensor, still: Sequence[int], terms: Sequence[Term]) -> None:
    """Codes take as many dimensions as they are wide, together with all that the same part of the key is compared with;
    marks take one."""
    free, taken = list(still), {}
    for term in terms:
        if term.query.stop - term.query.start == CODE:
            if term.key.start not in taken:
                taken[term.key.start] = [free.pop() for _ in range(CODE)]
                key[taken[term.key.start], range(term.key.start, term.key.stop)] = 1
            query[taken[term.key.start], range(term.query.start, term.query.stop)] = term.score
        else:
            dim = free.pop()
            query[dim, term.query] = term.score * _pair()
            key[dim, term.key] = _pair()


def _compare_places(query: Tensor, key: Tensor, home: Home, back: int, score: float, count: int) -> None:
    """`score` where the key stands `back` tokens before the query, by the `count` fastest frequencies."""
    size = PAIRS**-0.5
    score *= PAIRS / count
    for i, speed in enumerate(home.frequencies(count)):
        cosine, sine = math.cos(back * speed), math.sin(back * speed)
        if home.rotary:
            for dim, share in zip((i, i + home.rotary // 2), (cosine, -sine), strict=True):
                query[dim, BIAS] = score * size * share * _pair()
            key[i, BIAS] = size * _pair()
            continue
        here = slice(POS.start + 4 * i, POS.start + 4 * i + 4)
        along, across = torch.tensor([[1.0, 0, -1, 0], [0, 1, 0, -1]]) / 2**0.5
        query[2 * i, here] = score * (cosine * along + sine * across)
        query[2 * i + 1, here] = score * (cosine * across - sine * along)
        key[2 * i, here], key[2 * i + 1, here] = along, across
