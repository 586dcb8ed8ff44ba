"""Needle tasks for planted models: a tokenizer of whole words, texts written in it, and the tasks they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from interp.finders.base import examines
from interp.findings import Findings
from interp.models.load import load
from interp.models.model import Model
from interp.retrieval.task import Task
from probes.base import Prompt
from tests.planted.retrieval import plant
from tests.planted.retrieval_families import HOMES
from tests.planted.retrieval_plan import SPECIAL, WORDS, Copying, Kind, random_copying


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Words `w0`, `w1`, ... and what a question is asked with; spaces only part them, and `<s>` goes first."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Sequence, Split
    from tokenizers.processors import TemplateProcessing

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *(f"w{i}" for i in range(WORDS))])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Sequence([Split(Regex(" +"), "removed"), Split(Regex(r"\w+|[^\w]"), "isolated")])
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", SPECIAL.index("<s>"))])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def said(words: tuple[int, ...]) -> str:
    """Words as text."""
    return " ".join(f"w{word}" for word in words)


def record(copying: Copying, number: int, seed: int = 0, length: int | None = None) -> dict[str, str | int]:
    """One needle in a haystack of whole sentences, as own material has it: a line of a JSONL file.

    Args:
        length: words of haystack; drawn from 30 to 170 when None.
    """
    rng = np.random.default_rng([seed, number])
    topic, cue, *span = copying.needles[number]
    length = int(rng.integers(30, 171)) if length is None else length
    sentences = []
    while sum(len(sentence) for sentence in sentences) < length:
        sentences.append(tuple(int(word) for word in rng.choice(copying.fillers, rng.integers(4, 9))))
    sentences.insert(int(rng.integers(len(sentences) + 1)), copying.needles[number])
    return {
        "context": " ".join(said(sentence) + "." for sentence in sentences),
        "answer": said(tuple(span)),
        "question": said((topic,)) + "?",
        "prefix": " " + said((cue,)),
        "max_new_tokens": 12,
    }


def task(copying: Copying, number: int, seed: int = 0, length: int | None = None) -> Task:
    """The same as a task built by hand, spans found in the text by character."""
    line = record(copying, number, seed, length)
    context, answer, question, prefix = (str(line[name]) for name in ("context", "answer", "question", "prefix"))
    needle = said(copying.needles[number]) + "."
    lead = "\n\nQuestion: "

    def encoded(asked: str) -> tuple[list[int], list[tuple[int, int]]]:
        both = tokenizer()(f"{context}{lead}{asked}\nAnswer:{prefix}", return_offsets_mapping=True)
        return list(both["input_ids"]), list(both["offset_mapping"])

    ids, offsets = encoded(question)
    null, null_offsets = encoded("N/A")

    def over(start: int, stop: int, offsets: list[tuple[int, int]] = offsets) -> tuple[int, int]:
        inside = [i for i, (a, b) in enumerate(offsets) if b > start and a < stop]
        return inside[0], inside[-1] + 1

    at = context.index(needle)
    begins = at + needle.index(answer)
    tail = over(len(context), len(context) + 1)[0]
    asked = len(context) + len(lead)
    made = Task(
        prompt=Prompt(f"needle {number}.{seed}", context, tuple(ids), tuple(tokenizer().convert_ids_to_tokens(ids))),
        needle=f"needle {number}",
        answer=answer,
        question=question,
        span=over(begins, begins + len(answer)),
        sentence=over(at, at + len(needle)),
        tail=tail,
        query=over(asked, asked + len(question)),
        null_tail=tuple(null[tail:]),
        null_query=over(asked, asked + 3, null_offsets),
        length=None,
        depth=None,
        depth_achieved=over(at, at + 1)[0] / tail,
        form="prefix",
        max_new_tokens=int(line["max_new_tokens"]),
    )
    return replace(made, prompt=replace(made.prompt, extra=made.as_extra()))


def ready(arch: str, kind: Kind, seed: int) -> tuple[Model, Copying]:
    """A planted model, loaded, with what is planted in it."""
    copying = random_copying(kind, seed, HOMES[arch].full)
    return load(plant(arch, copying, seed), tokenizer=tokenizer(), check=False), copying


def phases(finder: Any, model: Model, prompts: Sequence[Prompt], config: Any, examine: bool = True) -> Findings:
    """A finder's phases in the runner's order, without a runner; `examine` = its look beyond the prompts too."""
    units = [finder.measure(model, one, config) for one in prompts]
    findings = finder.find(prompts, units, config, model.facts())
    checks = [finder.check(model, one, i, findings, config) for i, one in enumerate(prompts)]
    more = (finder.examine(model, findings, config) if examine else None,) if examines(finder) else ()
    return finder.conclude(findings, checks, config, *more)


def verdict(findings: Findings) -> str:
    """What the check says."""
    assert findings.verification is not None
    return findings.verification.verdict
