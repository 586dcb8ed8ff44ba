"""The needle probe: spans, lengths, depths, shared beginnings, limits, forms, BOS and chat, on three tokenizers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest

import interp
from interp.errors import UsageError
from interp.retrieval.task import task_of
from probes import needle_forms
from probes.base import Prompt
from probes.needle import TOLERANCE, NeedleProbe, probe
from probes.needle_grid import balanced, grid, ladder
from probes.needle_material import needles
from tests.tiny import tiny, tiny_tokenizer

BY_NAME = {one.name: one for one in needles()}
WINDOW = 2048
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}:{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


def tiny_model(arch: str = "llama", template: str | None = None, window: int = WINDOW, **options: Any) -> interp.Model:
    tokenizer = tiny_tokenizer(128)
    tokenizer.chat_template = template
    name = "n_positions" if arch == "gpt2" else "max_position_embeddings"
    return interp.load(tiny(arch, **{name: window}), tokenizer=tokenizer, check=False, **options)


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return tiny_model()


@pytest.fixture(
    params=["tiny", *(pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("smollm2", "gemma3"))]
)
def any_model(request: pytest.FixtureRequest) -> interp.Model:
    return tiny_model() if request.param == "tiny" else request.getfixturevalue(request.param)


def text_of(model: interp.Model, ids: Any) -> str:
    assert model.tokenizer is not None
    return model.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


def as_read(model: interp.Model, text: str) -> str:
    """A text through the tokenizer and back: what unknown words become is the tiny tokenizer's matter."""
    assert model.tokenizer is not None
    return text_of(model, model.tokenizer(text, add_special_tokens=False)["input_ids"])


