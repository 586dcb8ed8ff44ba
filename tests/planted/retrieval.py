"""Builds the models of `retrieval_plan` in each family's form, and controls that lack one half of the head.

A planted head's query and key are unit vectors times a gain, so that keys that match score `MATCH` and the first token
`REST` times as much; under query and key norms the norms' weights are that gain.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.planted.retrieval_families import HOMES, Home
from tests.planted.retrieval_plan import (
    BARE,
    BIAS,
    CODE,
    CONSTANT,
    DUMP,
    ENDING,
    FIRST,
    HEAD_WIDTH,
    HEADS,
    ID,
    LINK,
    LOUD,
    NOISE,
    NOISY,
    NORM,
    OTHER,
    OUT,
    PAD,
    PAIRS,
    POS,
    SPECIAL,
    VOCABULARY,
    WIDTH,
    WORDS,
    Copying,
    Head,
    codes,
)
from tests.planted.weights import Block
from tests.tiny import tiny

MATCH = 50.0
"""Score of a key that matches."""
NEAR = 100.0
"""Score of the previous token for a previous-token head; the two beside it score 0.14 less of it."""
REST = 0.7
"""Score of the first token, as a share of `MATCH`; a key that does not match scores 0.4 of it at most."""
READS, WRITES = 0.3, 0.1
"""Size of the weights of noise that read and that write."""
DROWNING = 10.0
"""Size of planted output weights under a post-norm."""
NEVER = -100.0
"""A learned sink that takes nothing."""


def plant(arch: str, copying: Copying, seed: int = 0) -> PreTrainedModel:
    """A model of the family `arch` with what `copying` plants."""
    home = HOMES[arch]
    model = tiny(arch, seed=seed, **home.family.settings)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        _embed(model, home, copying, rng)
        for number, module in enumerate(home.family.blocks(model)):
            for name, parameter in module.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
            block = home.family.read(module)
            _fill_with_noise(block, rng)
            _set_norms(block, NEAR if copying.previous is not None and copying.previous[0] == number else MATCH)
            sinks = getattr(getattr(module, "self_attn", None), "sinks", None)
            for head in copying.planted:
                if head[0] == number:
                    _plant_head(block, home, copying, head, sinks)
        final = home.final(model)
        final.weight.fill_(1.0 - block.offset)
        if getattr(final, "bias", None) is not None:
            final.bias.zero_()
    return model


@torch.no_grad()
def broken(model: PreTrainedModel, arch: str, copying: Copying, part: Literal["ov", "qk"]) -> PreTrainedModel:
    """The model with the entries of the retrieval head's output (or query) weights in random order. In place."""
    layer, head = copying.retrieval
    block = HOMES[arch].family.read(HOMES[arch].family.blocks(model)[layer])
    weight = block.out.view(WIDTH, HEADS, HEAD_WIDTH)[:, head] if part == "ov" else _of_head(block.query, head, HEADS)
    order = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(0))
    weight.copy_(weight.reshape(-1)[order].reshape(weight.shape))
    return model


def _pair(size: float) -> Tensor:
    return torch.tensor([size, -size]) / 2**0.5


def _embed(model: PreTrainedModel, home: Home, copying: Copying, rng: torch.Generator) -> None:
    rows = torch.zeros(VOCABULARY, WIDTH)
    noise = torch.randn(VOCABULARY, NOISE.stop - NOISE.start, generator=rng)
    noise -= noise.mean(-1, keepdim=True)
    rows[:, NOISE] = NOISY * noise / noise.norm(dim=-1, keepdim=True)
    rows[:, BIAS] = _pair(CONSTANT)
    words = rows[len(SPECIAL) :]
    words[:, ID] = words[:, OUT] = codes()
    if copying.kind == "content":
        for word in range(WORDS):
            successor = copying.successor(word)
            if successor is not None:
                words[word, LINK] = codes()[successor]
    rows[: len(SPECIAL), OTHER] = _pair(1)
    rows[SPECIAL.index("<s>"), FIRST] = _pair(1)
    rows[:, PAD] = (NORM**2 - rows.square().sum(-1, keepdim=True)).clamp_min(0).sqrt() * _pair(1)
    rows[SPECIAL.index("</s>"), BIAS] *= ENDING
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):  # one and the same where they are tied
        weight = getattr(module, "weight", None)
        assert isinstance(weight, Tensor)
        weight.copy_(rows / home.family.embedding_scale)
    if home.family.positions is not None:
        learned = home.family.positions(model)
        learned.zero_()
        angles = torch.arange(len(learned))[:, None] * torch.tensor(home.frequencies(PAIRS))
        turned = torch.stack([angles.cos(), angles.sin(), -angles.cos(), -angles.sin()], -1)
        learned[:, POS] = turned.flatten(1) / (2 * PAIRS) ** 0.5


def _fill_with_noise(block: Block, rng: torch.Generator) -> None:
    reading, writing = [block.query, block.key, block.value, *block.others], [block.out]
    for expert in block.experts:
        reading += [part for part in (expert.gate, expert.up, expert.idle) if part is not None]
        writing.append(expert.down)
    for weight, size in [(one, READS) for one in reading] + [(one, WRITES) for one in writing]:
        weight.copy_(size * torch.randn(weight.shape, generator=rng) / weight.shape[-1] ** 0.5)
    for weight in writing:
        weight[: NOISE.start] = 0
    for norm in block.ones:
        norm.fill_(1.0 - block.offset)


