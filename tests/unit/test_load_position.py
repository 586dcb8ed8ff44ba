"""What stands at position 0: every BOS policy on tokenizers with and without one, chat templates, truncation."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from interp.errors import LoadError, UsageError
from interp.models.load import load
from interp.models.model import Model
from tests.tiny import tiny, tiny_tokenizer

CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>a{% endif %}"
)
CHAT_BOS = "<s>{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"


@pytest.fixture(scope="module")
def hf() -> PreTrainedModel:
    return tiny("llama")


def loaded(hf: Any, tokenizer: Any, **options: Any) -> Model:
    return load(hf, tokenizer=tokenizer, check=False, **options)


def without_bos(**names: Any) -> PreTrainedTokenizerFast:
    """Adds nothing by itself, and names only the special tokens given."""
    backend = tiny_tokenizer().backend_tokenizer
    backend.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize(
    ("bos", "ids", "phrase"),
    [
        ("auto", (1, 4), "'<s>' (id 1, added by the tokenizer itself, --bos auto)"),
        ("add", (1, 4), "'<s>' (id 1, added by the tokenizer itself, --bos add)"),
        ("none", (4,), "the text's first token (no BOS: --bos none)"),
    ],
)
def test_tokenizer_that_adds_bos(hf: Any, bos: str, ids: tuple[int, ...], phrase: str) -> None:
    model = loaded(hf, tiny_tokenizer(), bos=bos)
    assert model.encode(" ").ids == ids
    assert model.position0 == phrase


@pytest.mark.parametrize(
    ("bos", "ids", "phrase"),
    [
        ("auto", (4,), "the text's first token (this tokenizer adds no BOS, --bos auto)"),
        ("add", (1, 4), "'<s>' (id 1, the tokenizer's BOS, added: --bos add)"),
        ("none", (4,), "the text's first token (no BOS: --bos none)"),
    ],
)
def test_tokenizer_that_adds_none(hf: Any, bos: str, ids: tuple[int, ...], phrase: str) -> None:
    model = loaded(hf, without_bos(bos_token="<s>"), bos=bos)
    assert model.encode(" ").ids == ids
    assert model.position0 == phrase


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), without_bos(bos_token="<s>")])
def test_bos_written_out_in_the_text(hf: Any, tokenizer: Any) -> None:
    """`add` means exactly once and `none` means not at all, also when the text begins with it."""
    assert loaded(hf, tokenizer, bos="add").encode("<s><s> ").ids == (1, 4)
    assert loaded(hf, tokenizer, bos="none").encode("<s><s> ").ids == (4,)


@pytest.mark.parametrize(
    ("names", "config_bos", "token", "origin"),
    [
        ({"cls_token": "<pad>"}, 1, 0, "the tokenizer's CLS, as it has no BOS"),
        ({"eos_token": "</s>"}, 1, 1, "the model config's BOS, as the tokenizer names none"),
        ({"eos_token": "</s>"}, None, 2, "the tokenizer's EOS, as it has no BOS"),
    ],
)
def test_nearest_equivalent_of_a_missing_bos(
    names: dict[str, str], config_bos: int | None, token: int, origin: str
) -> None:
    model = loaded(tiny("llama", bos_token_id=config_bos), without_bos(**names), bos="add")
    assert model.encode(" ").ids == (token, 4)
    assert origin in model.position0


def test_nothing_to_add_is_an_error_at_load() -> None:
    with pytest.raises(LoadError, match=r"neither the tokenizer nor the model names a BOS"):
        loaded(tiny("llama", bos_token_id=None), without_bos(), bos="add")


def test_prefix_of_several_tokens_is_kept_once(hf: Any) -> None:
    tokenizer = without_bos(bos_token="<s>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="</s> <s> $A", special_tokens=[("</s>", 2), ("<s>", 1)]
    )
    assert loaded(hf, tokenizer).encode(" ").ids == (2, 1, 4)
    assert loaded(hf, tokenizer, bos="add").encode(" ").ids == (2, 1, 4)
    assert loaded(hf, tokenizer, bos="none").encode(" ").ids == (4,)


def test_unknown_policy(hf: Any) -> None:
    with pytest.raises(UsageError, match=r"one of auto, add, none, not 'maybe'"):
        loaded(hf, tiny_tokenizer(), bos="maybe")


def test_chat_template_is_one_user_turn(hf: Any) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_BOS
    model = loaded(hf, tokenizer, chat=True)
    assert model.encode("the cat").tokens == ("<s>", "the", " ", "cat", "</s>")
    assert model.position0 == "'<s>' (id 1, the chat template's first token, --bos auto)"
    assert loaded(hf, tokenizer, chat=True, bos="add").encode("the").tokens == ("<s>", "the", "</s>")
    assert loaded(hf, tokenizer, chat=True, bos="none").encode("the").tokens == ("the", "</s>")


def test_turn_marker_that_is_the_bos_token_stays(hf: Any) -> None:
    """SmolLM2's way: every turn opens with the BOS token. Taking the first away would break the template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT
    for bos in ("auto", "add", "none"):
        ids = loaded(hf, tokenizer, chat=True, bos=bos).encode("the").ids
        assert ids[0] == 1 and ids[1] != 1 and ids.count(1) == 2


def test_chat_without_a_template(hf: Any) -> None:
    with pytest.raises(LoadError, match=r"this tokenizer has none"):
        loaded(hf, tiny_tokenizer(), chat=True)


def test_truncation_cuts_the_end_and_says_so(hf: Any) -> None:
    model = loaded(hf, tiny_tokenizer(), bos="add")
    whole, cut = model.encode("the cat sat"), model.encode("the cat sat", max_length=3)
    assert cut.ids == whole.ids[:3] and cut.ids[0] == 1
    assert cut.truncated and not whole.truncated
    assert not model.encode("the cat sat", max_length=len(whole)).truncated


def test_prompts_that_cannot_be_fed(hf: Any) -> None:
    model = loaded(hf, tiny_tokenizer(), bos="none")
    with pytest.raises(UsageError, match=r"prompt 'p3' is empty"):
        model.encode("", name="p3")
    with pytest.raises(UsageError, match=r"max_length must be at least 1, not 0"):
        model.encode("the", max_length=0)
    with pytest.raises(UsageError, match=r"has 300 tokens, .* takes 256"):
        model.encode(" " * 300)
    assert len(model.encode(" " * 300, max_length=256)) == 256
    with pytest.raises(LoadError, match=r"holds token id 4, but .* has 4 embeddings"):
        loaded(tiny("llama", vocab_size=4), tiny_tokenizer(), bos="none").encode(" ")


def test_no_limit_where_the_config_states_none() -> None:
    model = loaded(tiny("bloom"), tiny_tokenizer())
    assert model.max_positions is None
    assert len(model.encode(" " * 600)) == 601


def test_without_a_tokenizer(hf: Any) -> None:
    model = load(hf, check=False)
    assert model.position0 == "the first id given (no tokenizer)"
    assert model.decode_tokens([5]) == ("<id 5>",)
    with pytest.raises(LoadError, match=r"without a tokenizer"):
        model.encode("x")
    with pytest.raises(LoadError, match=r"need a tokenizer"):
        load(hf, bos="add", check=False)
