"""The probes: exact ids, seeds, lengths, and what stands at position 0."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from interp.errors import UsageError
from interp.models.load import load
from interp.models.model import Model
from interp.registry import PROBES
from probes.text import Texts, from_texts, shipped_texts
from tests.tiny import tiny, tiny_tokenizer


def model(bos: str = "none", tokenizer: PreTrainedTokenizerFast | None = None, **config: int) -> Model:
    return load(tiny("llama", **config), tokenizer=tokenizer or tiny_tokenizer(128), bos=bos, check=False)


@pytest.fixture(scope="module")
def plain() -> Model:
    return model("none")


SHORT = ("text", "repeated", "repeated-segment", "random", "problems", "problem-statements", "induction")


@pytest.mark.parametrize("name", SHORT)
def test_every_probe_that_few_tokens_are_enough_for(name: str, plain: Model) -> None:
    probe = PROBES.get(name)
    assert probe.name == name and probe.help
    prompts = probe.prompts(plain, limit=3, max_length=20, seed=1)
    assert len(prompts) == 3 and len({prompt.hash for prompt in prompts}) == 3
    assert len({prompt.name for prompt in prompts}) == 3
    for prompt in prompts:
        assert 0 < len(prompt) <= 20 and len(prompt.tokens) == len(prompt.ids)
        assert all(0 <= token < plain.vocab_size for token in prompt.ids)
    assert prompts == probe.prompts(plain, limit=3, max_length=20, seed=1)
    assert prompts[:2] == probe.prompts(plain, limit=2, max_length=20, seed=1)


@pytest.mark.parametrize("name", ["repeated", "repeated-segment", "random"])
def test_synthetic_probes_follow_the_seed_and_draw_ordinary_tokens(name: str, plain: Model) -> None:
    assert plain.tokenizer is not None
    special = set(plain.tokenizer.all_special_ids)
    one, other = (PROBES.get(name).prompts(plain, limit=40, max_length=16, seed=seed) for seed in (0, 1))
    assert [prompt.ids for prompt in one] != [prompt.ids for prompt in other]
    assert all(len(prompt) == 16 and not special & set(prompt.ids) and not prompt.truncated for prompt in one)


def test_one_token_repeated(plain: Model) -> None:
    for prompt in PROBES.get("repeated").prompts(plain, limit=4, max_length=9, seed=0):
        assert len(prompt) == 9 and len(set(prompt.ids)) == 1 and prompt.extra["period"] == 1


def test_segment_twice(plain: Model) -> None:
    for prompt in PROBES.get("repeated-segment").prompts(plain, limit=4, max_length=21, seed=0):
        assert prompt.ids[:10] == prompt.ids[10:] and len(set(prompt.ids)) > 3 and prompt.extra["period"] == 10


def test_random_tokens_cover_the_vocabulary_evenly(plain: Model) -> None:
    prompts = PROBES.get("random").prompts(plain, limit=64, max_length=200, seed=0)
    counts: dict[int, int] = {}
    for token in (token for prompt in prompts for token in prompt.ids):
        counts[token] = counts.get(token, 0) + 1
    assert set(counts) == set(range(4, 128))  # ids 0 to 3 are the special tokens
    mean = 64 * 200 / 124
    assert all(0.5 * mean < count < 1.6 * mean for count in counts.values())


@pytest.mark.parametrize("name", ["repeated", "repeated-segment", "random"])
def test_synthetic_probes_start_as_the_bos_policy_says(name: str) -> None:
    with_bos = PROBES.get(name).prompts(model("add"), limit=1, max_length=12, seed=0)[0]
    assert with_bos.ids[0] == 1 and 1 not in with_bos.ids[1:] and len(with_bos) <= 12
    assert with_bos.text == "".join(with_bos.tokens[1:])
    assert 1 not in PROBES.get(name).prompts(model("none"), limit=1, max_length=12, seed=0)[0].ids


def test_padded_embedding_rows_are_never_drawn() -> None:
    padded = model(vocab_size=200)  # 72 rows more than the tokenizer has tokens
    ids = {
        token
        for prompt in PROBES.get("random").prompts(padded, limit=20, max_length=100, seed=0)
        for token in prompt.ids
    }
    assert max(ids) == 127


def test_without_a_tokenizer() -> None:
    bare = load(tiny("llama"), check=False)
    prompt = PROBES.get("random").prompts(bare, limit=1, max_length=100, seed=0)[0]
    assert len(prompt) == 100 and not {0, 1, 2} & set(prompt.ids)


def test_default_length_respects_the_model_and_too_short_is_refused(plain: Model) -> None:
    assert (
        len(PROBES.get("random").prompts(plain, limit=1, max_length=None, seed=0)[0]) == 256
    )  # the tiny model's limit
    with pytest.raises(UsageError, match="max_length 1 is too short for this probe: it needs at least 2 tokens"):
        PROBES.get("repeated").prompts(plain, limit=1, max_length=1, seed=0)


def test_texts_are_cut_and_say_so(plain: Model) -> None:
    short, long = from_texts(plain, [("a", "the cat"), ("b", "the cat sat on the mat.")], max_length=5)
    assert (len(short), short.truncated) == (3, False)
    assert (len(long), long.truncated) == (5, True)
    assert long.text == "the cat sat on the mat." and long.name == "b"
    assert from_texts(plain, [("c", "the cat", {"answer": 1})])[0].extra["answer"] == 1


def test_texts_of_ones_own(plain: Model) -> None:
    probe = Texts(name="mine", texts=[("x", "the dog"), ("y", "a mat")])
    assert [prompt.name for prompt in probe.prompts(plain)] == ["x", "y"]
    assert [prompt.name for prompt in probe.prompts(plain, limit=1)] == ["x"]


def test_default_probe_is_the_shipped_texts(plain: Model) -> None:
    prompts = PROBES.get("text").prompts(plain, limit=None, max_length=64, seed=0)
    assert [(prompt.name, prompt.text) for prompt in prompts] == shipped_texts()


def test_real_vocabulary(smollm2: Model) -> None:
    assert smollm2.tokenizer is not None
    for name in ("random", "repeated", "repeated-segment"):
        prompt = PROBES.get(name).prompts(smollm2, limit=1, max_length=128, seed=0)[0]
        assert len(prompt) <= 128
        assert not set(smollm2.tokenizer.added_tokens_decoder) & set(prompt.ids[1:])
