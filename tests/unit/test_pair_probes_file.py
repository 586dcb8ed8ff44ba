"""A user's own pairs: what a line becomes, and every way in which it can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from interp.circuits.pairs import pair_of
from interp.errors import UsageError
from interp.registry import PROBES
from probes.pairs import Pairs
from tests.pair_words import model_of, tokenizer

if TYPE_CHECKING:
    from interp.models.model import Model

GOOD = {"clean": "The keys to the cabinet", "corrupt": "The key to the cabinet", "answer": " are", "wrong": " is"}


@pytest.fixture(scope="module", params=[("space", True), ("bytes", False), ("sentencepiece", True)])
def model(request: pytest.FixtureRequest) -> Model:
    return model_of(tokenizer(*request.param))


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_lines(model: Model, tmp_path: Path) -> None:
    positions = {"subject": "The keys", "to": " to ", "last": -1, "first": 0}
    more = {"wrong": [" is", " the"], "positions": positions, "name": "plural", "template": "t", "source": "me"}
    path = written(tmp_path, GOOD, {**GOOD, **more})
    plain, full = Pairs().from_records(model, Pairs().read(path))
    bos = len(plain) - 5
    assert pair_of(plain).positions == {"end": bos + 4} and plain.name == "own.jsonl:1"
    pair = pair_of(full)
    assert pair.positions == {"subject": bos + 1, "to": bos + 2, "last": bos + 4, "first": 0, "end": bos + 4}
    assert [model.decode_tokens([token])[0] for token in (pair.answer, *pair.wrong)] == [" are", " is", " the"]
    assert model.decode_tokens(pair.corrupt)[bos + 1] == " key" and len(pair.corrupt) == len(full)
    assert full.name == "plural" and pair.template == "t" and full.extra["source"] == "me"


def test_any_probe_of_pairs_reads_them_and_so_do_mappings(model: Model, tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, {**GOOD, "name": "again"})
    for name in ("ioi", "colored-objects", "greater-than", "induction", "pairs"):
        probe = PROBES.get(name)
        assert len(probe.from_records(model, probe.read(path), limit=1)) == 1
    assert pair_of(Pairs().from_records(model, [GOOD])[0]) == pair_of(Pairs().from_records(model, [dict(GOOD)])[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": None}, "'clean' is a JSON null"),
        ({"answer": ""}, "'answer' is blank"),
        ({"wrong": []}, r"'wrong' is \[\]"),
        ({"wrong": [" is", 3]}, "'wrong' is"),
        ({"wrong": 3}, "'wrong' is a JSON number"),
        ({"wrong": [" is", " are"]}, "must all be different"),
        ({"corrupt": GOOD["clean"]}, "same text"),
        ({"positions": [1]}, "'positions' is a JSON array"),
        ({"positions": {"s": True}}, "position 's' is True"),
        ({"positions": {"s": ""}}, "position 's' is ''"),
        ({"pair": 1}, "'pair' is what interp keeps"),
        ({"groups": 1}, "'groups' is what interp keeps"),
    ],
)
def test_malformed_lines(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=rf"own\.jsonl, line 2: .*{message}"):
        Pairs().read(written(tmp_path, GOOD, {**GOOD, **change}))


def test_missing_keys_are_named(tmp_path: Path) -> None:
    for key in GOOD:
        with pytest.raises(UsageError, match=f"line 1: no '{key}' in this object"):
            Pairs().read(written(tmp_path, {name: value for name, value in GOOD.items() if name != key}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"corrupt": "The key to the"},
            r"'clean' has \d tokens and 'corrupt' \d, .*clean: \[.*' cabinet'\]; corrupt: \[.*' the'\]",
        ),
        (
            {"answer": " are the"},
            r"'answer' \(' are the'\) must be one token .*\[' are', ' the'\] \(ids \[\d+, \d+\]\)",
        ),
        ({"wrong": [" the", " is to"]}, r"'wrong' \(' is to'\) must be one token .*the first alone, ' is', would do"),
        ({"clean": "The keys to the ", "corrupt": "The key to the ", "answer": "are"}, "end 'clean' without the space"),
        ({"answer": "are"}, "joins the prompt's end .*' are'.* may be what is missing"),
        ({"positions": {"s": "t"}}, r"position 's' \('t'\) stands 3 times in 'clean'"),
        ({"positions": {"s": "door"}}, r"position 's' \('door'\) is no part of 'clean'"),
        ({"positions": {"s": 9}}, r"position 's' is 9, but 'clean' has \d tokens"),
    ],
)
def test_pairs_that_do_not_serve(model: Model, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    records = Pairs().read(written(tmp_path, GOOD, {**GOOD, **change}))
    with pytest.raises(UsageError, match=rf"own\.jsonl, line 2: .*{message}"):
        Pairs().from_records(model, records)


def test_nothing_is_cut(model: Model) -> None:
    with pytest.raises(UsageError, match=r"record 1: prompt 'own-1' has \d tokens, more than --max-length 3"):
        Pairs().from_records(model, [GOOD], max_length=3)


def test_unknown_next_tokens_are_no_pair(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of the shipped pairs serves; .*hold one token twice"):
        Pairs().prompts(model_of(tokenizer(without=" are$| is$")))
