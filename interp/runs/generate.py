"""``--generate N``: the model continues every prompt itself, and the scan runs on prompt and response.

Wong et al. 2025 (arXiv 2512.22213) look for secondary sinks in what their models wrote, not in what they were given.
Decoding is greedy, so a response is settled by the weights and the prompt; each is stored as it is finished, and a run
that was killed goes on after the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from interp.errors import NumbersError, UsageError
from interp.finders.base import Unit
from interp.findings import Column, Sheet
from interp.runs.progress import Progress
from interp.runs.provenance import weights_identity
from interp.runs.run import Tally
from interp.runs.store import RunFolder, digest
from probes.base import Prompt

VERSION = "1"
"""Part of the key of stored responses; raised when the same arguments come to give another one."""
COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("prompt_tokens", "Int64", "prompt tokens", "Tokens given to the model; the response begins there."),
    Column("generated", "Int64", "generated tokens", "Tokens the model wrote."),
    Column("stopped", "string", "stopped by", "eos: the model ended it, with its last token; length: --generate did."),
    Column("response", "string", "response", "What the model wrote."),
)


def require_room(model: Any, prompts: Sequence[Prompt], length: int) -> None:
    """Refuse responses that would not fit the model's positions.

    Raises:
        UsageError: names the first such prompt and what would fit.
    """
    most = model.max_positions
    for prompt in prompts:
        if most is not None and len(prompt) + length > most:
            ways = [f"--generate {most - len(prompt)} or less"] if len(prompt) < most else []
            ways += [f"--max-length {most - length} or less"] if most - length > 1 else []
            raise UsageError(
                f"--generate {length}: prompt {prompt.name!r} has {len(prompt)} tokens, {len(prompt) + length} with the"
                f" response, and {model.name} takes {most}; use {' or '.join(ways)}"
            )


def refuse_finder(finder: Any, length: int) -> None:
    """Refuse a finder whose prompts each ask for something: it lets the model answer by itself.

    Raises:
        UsageError: names the finder.
    """
    if getattr(finder, "needs", None) is not None:
        raise UsageError(
            f"--generate {length}: the prompts of {finder.name} ask for an answer, and it lets the model write that"
            " itself; behind an answer the question would stand no longer at the end. Leave --generate out"
        )


def refuse_tasks(prompts: Sequence[Prompt], length: int) -> None:
    """Refuse prompts that carry a needle task, whose question must be the last that the model reads.

    Raises:
        UsageError: names the first such prompt.
    """
    from interp.retrieval.task import has_task

    asking = next((prompt for prompt in prompts if has_task(prompt)), None)
    if asking is not None:
        raise UsageError(
            f"--generate {length}: prompt {asking.name!r} asks for a needle, and a continuation would stand behind its"
            " question as if it were part of the prompt. Leave --generate out, or take other prompts (--probe text)"
        )


def stop_ids(model: Any) -> frozenset[int]:
    """Ids that end a response: end-of-text tokens of the generation config, the model's config and the tokenizer."""
    named = [getattr(owner, "eos_token_id", None) for owner in (_generation(model), model.config, model.tokenizer)]
    flat = [one for entry in named if entry is not None for one in (entry if isinstance(entry, list) else [entry])]
    return frozenset(int(one) for one in flat)


def _generation(model: Any) -> Any:
    return getattr(model.hf, "generation_config", None)


def greedy(model: Any, prompt: Prompt, length: int, stops: frozenset[int]) -> list[int]:
    """At most `length` ids, each the likeliest one after those before it; the first of `stops` ends them and stays.

    Settings of the generation config other than its end-of-text ids (sampling, penalties) are not applied.

    Raises:
        NumbersError: the model's logits are not finite.
    """
    import torch

    from interp.tracing.calls import skip_logits
    from interp.tracing.passes import cache_name, cache_of

    name, cache, response = cache_name(model.hf), None, []
    fed = list(prompt.ids)
    with torch.no_grad():  # not inference_mode: what a model caches on the way must serve gradients later
        while len(response) < length:
            ids = torch.tensor([fed], device=model.device)
            out = model.hf(input_ids=ids, **{name: cache}, use_cache=True, **skip_logits(model))
            scores = out.logits[0, -1]
            if not torch.isfinite(scores).all():
                raise NumbersError(
                    f"prompt {prompt.name!r}: the model's logits are not finite after {len(response)} generated tokens;"
                    " try --dtype float32, or check the weights"
                )
            response.append(int(scores.argmax()))
            if response[-1] in stops:
                break
            cache = cache_of(out)
            fed = response[-1:] if cache is not None else [*prompt.ids, *response]
    return response


