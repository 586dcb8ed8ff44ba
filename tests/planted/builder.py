"""Builds the models of `plan` in each family's form, and their shuffled controls.

A neuron that writes is scaled so that its block changes the state by exactly what was planned. Where the family
normalises what the MLP writes (post-norm), the norm's weight fixes the length in all directions together; there the
neuron writes partly where it should and partly to `DUMP`, whose weight is zero, and the proportion is what is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.planted.families import FAMILIES
from tests.planted.plan import (
    BIAS,
    CONSTANT,
    DUMP,
    FIXED,
    FLAG,
    HEAD_WIDTH,
    RESERVED,
    SINK,
    WIDTH,
    Planted,
    Planting,
    direction,
)
from tests.planted.weights import Block, Family
from tests.tiny import tiny

SLOWEST = HEAD_WIDTH // 2 - 1
"""Head dimension of the slowest rotary pair, where rotary embeddings pair the two halves of a head."""
NOISE = 0.3
"""Size of all weights that do not matter."""
QUIET = 0.1
"""Of those that write: what a token's neighbours add to its state moves what its flag writes, and must stay little."""
GAIN = 20.0
"""Of the flag neurons: a flag still opens them when the state is long and its share of the normalised input small."""
SHUT = 400.0
"""A flag shuts the neurons that take other sinks' length away, however long its state."""
SCORE = 0.8
"""Factor of queries and keys; gives sinks scores of about 6."""
LOUD = 10.0
"""A neuron that writes drowns the noise, so that a post-norm sees little else."""
SHARE = 0.5
"""Of what a neuron writes before it is set: so much where it should, the rest to `DUMP`."""


@dataclass(frozen=True)
class Event:
    """A block changes a sink's length along its axis by so much."""

    planted: Planted
    change: float


def plant(arch: str, seed: int = 0, planting: Planting = FIXED, **settings: Any) -> PreTrainedModel:
    """A model of the family `arch` with the sinks of `planting`; further config settings may be given."""
    model = tiny(arch, seed=seed, **{**FAMILIES[arch].settings, **settings})
    replant(model, arch, seed, planting)
    return model


@torch.no_grad()
def replant(model: PreTrainedModel, arch: str, seed: int = 0, planting: Planting = FIXED) -> None:
    """Overwrite the blocks and the embedding of a model that `plant` made."""
    family = FAMILIES[arch]
    rng = torch.Generator().manual_seed(seed)
    _embed(model, family, planting, rng)
    modules = family.blocks(model)
    blocks = [family.read(module) for module in modules]
    for number, (module, block) in enumerate(zip(modules, blocks, strict=True)):
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        _fill_with_noise(block, rng)
        _attend_to_sinks(block, planting)
        _write(block, planting, _events(planting, number))
    _calibrate(model, planting, modules, blocks)


