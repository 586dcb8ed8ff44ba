"""Token ids drawn at random, without any text: what the `random` and `repeated` probes share.

A synthetic prompt starts like any other prompt of the model: with BOS where the model's BOS policy puts one before a
text, without it otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.errors import UsageError
from probes.base import Prompt

if TYPE_CHECKING:
    from interp.models.model import Model

DEFAULT_PROMPTS = 16
DEFAULT_LENGTH = 512


def ordinary_ids(model: Model) -> np.ndarray:
    """Ids [n] (int64, ascending) that stand for text: no special or added token, and no padding of the embedding.

    Raises:
        UsageError: nothing is left.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        config = model.hf.config
        named = [getattr(config, f"{role}_token_id", None) for role in ("bos", "eos", "pad")]
        flat = [i for entry in named if entry is not None for i in (entry if isinstance(entry, list) else [entry])]
        size, barred = model.vocab_size, set(flat)
    else:
        size = min(model.vocab_size, len(tokenizer))
        barred = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ids = np.array([i for i in range(size) if i not in barred], dtype=np.int64)
    if not len(ids):
        raise UsageError(f"{model.name}: no ordinary token among its {size} ids, so no random prompt can be drawn")
    return ids


def prefix(model: Model) -> tuple[int, ...]:
    """The ids this model's BOS policy puts before a text: one BOS, none, or several (GLM-4).

    Raises:
        UsageError: the model was loaded with a chat template, which cannot hold drawn ids.
    """
    if model.tokenizer is None:
        return ()
    if model.chat:
        raise UsageError("this probe draws token ids, which a chat template cannot hold; leave the chat template off")
    letter = tuple(model.tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = model.encode("a").ids
    starts = range(len(whole) - len(letter) + 1)
    return whole[: next((at for at in starts if whole[at : at + len(letter)] == letter), 0)]


def body_length(model: Model, max_length: int | None, start: Sequence[int], least: int) -> int:
    """How many drawn tokens follow `start` in a prompt of `max_length` tokens (default 512, or the model's limit).

    Raises:
        UsageError: fewer than `least` would be left.
    """
    length = DEFAULT_LENGTH if max_length is None else max_length
    if model.max_positions is not None:
        length = min(length, model.max_positions)
    if length - len(start) < least:
        needed = least + len(start)
        raise UsageError(f"max_length {length} is too short for this probe: it needs at least {needed} tokens")
    return length - len(start)


def generator(probe: str, seed: int, index: int) -> np.random.Generator:
    """Random numbers of prompt `index` of one probe: the same for the same arguments, unlike those of any other."""
    return np.random.default_rng([seed, index, *probe.encode()])


def prompt_of(model: Model, name: str, start: Sequence[int], drawn: np.ndarray, extra: dict[str, Any]) -> Prompt:
    """A prompt of the ids `start` and then `drawn` [n]."""
    ids = (*start, *(int(i) for i in drawn))
    tokens = tuple(model.decode_tokens(ids))
    return Prompt(name=name, text="".join(tokens[len(start) :]), ids=ids, tokens=tokens, extra=extra)