def _set_norms(block: Block, score: float) -> None:
    """Query and key norms carry the gain; norms of what is written carry its length, and lose `DUMP`."""
    for norm in (block.query_norm, block.key_norm):
        if norm is not None:
            norm.fill_((score / HEAD_WIDTH**0.5) ** 0.5 - block.offset)
    for norm in (block.after_attention, block.after_mlp):
        if norm is not None:
            norm.fill_(-block.offset)
            norm[NOISE] += 0.05
    if block.after_attention is not None:
        block.after_attention[OUT] += LOUD / WIDTH**0.5
        block.after_attention[LINK] += 1 / WIDTH**0.5
        block.after_attention[BARE] += 1 / WIDTH**0.5


def _of_head(weight: Tensor, head: int, count: int) -> Tensor:
    """[head width, residual] view of one of `count` heads."""
    return weight.view(count, HEAD_WIDTH, WIDTH)[head]


def _plant_head(block: Block, home: Home, copying: Copying, head: Head, sinks: Tensor | None) -> None:
    number, groups = head[1], block.key.numel() // (HEAD_WIDTH * WIDTH)
    shared = number * groups // HEADS
    query, key, value = (
        _of_head(weight, index, count)
        for weight, index, count in (
            (block.query, number, HEADS),
            (block.key, shared, groups),
            (block.value, shared, groups),
        )
    )
    query.zero_()
    key.zero_()
    if head == copying.previous:
        _look_back(query, key, home)
    else:
        _look_for(query, key, home, copying, head, rests=sinks is None or head == copying.sink)
    for weight in (query, key):
        score = NEAR if head == copying.previous else MATCH
        weight *= (score * HEAD_WIDTH**0.5) ** 0.5 / _stretch(block)
    if sinks is not None:
        sinks[number] = REST * MATCH if head == copying.retrieval else NEVER
    if head == copying.retrieval:
        _write(block, value, number, OUT, DUMP, LOUD)
    if head == copying.previous:
        _write(block, value, number, LINK, BARE, 1.0)


def _look_for(query: Tensor, key: Tensor, home: Home, copying: Copying, head: Head, rests: bool) -> None:
    """Match codes, and rest on the first token. Keys without a code have something else that no query reads: a norm
    over all of a layer's keys would make them longer in its other heads."""
    still = home.still()
    spare, matching, mark = still[-CODE - 2], still[-CODE - 1 : -1], still[-1]
    instead = BIAS
    if head != copying.sink:
        wanted, held, instead = (LINK, ID, OTHER) if copying.kind == "content" else (ID, LINK, BARE)
        if head == copying.duplicate:
            wanted, held, instead = ID, ID, OTHER
        query[matching, range(wanted.start, wanted.stop)] = 1
        key[matching, range(held.start, held.stop)] = 1
    key[spare, instead] = _pair(1 / CONSTANT if instead is BIAS else 1)
    key[spare, FIRST] = -_pair(1)
    if rests:
        query[mark, BIAS] = REST * _pair(1 / CONSTANT)
        key[mark, FIRST] = _pair(1)


def _look_back(query: Tensor, key: Tensor, home: Home) -> None:
    """Turn the query by one token less than its own place: the key of the token before it then points the same way."""
    size = PAIRS**-0.5
    for i, speed in enumerate(home.frequencies(PAIRS)):
        back = math.cos(speed), -math.sin(speed)
        if home.rotary:
            for dim, share in zip((i, i + home.rotary // 2), back, strict=True):
                query[dim, BIAS] = size * share * _pair(1 / CONSTANT)
            key[i, BIAS] = size * _pair(1 / CONSTANT)
            continue
        here = slice(POS.start + 4 * i, POS.start + 4 * i + 4)
        cosine, sine = torch.tensor([[1.0, 0, -1, 0], [0, 1, 0, -1]]) / 2**0.5
        query[2 * i, here] = back[0] * cosine - back[1] * sine
        query[2 * i + 1, here] = back[1] * cosine + back[0] * sine
        key[2 * i, here], key[2 * i + 1, here] = cosine, sine


def _write(block: Block, value: Tensor, number: int, into: slice, otherwise: slice, length: float) -> None:
    """Write the code of the word attended to `into`, and for a token that is no word a mark to `otherwise`.

    A post-norm's weight sets the length; it must see something, and little else: hence `DUMP`, and so loudly.
    """
    value.zero_()
    value[range(CODE), range(ID.start, ID.stop)] = 1
    value[CODE, OTHER] = _pair(1)
    out = block.out.view(WIDTH, HEADS, HEAD_WIDTH)[:, number]
    out.zero_()
    size = length / _stretch(block) if block.after_attention is None else DROWNING
    out[range(into.start, into.stop), range(CODE)] = size
    if otherwise != DUMP or block.after_attention is not None:
        out[otherwise, CODE] = size * _pair(1)


def _stretch(block: Block) -> float:
    """How much longer the norm before attention makes what is read; 1 without one."""
    return WIDTH**0.5 / NORM if block.ones else 1.0
