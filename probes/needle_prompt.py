"""One needle prompt: context and question as text, tokenised by the model's own policy, spans found by characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError
from probes.base import Prompt

if TYPE_CHECKING:
    from interp.models.model import Model

NULL = "N/A"
"""The question of the null prompt (QRHead, arXiv 2506.09944)."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Asked:
    """A needle task as text; spans are character offsets in `context`, half open.

    Attributes:
        name: label of the prompt.
        needle: name of the needle.
        context: the text with the needle in it.
        answer: place of the answer.
        sentence: place of the whole needle; `answer` where it is not known.
        question: what is asked.
        prefix: start of the answer, put behind ``Answer:``.
        max_new_tokens: most tokens of the answer.
        form: ``bare``, ``prefix``, ``chat`` or ``own``; with ``chat`` everything is the user's turn.
        length, depth: what was asked for, None for own material.
    """

    name: str
    needle: str
    context: str
    answer: Span
    sentence: Span
    question: str
    prefix: str
    max_new_tokens: int
    form: str
    length: int | None = None
    depth: float | None = None

    def text(self, question: str | None = None) -> str:
        """The whole prompt as text, with another question where one is given."""
        question = self.question if question is None else question
        return f"{self.context}\n\nQuestion: {question}\nAnswer:{self.prefix}"


def requires_offsets(model: Model, chat: bool = False) -> Any:
    """The model's tokenizer, which must tell where in the text its tokens stand.

    Raises:
        UsageError: there is no tokenizer, it is a slow one, or `chat` is wanted and it has no chat template.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise UsageError(
            f"{model.name} has no tokenizer, and a needle is a sentence; give tokenizer=..., or use --probe random"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            f"{model.name}: {type(tokenizer).__name__} is a slow tokenizer, which does not tell where in the text its "
            "tokens stand; needles need a fast one (a tokenizer.json)"
        )
    if chat and not getattr(tokenizer, "chat_template", None):
        raise UsageError(f"{model.name}: form=chat, but its tokenizer has no chat template; use form=bare or prefix")
    return tokenizer


def located(model: Model, text: str, name: str = "text", chat: bool = False) -> tuple[Prompt, list[Span]]:
    """The text as a prompt, and the characters of `text` that each of its tokens covers (empty for BOS and template).

    Args:
        chat: as the user's turn, for a model that was loaded without its chat template too.

    Raises:
        UsageError: see `requires_offsets` and `Model.encode`; or the chat template or tokenizer changes the text.
    """
    chat = chat or model.chat
    tokenizer = requires_offsets(model, chat)
    prompt = (replace(model, chat=True) if chat and not model.chat else model).encode(text, name=name)
    shown, start = (text, 0) if not chat else _in_template(model, tokenizer, text)
    coded = tokenizer(shown, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    plain = tuple(coded["input_ids"])
    cut = max(len(plain) - len(prompt.ids), 0)  # --bos none takes a BOS away that the text or template spells out
    front = next(
        (
            at
            for at in range(len(prompt) - len(plain) + cut + 1)
            if prompt.ids[at : at + len(plain) - cut] == plain[cut:]
        ),
        None,
    )
    if front is None:
        raise UsageError(f"{model.name}: prompt {name!r}: its tokens cannot be found again in its text")
    offsets = [(0, 0)] * len(prompt)
    for at, (a, b) in enumerate(coded["offset_mapping"][cut:], start=front):
        a, b = max(a - start, 0), min(b - start, len(text))
        offsets[at] = (a, b) if a < b else (0, 0)
    return prompt, offsets


def check_length(model: Model, asked: Asked, most: int, why: str) -> None:
    """Refuse own material that is too long, for nothing is cut: that could cut the needle.

    Args:
        most: tokens that the prompt may have; `why` says what sets that limit.

    Raises:
        UsageError: it has more, or see `requires_offsets`.
    """
    chat = model.chat or asked.form == "chat"
    tokenizer = requires_offsets(model, chat)
    if len((replace(model, chat=True) if chat else model).encode(asked.text(), max_length=most + 1)) <= most:
        return
    size = len(tokenizer(asked.text(), add_special_tokens=False, verbose=False)["input_ids"])
    raises = (
        "or raise that"
        if why.startswith("--max-length")
        else "give a smaller max_new_tokens, or use a model with a longer window"
    )
    raise UsageError(
        f"prompt {asked.name!r} has {size} tokens, and at most {most} are taken ({why}), BOS and chat template among "
        f"them; shorten the context, {raises}; nothing is cut, for that could cut the needle"
    )


def check_answer(prompt: Prompt) -> None:
    """Refuse own material whose answer the model is not given the steps to write.

    Raises:
        UsageError: the answer has more tokens than may be generated.
    """
    from interp.retrieval.task import task_of

    task = task_of(prompt)
    size = task.span[1] - task.span[0]
    if size > task.max_new_tokens:
        raise UsageError(
            f"prompt {prompt.name!r}: its answer has {size} tokens, and max_new_tokens={task.max_new_tokens} lets the "
            f"model write fewer; give {size + 10} or so, in the line or as --probe-set max_new_tokens={size + 10}"
        )


def _in_template(model: Model, tokenizer: Any, text: str) -> tuple[str, int]:
    """The user's turn as the template puts it, and where the text begins there."""
    turn = [{"role": "user", "content": text}]
    shown = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    at = shown.find(text.strip())
    if at < 0:
        raise UsageError(f"{model.name}: its chat template changes the text it is given, so no needle is found there")
    return shown, at - (len(text) - len(text.lstrip()))


def tokens_over(offsets: Sequence[Span], start: int, end: int) -> Span:
    """The tokens that overlap some characters, half open; (0, 0) when none does."""
    over = [at for at, (a, b) in enumerate(offsets) if a < end and b > start]
    return (over[0], over[-1] + 1) if over else (0, 0)


def build(model: Model, asked: Asked, extra: dict[str, Any] | None = None) -> Prompt:
    """The prompt, with its task (`interp.retrieval.task.Task`) in `extra`.

    Raises:
        UsageError: see `located`.
    """
    from interp.retrieval.task import Task

    chat = asked.form == "chat"
    prompt, offsets = located(model, asked.text(), asked.name, chat)
    null, null_offsets = located(model, asked.text(NULL), asked.name, chat)
    context = tokens_over(offsets, 0, len(asked.context))
    span, sentence = (tokens_over(offsets, *place) for place in (asked.answer, asked.sentence))
    same = next((i for i, (a, b) in enumerate(zip(prompt.ids, null.ids, strict=False)) if a != b), len(prompt))
    asks = len(asked.context) + len("\n\nQuestion: ")
    before, rest = sentence[0] - context[0], context[1] - context[0] - (sentence[1] - sentence[0])
    task = Task(
        prompt=prompt,
        needle=asked.needle,
        answer=asked.context[slice(*asked.answer)],
        question=asked.question,
        span=span,
        sentence=sentence,
        tail=min(context[1], same),
        query=tokens_over(offsets, asks, asks + len(asked.question)),
        null_tail=null.ids[min(context[1], same) :],
        null_query=tokens_over(null_offsets, asks, asks + len(NULL)),
        length=asked.length,
        depth=asked.depth,
        depth_achieved=round(before / rest, 4) if rest else 0.0,
        form=asked.form,
        max_new_tokens=asked.max_new_tokens,
    )
    return replace(prompt, extra={**(extra or {}), **task.as_extra()})