@torch.no_grad()
def shuffled(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """The model with the entries of each of its weights in random order: same numbers, no mechanism. In place."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        flat = parameter.reshape(-1)
        parameter.copy_(flat[torch.randperm(len(flat), generator=rng)].reshape(parameter.shape))
    return model


def _events(planting: Planting, number: int) -> list[Event]:
    """What block `number` writes."""
    events = []
    for planted in planting.writing:
        if planted.start == number:
            events.append(Event(planted, planted.length))
        elif planted.fade and planted.start < number <= planted.start + planted.lifetime:
            events.append(Event(planted, -planted.fade))
        elif not planted.fade and number == planted.start + planted.lifetime:
            events.append(Event(planted, -planted.length))
    return events


def _embed(model: PreTrainedModel, family: Family, planting: Planting, rng: torch.Generator) -> None:
    table = model.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    table.copy_(0.5 * torch.randn(table.shape, generator=rng))
    table[:, :RESERVED] = 0
    table += CONSTANT * direction(BIAS)
    for planted in planting.all:
        table[planted.token] += FLAG * planting.flag(planted)
    table /= family.embedding_scale
    if family.positions is not None:
        learned = family.positions(model)
        learned.copy_(0.1 * torch.randn(learned.shape, generator=rng))
        learned[:, :RESERVED] = 0


def _fill_with_noise(block: Block, rng: torch.Generator) -> None:
    reading = [block.query, block.key, block.value, *block.others]
    writing = [block.out]
    for expert in block.experts:
        reading += [part for part in (expert.gate, expert.up, expert.idle) if part is not None]
        writing.append(expert.down)
    for weight in reading:
        weight.copy_(NOISE * torch.randn(weight.shape, generator=rng) / weight.shape[-1] ** 0.5)
        weight[..., :RESERVED] = 0
    for weight in writing:
        weight.copy_(QUIET * torch.randn(weight.shape, generator=rng) / weight.shape[-1] ** 0.5)
        weight[:RESERVED] = 0
    for norm in block.ones:
        norm.fill_(1.0 - block.offset)


def _attend_to_sinks(block: Block, planting: Planting) -> None:
    keys = direction(SINK)
    for decoy in planting.decoys:
        flag = planting.flag(decoy)
        shut = -1.5 * decoy.length / FLAG * flag  # outweighs what its state has along `SINK`
        keys += {"short": 1.5 * flag, "aside": decoy.axis, "ignored": shut}[decoy.kind]
    for weight, read in ((block.query, direction(BIAS)), (block.key, keys)):
        rows = weight.view(-1, HEAD_WIDTH, WIDTH)
        rows[:, SLOWEST] = SCORE * read
    for norm in (block.query_norm, block.key_norm):
        if norm is not None:  # over one head's width, or over all heads at once
            norm.fill_(0.3 - block.offset)
            norm.view(-1, HEAD_WIDTH)[:, SLOWEST] = 1.25 - block.offset
    if block.after_attention is not None:
        block.after_attention.fill_(0.05 - block.offset)


def _write(block: Block, planting: Planting, events: list[Event]) -> None:
    """One neuron an event, not yet scaled."""
    for neuron, event in enumerate(events):
        flag, axis = planting.flag(event.planted), event.planted.axis
        gate, up = GAIN * flag, GAIN * flag
        if event.change < 0:  # read what is nearly all of a sink's input: then the length does not matter
            others = [planting.flag(other) for other in planting.all if other is not event.planted]
            gate, up = axis - SHUT * sum(others, torch.zeros(WIDTH)), axis
        for expert in block.experts:
            expert.gate[neuron] = gate
            if expert.up is not None:
                expert.up[neuron] = up
            if expert.idle is not None:
                expert.idle[neuron] = 0
        _set_share(block, neuron, axis, SHARE)
    if block.after_mlp is not None:
        longest = max((abs(event.change) for event in events), default=0.0)
        block.after_mlp.fill_(0.05 - block.offset)
        block.after_mlp[:RESERVED] = 1.1 * longest / WIDTH**0.5 - block.offset
        block.after_mlp[2 * DUMP : 2 * DUMP + 2] = -block.offset


def _set_share(block: Block, neuron: int, axis: Tensor, share: float) -> None:
    """Let a neuron write along `axis`; under a post-norm, `share` of its length goes there and the rest to `DUMP`."""
    column = axis
    if block.after_mlp is not None:
        column = LOUD * (share * axis + (1 - share**2) ** 0.5 * direction(DUMP))
    for expert in block.experts:
        expert.down[:, neuron] = column


def _calibrate(model: PreTrainedModel, planting: Planting, modules: list[Any], blocks: list[Block]) -> None:
    """Scale each writing neuron, block by block in one pass: a block whose neurons were set runs again."""
    ids = planting.prompt()

    def hook(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        number = modules.index(module)
        events = _events(planting, number)
        if not events:
            return None
        before = args[0] if args else kwargs["hidden_states"]
        after = output if isinstance(output, Tensor) else output[0]
        for neuron, event in enumerate(events):
            position, axis = event.planted.position, event.planted.axis
            there, then = (float(state[0, position] @ axis) for state in (before, after))
            factor = event.change / (then - there)
            if blocks[number].after_mlp is not None:
                _set_share(blocks[number], neuron, axis, SHARE * factor)
                continue
            for expert in blocks[number].experts:
                expert.down[:, neuron] *= factor
        return module.forward(*args, **kwargs)

    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in modules]
    model(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