def common(first: Prompt, second: Prompt) -> int:
    pairs = zip(first.ids, second.ids, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def checked(model: interp.Model, prompt: Prompt, length: int) -> None:
    """Every claim that the task makes of its prompt, by decoding."""
    task = task_of(prompt)
    needle = BY_NAME[task.needle]
    assert task.answer == needle.answer and task.question == needle.question
    assert text_of(model, prompt.ids[slice(*task.span)]).strip() == as_read(model, needle.answer).strip()
    assert text_of(model, prompt.ids[slice(*task.sentence)]).strip() == as_read(model, needle.sentence).strip()
    assert text_of(model, prompt.ids[slice(*task.query)]).strip() == as_read(model, needle.question).strip()
    null = prompt.ids[: task.tail] + task.null_tail
    assert text_of(model, null[slice(*task.null_query)]).strip() == as_read(model, "N/A")
    assert task.sentence[0] <= task.span[0] < task.span[1] <= task.sentence[1] <= task.tail <= task.query[0]
    assert prompt.text.count(needle.sentence) == 1 and prompt.text.count(needle.question) == 1
    assert needle.twin not in prompt.text
    assert length - TOLERANCE <= len(prompt) <= length == task.length
    starts = model.encode("a").ids[:-1]
    assert prompt.ids[: len(starts)] == starts and not set(starts) & set(prompt.ids[len(starts) :])
    assert not prompt.truncated and model.encode(prompt.text).ids == prompt.ids
    assert 0 <= task.depth_achieved <= 1
    if task.depth in (0, 1):
        assert task.depth_achieved == task.depth
    assert task.tail < len(prompt) and task.max_new_tokens == 50


@pytest.mark.parametrize("form", ["bare", "prefix"])
def test_spans_lengths_and_depths(any_model: interp.Model, form: Any) -> None:
    made = NeedleProbe(form=form, lengths=(256, 777), needles=3)
    prompts = made.prompts(any_model, max_length=900, seed=2)
    assert len(prompts) == 2 * 5 * 3 and len({prompt.name for prompt in prompts}) == 30
    for prompt in prompts:
        task = task_of(prompt)
        assert task.form == form and task.length is not None
        checked(any_model, prompt, task.length)
        assert prompt.text.endswith("\nAnswer:" + (f" {BY_NAME[task.needle].prefix}" if form == "prefix" else ""))
        if task.length == 777:  # sentences of the essays take up to 100 tokens
            assert task.depth is not None and abs(task.depth_achieved - task.depth) < 0.12


def test_every_needle_is_found(any_model: interp.Model) -> None:
    prompts = NeedleProbe(form="prefix", lengths=(200,), depths=(0.5,), needles=24).prompts(any_model, seed=1)
    assert {task_of(prompt).needle for prompt in prompts} == set(BY_NAME)
    for prompt in prompts:
        checked(any_model, prompt, 200)


def test_neighbours_begin_alike_up_to_the_needle(any_model: interp.Model) -> None:
    prompts = NeedleProbe(form="bare", lengths=(512,), needles=2).prompts(any_model, max_length=600)
    tasks = [task_of(prompt) for prompt in prompts]
    assert [task.depth for task in tasks] == [1.0, 1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.0, 0.0]
    for (first, here), (second, there) in zip(
        zip(prompts, tasks, strict=True), list(zip(prompts, tasks, strict=True))[1:], strict=False
    ):
        if here.depth == 1.0:  # what fills a prompt up stands before it
            assert common(first, second) >= min(here.sentence[0], there.sentence[0]) - 60
        else:
            assert common(first, second) >= min(here.sentence[0], there.sentence[0]) - 1  # a space of its own


def test_long_prompts(model: interp.Model, gemma3: interp.Model) -> None:
    (prompt,) = NeedleProbe(form="bare", lengths=(32_000,), depths=(0.3,), needles=1).prompts(gemma3, max_length=32_000)
    checked(gemma3, prompt, 32_000)
    assert abs(task_of(prompt).depth_achieved - 0.3) < 0.005


def test_distractors_stand_elsewhere(any_model: interp.Model) -> None:
    for prompt in NeedleProbe(form="bare", lengths=(400,), distractors=True, needles=1).prompts(any_model):
        needle = BY_NAME[task_of(prompt).needle]
        assert prompt.text.count(needle.twin) == 1 and prompt.text.count(needle.sentence) == 1
        at, other = prompt.text.index(needle.sentence), prompt.text.index(needle.twin)
        assert abs(at - other) > 300
        assert text_of(any_model, prompt.ids[slice(*task_of(prompt).span)]).strip() == as_read(any_model, needle.answer)
        assert 400 - TOLERANCE <= len(prompt) <= 400


def test_the_default_lengths_fit_the_window() -> None:
    model = tiny_model(window=1000)
    lengths = {task_of(prompt).length for prompt in probe.prompts(model, limit=8, max_length=5000)}
    assert lengths == {950 // 4, 950 // 2, 950}  # an eighth holds no needle with its question
    with pytest.raises(UsageError, match=r"no haystack fits in 100 tokens \(--max-length 100\).*--max-length \d+ or"):
        probe.prompts(model, max_length=100)
    with pytest.raises(UsageError, match=r"lengths=960: .*takes 1000, 50 of them for the answer"):
        NeedleProbe(lengths=(960,)).prompts(model, max_length=5000)
    with pytest.raises(UsageError, match="lengths=20: too short"):
        NeedleProbe(lengths=(20,)).prompts(model)


def test_the_same_arguments_the_same_prompts(model: interp.Model) -> None:
    once, twice, other = (NeedleProbe(lengths=(300,)).prompts(model, limit=6, seed=seed) for seed in (1, 1, 2))
    assert once == twice and [one.extra for one in once] == [one.extra for one in twice]
    assert once != other


def test_a_limit_is_balanced_and_only_grows() -> None:
    lengths, depths = (256, 512, 1024, 2048), (0.0, 0.25, 0.5, 0.75, 1.0)
    places = grid(lengths, depths, needles(), 3, seed=0)
    uses = Counter(one.needle.name for one in places)
    assert len(places) == 60 and len(uses) == 24 and set(uses.values()) == {2, 3}
    assert [(one.length, -one.depth) for one in places] == sorted((one.length, -one.depth) for one in places)
    before: set[Any] = set()
    for limit in range(1, 61):
        taken = balanced(places, limit)
        assert len(taken) == limit and before <= set(taken) and taken == [one for one in places if one in set(taken)]
        before = set(taken)
        for values in ([one.needle.name for one in taken], [one.length for one in taken], [one.depth for one in taken]):
            counts = Counter(values).values()
            most = {str: 24, int: 4, float: 5}[type(values[0])]
            assert max(counts) <= -(-limit // most) + 2
            if limit >= 2 * most:
                assert len(counts) == most
    assert len({one.needle.name for one in balanced(places, 24)}) == 24


def test_lengths_of_a_ladder() -> None:
    assert ladder((), 2048, 100, "w") == ((256, 512, 1024, 2048), [])
    assert ladder((900, 300), 2048, 100, "w") == ((300, 900), [])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"depths": (0.5, 2.0)}, "shares from 0 to 1"),
        ({"depths": ()}, "shares"),
        ({"lengths": (5, 5)}, "different"),
        ({"needles": 0}, "1 or more"),
        ({"needles": 25}, "there are 24"),
        ({"max_new_tokens": 0}, "1 or more"),
    ],
)
def test_settings_that_mean_nothing(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        NeedleProbe(**wrong)


# BOS, chat and forms


def test_bos_stands_once_at_the_front(smollm2: interp.Model) -> None:
    for bos, first in (("add", smollm2.tokenizer.bos_token_id), ("none", None)):  # type: ignore[union-attr]
        model = dataclasses.replace(smollm2, bos=bos)
        for prompt in NeedleProbe(form="bare", lengths=(200,), needles=1).prompts(model):
            checked(model, prompt, 200)
            assert (prompt.ids[0] == first) == (bos == "add")
    model = tiny_model(bos="none")
    (prompt,) = NeedleProbe(form="bare", lengths=(200,), needles=1, depths=(0.5,)).prompts(model)
    assert 1 not in prompt.ids


@pytest.mark.parametrize("chat", [False, True])
def test_chat_is_the_users_turn(smollm2: interp.Model, chat: bool) -> None:
    model = dataclasses.replace(smollm2, chat=chat)
    made = NeedleProbe(lengths=(300,), needles=1, form="auto" if chat else "chat")
    prompts = made.prompts(model)
    assert model.tokenizer is not None
    for prompt in prompts:
        task = task_of(prompt)
        turn = [{"role": "user", "content": prompt.text}]
        whole = model.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        assert text_of(model, prompt.ids) == whole and task.form == "chat"
        assert 300 - TOLERANCE <= len(prompt) <= 300
        assert text_of(model, prompt.ids[slice(*task.span)]).strip() == task.answer
        assert text_of(model, prompt.ids[slice(*task.query)]).strip() == task.question
        assert text_of(model, prompt.ids[task.tail :]).startswith("\n\nQuestion: ")
        assert text_of(model, task.null_tail).endswith("Answer:<|im_end|>\n<|im_start|>assistant\n")
        assert task.depth_achieved == task.depth or task.depth not in (0, 1)


def test_a_template_whose_turns_open_with_bos() -> None:
    for bos in ("auto", "add", "none"):
        model = tiny_model(template=TEMPLATE, chat=True, bos=bos)
        for prompt in NeedleProbe(lengths=(300,), needles=1).prompts(model):
            task = task_of(prompt)
            assert prompt.ids == model.encode(prompt.text).ids
            assert text_of(model, prompt.ids[slice(*task.sentence)]) == as_read(model, BY_NAME[task.needle].sentence)


def answering(monkeypatch: pytest.MonkeyPatch, works: dict[str, int]) -> list[str]:
    """Let the model bring back so many answers of a form; which forms were asked, one entry a prompt."""
    asked: list[str] = []

    def recalled(model: Any, prompt: Prompt) -> float:
        form = task_of(prompt).form
        asked.append(form)
        return 1.0 if asked.count(form) <= works.get(form, 0) else 0.25

    monkeypatch.setattr(needle_forms, "recalled", recalled)
    return asked


@pytest.mark.parametrize(
    ("works", "chosen", "tried"),
    [
        ({"bare": 4}, "bare", ["bare"]),
        ({"bare": 2, "prefix": 3}, "prefix", ["bare", "prefix"]),
        ({"chat": 3}, "chat", ["bare", "prefix", "chat"]),
        ({"bare": 1, "prefix": 2}, "prefix", ["bare", "prefix", "chat"]),
        ({}, "bare", ["bare", "prefix", "chat"]),
    ],
)
def test_the_first_form_that_works(
    monkeypatch: pytest.MonkeyPatch, works: dict[str, int], chosen: str, tried: list[str]
) -> None:
    asked = answering(monkeypatch, works)
    model = tiny_model(template=TEMPLATE)
    made = NeedleProbe(lengths=(300,))
    prompts = made.prompts(model, limit=3)
    assert {task_of(prompt).form for prompt in prompts} == {chosen}
    found = prompts[0].extra["needle_forms"]
    assert found["chosen"] == chosen and [one["form"] for one in found["tried"]] == tried
    assert [one["brought_back"] for one in found["tried"]] == [works.get(form, 0) for form in tried]
    assert asked == [form for form in tried for _ in range(4)]
    assert made.prompts(model, limit=3, seed=4) and len(asked) == 4 * len(tried), "tried once for a model"
    assert made.prompts(tiny_model(), limit=3) and len(asked) > 4 * len(tried), "and again for another"


def test_without_a_template_there_is_no_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, {})
    NeedleProbe(lengths=(300,)).prompts(tiny_model(), limit=1)
    assert set(asked) == {"bare", "prefix"}
    with pytest.raises(UsageError, match="form=chat, but its tokenizer has no chat template; use form=bare or prefix"):
        NeedleProbe(form="chat").prompts(tiny_model())


