"""Retrieval scores the slow way: whole eager attention, the sequence run again for every token, plain Python loops.

Independent of `interp`: it takes a Hugging Face model and ids, and counts as METHODS section 2 says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch


def patterns(hf: Any, ids: Sequence[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits [vocab] of the last position, and each layer's eager pattern [head, query, key]."""
    before = hf.config._attn_implementation
    hf.config._attn_implementation = "eager"
    try:
        with torch.no_grad():
            device = hf.get_input_embeddings().weight.device
            last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(hf.forward).parameters else {}
            out = hf(torch.tensor([list(ids)], device=device), output_attentions=True, use_cache=False, **last)
    finally:
        hf.config._attn_implementation = before
    return out.logits[0, -1].float().cpu(), [layer[0].double().cpu() for layer in out.attentions]


def score(
    hf: Any,
    ids: Sequence[int],
    span: tuple[int, int],
    most: int,
    over: Callable[[list[int]], bool] = lambda generated: False,
) -> dict[str, Any]:
    """Greedy answer to `ids`, and every head's copying of the tokens in `span`, [layer][head] lists.

    Args:
        most: tokens generated at the most.
        over: whether the ids generated so far end the answer.
    """
    generated: list[int] = []
    copied: list[list[list[int]]] = []  # [layer][head] -> positions copied, one entry an event
    top: list[list[list[int]]] = []
    mass: list[list[float]] = []
    length = span[1] - span[0]
    while len(generated) < most and not (generated and over(generated)):
        logits, layers = patterns(hf, [*ids, *generated])
        generated.append(max(range(len(logits)), key=logits.tolist().__getitem__))
        if not copied:
            copied = [[[] for _ in layer] for layer in layers]
            top = [[[] for _ in layer] for layer in layers]
            mass = [[0.0 for _ in layer] for layer in layers]
        for number, layer in enumerate(layers):
            for head in range(len(layer)):
                row = layer[head, -1].tolist()
                order = sorted(range(len(row)), key=lambda key: -row[key])
                best = order[0] if row[order[0]] >= 1 - sum(row) else -1  # else a learned sink took more than any key
                top[number][head].append(best)
                mass[number][head] += sum(row[key] for key in order[:length] if span[0] <= key < span[1])
                if span[0] <= best < span[1] and ids[best] == generated[-1]:
                    copied[number][head].append(best)
    return {
        "generated": generated,
        "copies": [[len(set(events)) / length for events in layer] for layer in copied],
        "released": [[len(events) / length for events in layer] for layer in copied],
        "events": [[len(events) for events in layer] for layer in copied],
        "mass": [[total / len(generated) for total in layer] for layer in mass],
        "top_key": top,
    }


def mass_from(hf: Any, ids: Sequence[int], queries: tuple[int, int], keys: tuple[int, int]) -> list[list[float]]:
    """[layer][head]: mass from each of the queries on the keys, mean over the queries."""
    _, layers = patterns(hf, ids)
    count, out = queries[1] - queries[0], []
    for layer in layers:
        rows = layer[:, queries[0] : queries[1]].tolist()
        out.append([sum(sum(row[keys[0] : keys[1]]) for row in head) / count for head in rows])
    return out