def continued(
    model: Any, prompts: Sequence[Prompt], length: int, folder: RunFolder, progress: Progress, tally: Tally
) -> tuple[Prompt, ...]:
    """The prompts, each with the model's response behind it; responses already in `folder` are not made again.

    Args:
        length: most tokens of a response.
        tally: counts what was made and what was there, as phase ``generate``.

    Raises:
        UsageError: a response would not fit the model's positions.
        NumbersError: see `greedy`.
    """
    require_room(model, prompts, length)
    stops = stop_ids(model)
    settings = {"phase": "generate", "version": VERSION, "how": "greedy", "length": length, "stops": sorted(stops)}
    key = {**weights_identity(model), **settings}
    progress.start("generating", len(prompts))
    longer = []
    for prompt in prompts:
        there, unit = folder.fetch(
            digest({**key, "prompt": prompt.hash}),
            lambda prompt=prompt: Unit({"ids": np.array(greedy(model, prompt, length, stops), dtype=np.int64)}),
        )
        assert unit is not None  # fetch gives None only for what was made as None
        response = [int(one) for one in unit.arrays["ids"]]
        longer.append(extended(model, prompt, response, "eos" if response[-1] in stops else "length"))
        tally.count("generate", there)
        progress.step(prompt.name, there)
    return tuple(longer)


def extended(model: Any, prompt: Prompt, response: Sequence[int], stopped: str) -> Prompt:
    """A prompt and its response, in `ids`, `tokens` and `text`; `extra` says where it begins and why it ended.

    The text of a prompt that was cut is what was left of it.
    """
    tokens = model.decode_tokens(response)
    text = prompt.text
    if prompt.truncated and model.tokenizer is not None:
        text = model.tokenizer.decode(list(prompt.ids), skip_special_tokens=True)
    facts = {"prompt_tokens": len(prompt), "generated": len(response), "stopped": stopped}
    return replace(
        prompt,
        ids=(*prompt.ids, *response),
        tokens=(*prompt.tokens, *tokens),
        text=text + ("\n\n" if model.chat else "") + written(model, response, tokens),
        extra={**prompt.extra, **facts},
    )


def written(model: Any, response: Sequence[int], tokens: Sequence[str]) -> str:
    """A response as text, special tokens as they are spelled."""
    if model.tokenizer is None:
        return "".join(tokens)
    return model.tokenizer.decode(list(response), skip_special_tokens=False)


def responses(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Those of the prompts that end in the model's own continuation."""
    return [prompt for prompt in prompts if "generated" in prompt.extra]


def caveats(prompts: Sequence[Prompt], chat: bool) -> list[str]:
    """How much of the prompts the model wrote, where that begins, and whether it was the model's turn."""
    ours = responses(prompts)
    made, asked = ([prompt.extra[name] for prompt in ours] for name in ("generated", "prompt_tokens"))
    which = "each prompt" if len(ours) == len(prompts) else f"{len(ours)} of {len(prompts)} prompts"
    ended = sum(prompt.extra["stopped"] == "eos" for prompt in ours)
    told = (
        f"{_range(made)} of {_range([len(prompt) for prompt in ours])} tokens of {which} are the model's own"
        f" continuation (greedy), from position {_range(asked)} on; it ended {ended} of {len(ours)} itself."
    )
    cut = sum(prompt.truncated for prompt in ours) if chat else 0
    mid_turn = [f"{cut} prompts were cut before the chat template's end: there the model went on with the user's turn."]
    return [told, *(mid_turn if cut else [])]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def sheet(prompts: Sequence[Prompt]) -> Sheet:
    """What the model wrote, one row a prompt, for the report."""
    rows = []
    for prompt in responses(prompts):
        facts = [prompt.extra[name] for name in ("prompt_tokens", "generated", "stopped")]
        rows.append((prompt.name, *facts, "".join(prompt.tokens[facts[0] :])))
    return Sheet(
        "responses",
        "What the model wrote",
        COLUMNS,
        tuple(rows),
        "The scan ran on prompt and response together; positions count from the start of the prompt.",
    )