def test_smollm2_is_asked_in_a_form_that_works(smollm2: interp.Model) -> None:
    made = NeedleProbe(lengths=(256,), depths=(0.5,))
    (prompt,) = made.prompts(smollm2, limit=1)
    found = prompt.extra["needle_forms"]
    assert found["tried"][-1]["form"] == found["chosen"] == task_of(prompt).form
    assert found["tried"][-1]["brought_back"] > 2 and found["tried"][-1]["recall"] > 0.5


def test_recall_is_of_what_the_model_writes(model: interp.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.runs import generate

    (prompt,) = NeedleProbe(form="bare", lengths=(200,), depths=(0.5,), needles=1).prompts(model)
    span = task_of(prompt).span
    monkeypatch.setattr(generate, "greedy", lambda model, prompt, length, stops: list(prompt.ids[slice(*span)]))
    monkeypatch.setattr(generate, "written", lambda model, said, tokens: f" {task_of(prompt).answer}\nand more")
    assert needle_forms.recalled(model, prompt) == 1.0
    monkeypatch.setattr(generate, "written", lambda model, said, tokens: "\n")
    assert needle_forms.recalled(model, prompt) == 0.0


# models that it cannot be asked of


def test_a_model_without_tokenizer_or_with_a_slow_one() -> None:
    model = interp.load(tiny("llama"), check=False)
    with pytest.raises(UsageError, match="has no tokenizer, and a needle is a sentence"):
        probe.prompts(model)
    with pytest.raises(UsageError, match="has no tokenizer"):
        probe.from_records(model, [])

    class Slow:
        is_fast = False

    model = tiny_model()
    model.tokenizer = Slow()  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"Slow is a slow tokenizer.*need a fast one"):
        probe.prompts(model)


def test_a_template_that_changes_the_text() -> None:
    shouting = TEMPLATE.replace("m['content']", "m['content'] | upper")
    with pytest.raises(UsageError, match="its chat template changes the text it is given"):
        NeedleProbe(form="chat").prompts(tiny_model(template=shouting))
    trimming = TEMPLATE.replace("m['content']", "m['content'] | trim")
    record = {"context": "  The dog sat on the mat.", "answer": "on the mat", "question": "Where?"}
    model = tiny_model(template=trimming)
    (prompt,) = NeedleProbe(form="chat").from_records(model, [record])
    assert text_of(model, prompt.ids[slice(*task_of(prompt).span)]) == "on the mat"


def test_positions_are_within_the_prompt(model: interp.Model) -> None:
    for prompt in NeedleProbe(form="bare").prompts(model, limit=6):
        task = task_of(prompt)
        everything = np.array([*task.span, *task.sentence, task.tail, *task.query])
        assert everything.min() >= 0 and everything.max() <= len(prompt)
