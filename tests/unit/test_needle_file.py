"""Own needles: what a JSONL file or Python may hold, and that every refusal names file, line and key."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.errors import UsageError
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.task import one_line, task_of
from probes import needle_file
from probes.needle import NeedleProbe, probe
from tests.tiny import tiny, tiny_tokenizer

CONTEXT = "The dog ran. The red cat sat on the blue mat in it. It was red."
LINE = {"context": CONTEXT, "answer": "on the blue mat", "question": "the cat sat to?"}


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return path


def test_a_file_becomes_prompts(model: interp.Model, tmp_path: Path) -> None:
    more = {**LINE, "prefix": " the cat sat", "max_new_tokens": 7, "name": "cat", "source": {"page": 3}}
    first, second = probe.from_records(model, probe.read(write(tmp_path, LINE, "", more)))
    assert first.text == f"{CONTEXT}\n\nQuestion: the cat sat to?\nAnswer:"
    assert second.text == f"{first.text} the cat sat"
    assert (first.name, second.name) == ("mine.jsonl:1", "cat")
    assert first.ids == model.encode(first.text).ids and first.ids.count(1) == 1
    one, two = task_of(first), task_of(second)
    assert (one.form, one.max_new_tokens, two.max_new_tokens, one.length, one.depth) == ("own", 50, 7, None, None)
    assert second.extra["source"] == {"page": 3} and "source" not in first.extra
    assert one.needle == two.needle == "mine.jsonl:1", "same question, same answer: one needle"
    for prompt, task in ((first, one), (second, two)):
        assert model.tokenizer is not None
        assert model.tokenizer.decode(list(prompt.ids[slice(*task.span)])) == "on the blue mat"
        assert task.sentence == task.span and task.answer == "on the blue mat"
        assert model.tokenizer.decode(list(prompt.ids[slice(*task.query)])) == "the cat sat to?"
        before, after = CONTEXT.split("on the blue mat")
        sizes = [len(model.tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (before, after)]
        assert task.depth_achieved == pytest.approx(sizes[0] / sum(sizes), abs=1e-4)
    assert json.loads(json.dumps(second.extra)) == second.extra


def test_the_same_from_python(model: interp.Model, tmp_path: Path) -> None:
    (from_file,) = probe.from_records(model, probe.read(write(tmp_path, LINE)))
    (given,) = probe.from_records(model, [LINE])
    assert given.ids == from_file.ids and given.name == "own-1"
    assert LINE.keys() == {"context", "answer", "question"}, "what was given is left alone"
    assert len(probe.from_records(model, [LINE] * 3, limit=2)) == 2
    (shorter,) = NeedleProbe(max_new_tokens=9).from_records(model, [LINE])
    assert task_of(shorter).max_new_tokens == 9


def test_an_answer_that_stands_there_twice_is_told(model: interp.Model) -> None:
    (prompt,) = probe.from_records(model, [{**LINE, "answer": "red"}])
    assert task_of(prompt).span[0] == prompt.ids.index(prompt.ids[task_of(prompt).span[0]])
    assert prompt.notes == ["its answer stands in the context 2 times, and copying is scored on the first place alone"]
    assert probe.from_records(model, [LINE])[0].notes == []


def test_needles_are_told_apart_by_question_and_answer(model: interp.Model) -> None:
    other = {**LINE, "answer": "red", "name": "cat"}
    lines = [{**LINE, "name": "cat"}, other, {**LINE, "name": "again"}, {**other, "question": "red"}]
    names = [task_of(prompt).needle for prompt in probe.from_records(model, lines)]
    assert names == ["cat", "cat (2)", "cat", "cat (3)"]


def test_an_answer_is_a_whole_word_where_it_can_be(model: interp.Model) -> None:
    context = "It scattered. The cat ran in it."
    (prompt,) = probe.from_records(model, [{**LINE, "context": context, "answer": "cat"}])
    record = probe.from_records(model, [{**LINE, "context": "It scattered.", "answer": "cat"}])[0]
    (asked,) = needle_file.from_mappings([{**LINE, "context": context, "answer": "cat"}], 50)
    assert asked.asked.answer == (18, 21)
    assert prompt.notes == [
        "its answer stands in the context 2 times, and copying is scored on the first that is no part of a longer word "
        "alone"
    ]
    assert record.notes == []


def test_an_answer_that_cannot_be_written(model: interp.Model) -> None:
    with pytest.raises(
        UsageError, match=r"record 1: .* its answer has \d+ tokens, and max_new_tokens=2 lets .* give \d+"
    ):
        probe.from_records(model, [{**LINE, "max_new_tokens": 2}])
    with pytest.raises(
        UsageError, match=r"record 1: max_new_tokens=100000: .* takes 256 tokens, prompt and answer tog"
    ):
        probe.from_records(model, [{**LINE, "max_new_tokens": 100000}])
    two = {**LINE, "context": "It was red.\nThe cat ran.", "answer": "red.\nThe cat"}
    (prompt,) = probe.from_records(model, [two])
    with pytest.raises(UsageError, match=r"goes over several lines.*use --set stop_at_newline=False"):
        one_line(prompt, RetrievalConfig())
    one_line(prompt, RetrievalConfig(stop_at_newline=False))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", r"line 2: not valid JSON .*\{\"context\": "),
        ("[1]", "line 2: a JSON array instead of an object; expected"),
        ({"text": "a"}, r"line 2: no 'context' in this object \(found 'text'\); expected"),
        ({"context": "a b", "answer": "b"}, r"line 2: no 'question' in this object \(found 'context', 'answer'\); "),
        ({**LINE, "context": 3}, "line 2: 'context' is a JSON number; it must be a string"),
        ({**LINE, "question": " "}, "line 2: 'question' is blank"),
        ({**LINE, "answer": ""}, "line 2: 'answer' is blank"),
        ({**LINE, "answer": "on a mat"}, r"line 2: 'answer' \('on a mat'\) is no part of 'context'; copy it from"),
        ({**LINE, "answer": "On The Blue"}, "line 2: 'answer' .* the context has 'on the blue'"),
        ({**LINE, "max_new_tokens": 0}, "line 2: 'max_new_tokens' is 0; it must be a whole number of 1 or more"),
        ({**LINE, "max_new_tokens": "9"}, "line 2: 'max_new_tokens' is a JSON string; it must"),
        ({**LINE, "max_new_tokens": True}, "line 2: 'max_new_tokens' is a JSON boolean"),
        ({**LINE, "prefix": 4}, "line 2: 'prefix' is a JSON number"),
        ({**LINE, "prefix": " it sat on the"}, "line 2: 'prefix' .* holds part of 'answer' already .'on the'"),
        (
            {**LINE, "prefix": "on the Blue mat sat"},
            "line 2: 'prefix' .* holds part of 'answer' already .'on the blue mat'",
        ),
        ({**LINE, "name": ["a"]}, "line 2: 'name' is a JSON array"),
        ({**LINE, "needle": "a"}, "line 2: 'needle' is what interp keeps facts of its own under"),
    ],
)
def test_a_bad_line(tmp_path: Path, line: Any, told: str) -> None:
    path = write(tmp_path, LINE, line)
    with pytest.raises(UsageError, match=told) as caught:
        probe.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_bad_record_and_a_bad_file(model: interp.Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="record 2: no 'answer'"):
        probe.from_records(model, [LINE, {"context": "a", "question": "b"}])
    with pytest.raises(UsageError, match="record 1: a JSON number instead"):
        probe.from_records(model, [3])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"no prompts in this file; expected one JSON object a line.*context"):
        probe.read(write(tmp_path))
    with pytest.raises(UsageError, match="cannot read"):
        probe.read(tmp_path / "absent")


def test_nothing_is_cut(model: interp.Model, tmp_path: Path) -> None:
    long, longer = ({**LINE, "context": "it was. " * times + CONTEXT} for times in (20, 60))
    records = probe.read(write(tmp_path, LINE, long))
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 2: .* has \d+ tokens, and at most 100 are taken"):
        probe.from_records(model, records, max_length=100)
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 2: .*takes 256.*could cut the needle"):
        probe.from_records(model, probe.read(write(tmp_path, LINE, longer)))
    assert len(probe.from_records(model, records, limit=1, max_length=100)) == 1
    room = model.max_positions
    (prompt,) = probe.from_records(model, [LINE])
    assert room is not None
    with pytest.raises(UsageError, match=r"record 1: .*at most 6 are taken \(.* takes 256, 250 of them for the answer"):
        probe.from_records(model, [{**LINE, "max_new_tokens": room - 6}])
    assert probe.from_records(model, [{**LINE, "max_new_tokens": room - len(prompt)}])


def test_as_the_users_turn(smollm2: interp.Model) -> None:
    record = {
        "context": "It rained. The key is in a blue box. Nobody came.",
        "answer": "in a blue box",
        "question": "Where is the key?",
    }
    (forced,) = NeedleProbe(form="chat").from_records(smollm2, [record])
    (loaded,) = probe.from_records(dataclasses.replace(smollm2, chat=True), [record])
    (plain,) = NeedleProbe(form="prefix").from_records(smollm2, [record])
    assert forced.ids == loaded.ids != plain.ids and smollm2.tokenizer is not None
    assert [task_of(one).form for one in (forced, loaded, plain)] == ["chat", "chat", "own"]
    for prompt in (forced, plain):
        assert smollm2.tokenizer.decode(list(prompt.ids[slice(*task_of(prompt).span)])) == " in a blue box"
