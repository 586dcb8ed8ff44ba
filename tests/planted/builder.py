"""Builds the models of `plan` in each family's form, and their shuffled controls."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.planted.families import FAMILIES, Block, Family
from tests.planted.plan import (
    BIAS,
    CONSTANT,
    FLAG,
    FLAGS,
    HEAD_WIDTH,
    LENGTH,
    PLANTED,
    RESERVED,
    SINK,
    WIDTH,
    direction,
    prompt,
)
from tests.tiny import tiny

SLOWEST = HEAD_WIDTH // 2 - 1
"""Head dimension of the slowest rotary pair, where rotary embeddings pair the two halves of a head."""
NOISE = 0.3
GAIN = 20.0
"""Of the flag neurons: a flag still opens them when the state is long and its share of the normalised input small."""
SCORE = 0.8
"""Factor of queries and keys; gives sinks scores of about 6."""


@torch.no_grad()
def plant(arch: str, seed: int = 0) -> PreTrainedModel:
    """A model of the family `arch` with the sinks of `PLANTED`."""
    family = FAMILIES[arch]
    model = tiny(arch, seed=seed, **family.settings)
    rng = torch.Generator().manual_seed(seed)
    _embed(model, family, rng)
    blocks = [family.read(module) for module in family.blocks(model)]
    for number, block in enumerate(blocks):
        _fill_with_noise(block, rng)
        _attend_to_sinks(block)
        for neuron, (token, sign) in enumerate(_events(number)):
            _write_when_flagged(block, neuron, token, sign)
    _calibrate(model, family, blocks)
    return model


@torch.no_grad()
def shuffled(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """The model with the entries of each of its weights in random order: same numbers, no mechanism. In place."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        flat = parameter.reshape(-1)
        parameter.copy_(flat[torch.randperm(len(flat), generator=rng)].reshape(parameter.shape))
    return model


def _events(number: int) -> list[tuple[int, int]]:
    """(token, +1 or -1) for each sink that block `number` forms or ends."""
    starts = [(planted.token, 1) for planted in PLANTED if planted.start == number]
    return starts + [(planted.token, -1) for planted in PLANTED if planted.start + planted.lifetime == number]


def _embed(model: PreTrainedModel, family: Family, rng: torch.Generator) -> None:
    table = model.get_input_embeddings().weight
    table.copy_(0.5 * torch.randn(table.shape, generator=rng))
    table[:, :RESERVED] = 0
    table += CONSTANT * direction(BIAS)
    for token, index in FLAGS.items():
        table[token] += FLAG * direction(index)
    table /= family.embedding_scale
    if family.positions is not None:
        learned = family.positions(model)
        learned.copy_(0.1 * torch.randn(learned.shape, generator=rng))
        learned[:, :RESERVED] = 0


def _fill_with_noise(block: Block, rng: torch.Generator) -> None:
    reading = [block.query, block.key, block.value, *block.others]
    writing = [block.out]
    for expert in block.experts:
        reading += [expert.gate] if expert.up is None else [expert.gate, expert.up]
        writing.append(expert.down)
    for weight in (*reading, *writing):
        weight.copy_(NOISE * torch.randn(weight.shape, generator=rng) / weight.shape[1] ** 0.5)
    for weight in reading:
        weight[:, :RESERVED] = 0
    for weight in writing:
        weight[:RESERVED] = 0
    for bias in block.biases:
        bias.zero_()
    for norm in block.ones:
        norm.fill_(1.0 - block.offset)


def _attend_to_sinks(block: Block) -> None:
    for weight, index in ((block.query, BIAS), (block.key, SINK)):
        rows = weight.view(-1, HEAD_WIDTH, WIDTH)
        rows[:, SLOWEST] = SCORE * direction(index)
    for norm in (block.query_norm, block.key_norm):
        if norm is not None:
            norm.fill_(0.3 - block.offset)
            norm[SLOWEST] = 1.25 - block.offset
    if block.after_attention is not None:
        block.after_attention.fill_(0.05 - block.offset)


def _write_when_flagged(block: Block, neuron: int, token: int, sign: int) -> None:
    flag = GAIN * direction(FLAGS[token])
    for expert in block.experts:
        expert.gate[neuron] = flag
        if expert.up is not None:
            expert.up[neuron] = flag
        expert.down[:, neuron] = sign * direction(SINK)
    for router_or_up in block.others:
        if router_or_up.shape[0] > neuron and router_or_up.shape == block.experts[0].gate.shape:
            router_or_up[neuron] = 0
    if block.after_mlp is not None:  # whatever is written has this length afterwards
        block.after_mlp.fill_(0.05 - block.offset)
        block.after_mlp[:RESERVED] = LENGTH / WIDTH**0.5 - block.offset


def _calibrate(model: PreTrainedModel, family: Family, blocks: list[Block]) -> None:
    """Scale each writing neuron so that it writes `LENGTH`, or takes away exactly what is there."""
    ids = prompt()
    for number, block in enumerate(blocks):
        if block.after_mlp is not None:
            continue
        for neuron, (token, sign) in enumerate(_events(number)):
            before, after = _along_sink(model, family, number, ids, ids.index(token))
            wanted = LENGTH if sign > 0 else -before
            for expert in block.experts:
                expert.down[:, neuron] *= wanted / (after - before)


def _along_sink(
    model: PreTrainedModel, family: Family, number: int, ids: tuple[int, ...], position: int
) -> tuple[float, float]:
    """How far the state at `position` lies along `SINK` before and after block `number`."""
    seen: list[Tensor] = []
    module = family.blocks(model)[number]

    def hook(_: object, args: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        seen.extend((args[0], output if isinstance(output, Tensor) else output[0]))

    handle = module.register_forward_hook(hook)
    model(torch.tensor([ids]))
    handle.remove()
    before, after = (float(state[0, position] @ direction(SINK)) for state in seen)
    return before, after
