"""Probes of pairs: aligned twins, positions that hold what they are named for, balance, and what is refused."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import interp
from interp.circuits.pairs import Pair, batch_of, batches, pair_of
from interp.errors import UsageError
from interp.resources import data_path
from probes.colored_objects import OPENINGS, SURFACES, ColoredObjects
from probes.greater_than import GreaterThan
from probes.induction import Induction
from probes.ioi import IOI
from probes.ioi_templates import TEMPLATES
from probes.pair_base import words
from probes.pairs import Pairs
from tests.pair_words import Make, model_of, tokenizer
from tests.tiny import tiny, tiny_tokenizer

if TYPE_CHECKING:
    from interp.models.model import Model

PROBES = (IOI(), IOI(corrupt="abc"), ColoredObjects(), GreaterThan(), Induction(), Pairs())
MAKES: tuple[tuple[Make, bool], ...] = (("space", True), ("bytes", False), ("bytes", True), ("sentencepiece", True))


@pytest.fixture(scope="module", params=MAKES, ids=lambda made: f"{made[0]}-{'bos' if made[1] else 'plain'}")
def model(request: pytest.FixtureRequest) -> Model:
    make, bos = request.param
    return model_of(tokenizer(make, bos))


def word(pair: Pair, name: str) -> str:
    """What stands at a named position of the clean prompt."""
    return pair.prompt.tokens[pair.positions[name]].strip()


def corrupt_word(model: Model, pair: Pair, name: str) -> str:
    return model.decode_tokens(pair.corrupt)[pair.positions[name]].strip()


def shown(model: Model, token: int) -> str:
    return model.decode_tokens([token])[0].strip()


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.name}-{getattr(probe, 'corrupt', '')}")
def test_pairs_line_up_and_say_where_they_end(model: Model, probe: Any) -> None:
    prompts = probe.prompts(model, limit=12)
    pairs = [pair_of(prompt) for prompt in prompts]
    assert len({prompt.hash for prompt in prompts}) == len(prompts) == 12
    assert sum(len(group) for group, _ in batches(pairs)) == 12
    for pair in pairs:
        assert len(pair.corrupt) == len(pair.prompt) and pair.corrupt != pair.prompt.ids
        assert pair.positions["end"] == len(pair.prompt) - 1
        assert not {3, model.tokenizer.unk_token_id} & {*pair.prompt.ids, *pair.corrupt, pair.answer, *pair.wrong}
        assert pair.prompt.extra["groups"] and pair.template


@pytest.mark.parametrize("corrupt", ["flip", "abc"])
def test_ioi(model: Model, corrupt: Any) -> None:
    prompts = IOI(corrupt=corrupt).prompts(model, limit=64, seed=2)
    templates: dict[str, set[int]] = {}
    for prompt in prompts:
        pair, facts = pair_of(prompt), prompt.extra["ioi"]
        io, subject = facts["io"], facts["s"]
        assert (word(pair, "IO"), word(pair, "S1"), word(pair, "S2")) == (io, subject, subject)
        assert (shown(model, pair.answer), [shown(model, token) for token in pair.wrong]) == (io, [subject])
        assert pair.positions["S1+1"] == pair.positions["S1"] + 1 and word(pair, "end") == "to"
        first_io = pair.positions["IO"] < pair.positions["S1"] < pair.positions["S2"]
        assert first_io == (prompt.extra["groups"]["order"] == "ABBA") == pair.template.startswith("ABBA")
        others = [corrupt_word(model, pair, name) for name in ("IO", "S1", "S2")]
        if corrupt == "flip":
            assert others == [io, subject, io]
        else:
            assert len({*others, io, subject}) == 5
        assert tuple(prompt.extra["twins"][corrupt]) == pair.corrupt
        changed = [at for at, (a, b) in enumerate(zip(prompt.ids, pair.corrupt, strict=True)) if a != b]
        assert changed == sorted(
            pair.positions[name] for name in (("S2",) if corrupt == "flip" else ("IO", "S1", "S2"))
        )
        names = [name for name in words("names") if re.search(rf"\b{name}\b", prompt.text)]
        assert sorted(names) == sorted([io, subject])
        templates.setdefault(pair.template, set()).add(len(prompt))
    assert Counter(prompt.extra["groups"]["order"] for prompt in prompts) == {"ABBA": 32, "BABA": 32}
    assert Counter(pair_of(prompt).template for prompt in prompts) == dict.fromkeys(templates, 2)
    assert len(templates) == 32 and all(len(lengths) == 1 for lengths in templates.values())


def test_ioi_keeps_its_clean_prompts_whatever_the_twin(model: Model) -> None:
    flip, abc = (IOI(corrupt=corrupt).prompts(model, limit=6) for corrupt in ("flip", "abc"))
    assert flip == abc
    assert [prompt.extra["twins"] for prompt in flip] == [prompt.extra["twins"] for prompt in abc]
    assert all(pair_of(a).corrupt != pair_of(b).corrupt for a, b in zip(flip, abc, strict=True))


def test_ioi_settings(model: Model) -> None:
    chosen = IOI(templates=(3, 7), order="BABA").prompts(model, limit=6)
    assert Counter(pair_of(prompt).template for prompt in chosen) == {"BABA-03": 3, "BABA-07": 3}
    for bad in ((len(TEMPLATES),), (-1,), (2, 2)):
        with pytest.raises(ValueError, match="templates="):
            IOI(templates=bad)


def test_sentences_are_enough_and_different() -> None:
    assert len(TEMPLATES) >= 15 and len(set(TEMPLATES)) == len(TEMPLATES)
    slots = ["{first}", "{second}", "{place}", "{giver}", "{gift}"]
    for text in TEMPLATES:
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(slots) and text.endswith(" to")
        assert text.index("{first}") < text.index("{second}") < text.index("{giver}")
        assert all(text[text.index(slot) - 1] == " " for slot in slots)


def test_colored_objects(model: Model) -> None:
    prompts = ColoredObjects().prompts(model, limit=36, seed=1)
    for prompt in prompts:
        pair, facts = pair_of(prompt), prompt.extra["colored_objects"]
        slots = [f"{kind}{slot}" for kind in ("color", "object") for slot in (1, 2, 3)]
        listed = [word(pair, name) for name in (*slots, *(f"example {slot}" for slot in slots))]
        assert len(set(listed)) == 12
        assert [word(pair, f"color{slot}") for slot in (1, 2, 3)] == facts["colours"]
        asked, other = facts["asked"], facts["other"]
        assert word(pair, "asked") == word(pair, f"object{asked + 1}")
        assert corrupt_word(model, pair, "asked") == word(pair, f"object{other + 1}")
        capitals = [colour.capitalize() for colour in facts["colours"]]
        assert shown(model, pair.answer) == capitals.pop(asked)
        assert sorted(shown(model, token) for token in pair.wrong) == sorted(capitals)
        example = facts["example"] + 1
        assert word(pair, "example answer") == word(pair, f"example color{example}").capitalize()
        assert word(pair, "example asked") == word(pair, f"example object{example}")
        assert {pair.answer, *pair.wrong} <= set(prompt.extra["choices"]) and len(prompt.extra["choices"]) >= 8
        assert prompt.text.endswith("?\nA:") and prompt.text.count("Q: On the") == 2
    assert set(Counter(prompt.extra["groups"]["slot"] for prompt in prompts).values()) == {12}
    assert set(Counter(pair_of(prompt).template for prompt in prompts).values()) == {4}
    assert len({pair_of(prompt).template for prompt in prompts}) == len(SURFACES) * len(OPENINGS)


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("make", ["space", "bytes", "sentencepiece"])
def test_greater_than(make: Make, digits: int) -> None:
    model = model_of(tokenizer(make, digits=digits))
    for prompt in GreaterThan().prompts(model, limit=48):
        pair, year = pair_of(prompt), prompt.extra["greater_than"]["year"]
        start = year[2] if digits == 1 else year[2:]
        at = "decade" if digits == 1 else "year"
        assert word(pair, at) == start and (digits == 2 or word(pair, "unit") == year[3])
        assert corrupt_word(model, pair, at) == ("0" if digits == 1 else "01")
        assert all(shown(model, token) < start for token in pair.wrong)
        assert all(shown(model, token) > start for token in prompt.extra["right"])
        assert pair.answer in prompt.extra["right"] and shown(model, pair.answer)[0] == str(int(year[2]) + 1)
        assert prompt.text.endswith(f" {year[:2]}") and pair.template == ("digits" if digits == 1 else "two digits")


def test_greater_than_needs_years_it_can_take_apart() -> None:
    with pytest.raises(UsageError, match=r"'the year 1732' is .*--prompts"):
        GreaterThan().prompts(model_of(tokenizer(digits=3)), limit=1)


@pytest.mark.parametrize("words", [None, tiny_tokenizer(128)])
def test_induction(words: Any) -> None:
    model = interp.load(tiny("gpt2"), tokenizer=words, check=False)
    for size in (None, 20, 7):
        for prompt in Induction().prompts(model, limit=20, max_length=size):
            pair, ids, period = pair_of(prompt), prompt.ids, prompt.extra["period"]
            assert len(ids) <= (size or 33) and len(ids) > period
            assert ids[-1] == ids[pair.positions["cue1"]] and pair.positions["cue1"] == pair.positions["end"] - period
            assert pair.answer == ids[pair.positions["cue1+1"]]
            assert pair.corrupt[:-1] == ids[:-1] and pair.corrupt[-1] == ids[pair.positions["other"]] != ids[-1]
            assert pair.wrong == (ids[pair.positions["other"] + 1],)
    for wrong in ({"segment": 3}, {"repeated": 23}, {"repeated": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(Induction(), **wrong)


def test_too_few_names_is_an_error_with_counts() -> None:
    names = words("names")
    lost = "|".join(f" {name}$" for name in names[:-19])
    with pytest.raises(UsageError, match=rf"19 of {len(names)} first names are one token .*' {names[0]}'"):
        IOI().prompts(model_of(tokenizer(without=lost)), limit=1)


def test_words_that_are_not_one_token_are_left_out() -> None:
    names = words("names")
    model = model_of(tokenizer(without="|".join(f" {name}$" for name in names[:60])))
    used = {name for p in IOI().prompts(model, limit=64) for name in (p.extra["ioi"]["io"], p.extra["ioi"]["s"])}
    assert used and not used & set(names[:60])
    with pytest.raises(UsageError, match="6 of 12 colours"):
        ColoredObjects().prompts(
            model_of(tokenizer(without="|".join(f" {c.capitalize()}$" for c in words("colours")[:6])))
        )


@pytest.mark.parametrize("probe", [IOI(), ColoredObjects(), GreaterThan(), Pairs()], ids=lambda probe: probe.name)
def test_what_pairs_cannot_be_made_of(probe: Any) -> None:
    known = tokenizer()
    with pytest.raises(UsageError, match="no tokenizer"):
        probe.prompts(interp.load(tiny("llama"), check=False))
    with pytest.raises(UsageError, match=r"max-length 4"):
        probe.prompts(model_of(known), max_length=4)
    known.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(UsageError, match="--chat"):
        probe.prompts(model_of(known, chat=True))


@pytest.mark.parametrize("name", ["words.json", "agreement.jsonl"])
def test_card(name: str) -> None:
    raw = data_path("circuits", name).read_bytes()
    card = json.loads(data_path("circuits", f"{name.split('.')[0]}.card.json").read_text("utf-8"))
    assert card["file"] == name and card["sha256"] == hashlib.sha256(raw).hexdigest()
    assert card["characters"] == len(raw.decode("utf-8"))
    assert card["author"] == "written for interp" and card["licence"] == "MIT"


def _on_a_real_model(model: Model) -> None:
    assert len(words("names")) >= 90 and len(words("colours")) >= 8 and len(words("things")) >= 17
    from probes.pair_base import one_token

    assert len(one_token(model, words("names"))) >= 90
    prompts = IOI().prompts(model, limit=8)
    differences = []
    import torch

    for group, batch in batches([pair_of(prompt) for prompt in prompts]):
        with torch.no_grad():
            logits = model.hf(batch.clean).logits[:, -1]
        rows = torch.arange(len(group))
        differences += (logits[rows, batch.answer] - logits[rows, batch.wrong[:, 0]]).tolist()
    assert min(differences) > 0 and sum(differences) / 8 > 2
    for probe in PROBES[2:]:
        assert len(batch_of([pair_of(probe.prompts(model, limit=1)[0])])) == 1


def test_smollm2_names_the_indirect_object(smollm2: Model) -> None:
    _on_a_real_model(smollm2)


def test_gemma_names_the_indirect_object(gemma3: Model) -> None:
    _on_a_real_model(gemma3)
