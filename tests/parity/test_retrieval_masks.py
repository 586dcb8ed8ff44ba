"""Many masked answers side by side, against one run a mask with the registered interventions and plain generation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from interp.interventions.ablate import MeanHeads, ZeroHeads
from interp.interventions.block_keys import BlockKeys
from interp.interventions.uniform_heads import UniformHeads
from interp.retrieval.arms import answers, keys_of
from interp.retrieval.causal import means_for
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.decode import Ends, decode
from interp.retrieval.masks import mask_of
from interp.retrieval.proof import proof
from interp.retrieval.task import Task
from interp.tracing.tracer import trace
from tests.retrieval_tiny import model_of, task_for

if TYPE_CHECKING:
    from interp.models.model import Model

ARMS = [[], [(0, 1), (2, 0)], [(0, 0), (0, 1), (0, 2), (0, 3)], [(1, 0), (2, 1), (2, 2)]]
HOWS = ["zero", "mean", "uniform", "block"]


def one_at_a_time(
    model: Any, task: Task, heads: list[tuple[int, int]], config: RetrievalConfig, means: Any = None
) -> tuple[int, ...]:
    """The slow way: no cache, the whole sequence anew for every token, one mask; positions masked by hand."""
    made: Any = {
        "zero": lambda: ZeroHeads(heads),
        "mean": lambda: MeanHeads({head: (means or {})[head] for head in heads}),
        "uniform": lambda: UniformHeads.of(model, heads),
        "block": lambda: BlockKeys(heads, list(range(*(keys_of(task) or (0, 0))))),
    }[config.how]
    last, ids = len(task.prompt.ids) - 1, list(task.prompt.ids)
    edits = [At(made(), config.when, last)] if heads else []
    ends, generated = Ends(model, config, task), []
    while not generated or not ends(generated):
        with trace(model, edit=edits) as t:
            generated.append(int(t.run(ids + generated).logits[0, -1].argmax()))
    return tuple(generated)


class At:
    """An edit at the positions before `last`, or from there on."""

    def __init__(self, edit: Any, when: str, last: int):
        self.edit, self.when, self.last = edit, when, last
        if hasattr(edit, "sites"):
            self.sites = edit.sites
            self.apply = lambda value, site, layer: self.mixed(value, edit.apply(value, site, layer), 1)
        else:
            self.layers = edit.layers
            self.rows = lambda block: self.mixed(block.rows, edit.rows(block), 2, block.query_start)

    def mixed(self, before: torch.Tensor, after: torch.Tensor, axis: int, first: int = 0) -> torch.Tensor:
        """The edited value where it is wanted."""
        places = first + torch.arange(before.shape[axis])
        wanted = {"decode": places >= self.last, "prefill": places < self.last, "both": places >= 0}[self.when]
        shape = [1] * before.dim()
        shape[axis] = -1
        return torch.where(wanted.view(shape), after, before)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt_oss", "gpt2", "olmo2"])
def test_side_by_side_is_one_by_one(arch: str, how: Any) -> None:
    """Rotary and learned positions, grouped queries, windows, learned sinks, norms over all heads' queries; at any
    batch size, and whatever the arms that end before."""
    model = model_of(arch)
    task, means = task_for(model, most=4), means_for(model, RetrievalConfig(how=how))
    mask = mask_of(ARMS, (model.n_layers, model.n_heads))
    told = {}
    for when in ("decode", "prefill", "both"):
        config = RetrievalConfig(how=how, when=when, at_once=3)
        found = answers(model, task, mask, config, means)
        assert found == [one_at_a_time(model, task, heads, config, means) for heads in ARMS]
        assert found == answers(model, task, mask, replace(config, at_once=1), means)
        assert found[0] == decode(model, task, config).ids
        told[when] = found
    if how != "block":
        assert any(one != told["decode"][0] for one in told["decode"])  # a mask that changes nothing would pass


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt_oss", "gpt2", "olmo2", "qwen3"])
def test_masks_are_seen_in_every_layer(arch: str, how: Any) -> None:
    model = model_of(arch)
    means = means_for(model, RetrievalConfig(how=how))
    for when in ("decode", "prefill", "both"):
        found = proof(model, task_for(model), ARMS[1:], RetrievalConfig(how=how, when=when), means)
        assert found["failed"] == [] and found["layers"] == [0, 1, 2] and found["heads"] == 8, found


def smollm2_task(model: Model) -> Task:
    """A needle of its own in 120 tokens of prose."""
    start, answer = "Old Marta hides her best recipe", "under the loose brick behind the kitchen stove"
    hay = "The harbour was quiet that week, and the boats stayed in. Nets hung drying along the wall. "
    text = f"{hay}{start} {answer}. {hay}The gulls came back at noon.\n\nQuestion: Where?\nAnswer: {start}"
    prompt = model.encode(text, name="marta")
    before = [len(model.encode(text[: text.index(part)]).ids) for part in (start, answer, ". " + hay, "\n\nQ")]
    base, end = replace(task_for(model), prompt=prompt, answer=answer, max_new_tokens=12), len(prompt)
    spans = {"span": (before[1], before[2]), "sentence": (before[0], before[2]), "tail": before[3]}
    return replace(
        base, **spans, query=(before[3], end), null_tail=prompt.ids[before[3] :], null_query=(before[3], end)
    )


@pytest.mark.smollm2
def test_smollm2(smollm2: Model) -> None:
    """The best heads known take the needle away; both ways of masking them agree, and the mask is seen."""
    task = smollm2_task(smollm2)
    heads = [(18, 6), (17, 3), (18, 7), (20, 6), (23, 2)]
    arms = [[], heads, [(layer, 8) for layer in (17, 18, 20, 22, 23)]]
    for how in ("zero", "uniform"):
        config = RetrievalConfig(how=how)
        found = answers(smollm2, task, mask_of(arms, (smollm2.n_layers, smollm2.n_heads)), config)
        assert found[1][:3] == one_at_a_time(smollm2, replace(task, max_new_tokens=3), heads, config)
        said = [Ends(smollm2, config, task).text(ids) for ids in found]
        assert "loose brick" in said[0] and "loose brick" in said[2] and "loose brick" not in said[1], said
        assert proof(smollm2, task, arms, config, None)["failed"] == []
