"""--generate: greedy, ended by end-of-text, stored, resumed, and scanned behind its prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.errors import NumbersError, UsageError
from interp.models.load import load
from interp.models.model import Model
from interp.runs import generate
from interp.runs.estimate import estimate
from probes.base import Prompt
from tests.mass_finder import MassFinder, registered
from tests.tiny import ARCHS, tiny, tiny_tokenizer
from tests.unit.runs.conftest import TEXTS, scan_tiny

IDS = (1, 5, 9, 12, 40, 7, 33)


def plain_loop(hf: Any, ids: tuple[int, ...], length: int) -> list[int]:
    """Greedy decoding that feeds everything again at each step."""
    sequence = list(ids)
    for _ in range(length):
        with torch.no_grad():
            sequence.append(int(hf(torch.tensor([sequence]), use_cache=False).logits[0, -1].argmax()))
    return sequence[len(ids) :]


def bare(arch: str = "llama", **config: Any) -> Model:
    return load(tiny(arch, **config), check=False)


def given(ids: tuple[int, ...] = IDS, name: str = "ids") -> Prompt:
    return Prompt(name, "", ids, tuple(f"<{i}>" for i in ids))


@pytest.mark.parametrize("arch", ARCHS)
def test_greedy_equals_a_loop_without_cache(arch: str) -> None:
    model = bare(arch)
    assert generate.greedy(model, given(), 12, frozenset()) == plain_loop(model.hf, IDS, 12)


def test_end_of_text_stops_and_stays() -> None:
    model = bare()
    whole = plain_loop(model.hf, IDS, 12)
    last = whole[6]
    first = whole.index(last)
    assert generate.greedy(model, given(), 12, frozenset({last})) == whole[: first + 1]


def test_end_of_text_is_read_from_wherever_it_is_named() -> None:
    model = load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)
    model.hf.generation_config.eos_token_id = [7, 8]
    model.hf.config.eos_token_id = 9
    assert model.tokenizer is not None
    assert generate.stop_ids(model) == {7, 8, 9, model.tokenizer.eos_token_id}
    silent = bare(eos_token_id=None)
    silent.hf.generation_config.eos_token_id = None
    assert generate.stop_ids(silent) == frozenset()


def test_sampling_settings_of_the_model_do_not_matter() -> None:
    model = bare()
    before = generate.greedy(model, given(), 8, frozenset())
    settings = model.hf.generation_config
    settings.do_sample, settings.temperature, settings.repetition_penalty = True, 5.0, 3.0
    assert generate.greedy(model, given(), 8, frozenset()) == before


def test_broken_weights_are_told() -> None:
    model = bare()
    with torch.no_grad():
        model.hf.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(NumbersError, match="prompt 'ids': the model's logits are not finite after 0 generated tokens"):
        generate.greedy(model, given(), 3, frozenset())


def test_prompt_and_response_are_one_prompt(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    result = scan_tiny(folder, tmp_path / "run", generate=9)
    model = load(folder, check=False)
    assert model.tokenizer is not None
    for (name, text), prompt in zip(TEXTS.items(), result.prompts, strict=True):
        before = model.encode(text, name=name)
        response = generate.greedy(model, before, 9, generate.stop_ids(model))
        assert prompt.name == name and prompt.ids == (*before.ids, *response)
        assert prompt.tokens == model.decode_tokens(prompt.ids)
        assert prompt.text == text + model.tokenizer.decode(response)
        stopped = "eos" if response[-1] == 2 else "length"
        assert prompt.extra == {"prompt_tokens": len(before), "generated": len(response), "stopped": stopped}
    assert result.findings.summary["tokens"] == [len(prompt) for prompt in result.prompts]
    assert result.provenance["given"]["generate"] == result.provenance["effect"]["generate"] == 9
    assert [one["tokens"] for one in result.provenance["prompts"]] == [len(prompt) for prompt in result.prompts]
    assert result.provenance["units"]["measured"] == {"generate": 3, "measure": 3, "check": 3}
    assert interp.open_run(tmp_path / "run").prompts == result.prompts


def test_the_page_says_where_the_response_begins(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    result = scan_tiny(folder, tmp_path / "run", generate=5, texts={"one": TEXTS["one"]})
    (prompt,) = result.prompts
    begins, made = prompt.extra["prompt_tokens"], prompt.extra["generated"]
    told = f"{made} of {len(prompt)} tokens of each prompt are the model's own continuation (greedy)"
    assert any(told in one and f"from position {begins} on" in one for one in result.findings.caveats)
    (sheet,) = result.findings.sheets
    assert sheet.rows == (("one", begins, made, prompt.extra["stopped"], "".join(prompt.tokens[begins:])),)
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "the model&#x27;s own continuation" in page or "the model's own continuation" in page
    assert "What the model wrote" in page


def test_a_cut_prompt_is_continued_where_it_was_cut(folder: str, finder: MassFinder, tmp_path: Path) -> None:
    (prompt,) = scan_tiny(folder, tmp_path / "run", generate=4, max_length=5, texts=[TEXTS["two"]]).prompts
    assert prompt.truncated and prompt.extra["prompt_tokens"] == 5
    assert prompt.text == "a red " + "".join(prompt.tokens[5:])


def test_ready_prompts_need_no_tokenizer(finder: MassFinder, tmp_path: Path) -> None:
    prompts = [given(), given((1, 6), "two")]
    result = scan_tiny(tiny("gpt2"), tmp_path / "run", texts=None, prompts=prompts, generate=6)
    model = bare("gpt2")
    for before, after in zip(prompts, result.prompts, strict=True):
        response = generate.greedy(model, before, 6, frozenset({2}))
        assert after.ids == (*before.ids, *response)
        assert after.tokens == (*before.tokens, *model.decode_tokens(response))
        assert after.text == "".join(model.decode_tokens(response))


def counted(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """Names of the prompts that `greedy` was really called for; Ctrl-C at call `stop_at`."""
    calls: list[str] = []
    real = generate.greedy

    def counting(model: Any, prompt: Prompt, *rest: Any) -> list[int]:
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        calls.append(prompt.name)
        return real(model, prompt, *rest)

    monkeypatch.setattr(generate, "greedy", counting)
    return calls


def test_the_same_call_again_generates_nothing(
    folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scan_tiny(folder, tmp_path / "run", generate=5)
    calls = counted(monkeypatch)
    again = scan_tiny(folder, tmp_path / "run", generate=5)
    assert calls == [] and again.prompts == first.prompts
    assert again.provenance["units"] == {"measured": {}, "on_disk": {"generate": 3, "measure": 3, "check": 3}}


@pytest.mark.parametrize("left", ["interrupted", "running"])
def test_stopped_while_generating_it_goes_on_there(
    folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    whole = scan_tiny(folder, tmp_path / "whole", generate=5)
    with monkeypatch.context() as patched:
        assert counted(patched, stop_at=2) == []
        with pytest.raises(KeyboardInterrupt):
            scan_tiny(folder, tmp_path / "run", generate=5)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["status"] == "interrupted" and len(list((tmp_path / "run/units").iterdir())) == 2
    (tmp_path / "run/run.json").write_text(json.dumps({**record, "status": left}))  # running: what kill -9 leaves
    calls = counted(monkeypatch)
    result = scan_tiny(folder, tmp_path / "run", generate=5)
    assert calls == ["three"] and result.prompts == whole.prompts


def test_a_damaged_response_is_made_again(
    folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scan_tiny(folder, tmp_path / "run", generate=5, texts=[TEXTS["one"]])
    for unit in (tmp_path / "run/units").iterdir():
        unit.write_bytes(unit.read_bytes()[:-3])
    calls = counted(monkeypatch)
    assert scan_tiny(folder, tmp_path / "run", generate=5, texts=[TEXTS["one"]]).prompts == first.prompts
    assert calls == ["text"]


def test_it_is_another_run(folder: str, finder: MassFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {scan_tiny(folder, None, generate=n).folder for n in (None, 4, 5)}
    assert len(folders) == 3
    scan_tiny(folder, tmp_path / "run", generate=4)
    for other, told in ((None, "other generate: 4 there, None here"), (5, "other generate: 4 there, 5 here")):
        with pytest.raises(UsageError, match=told):
            scan_tiny(folder, tmp_path / "run", generate=other)
    scan_tiny(folder, tmp_path / "plain")
    with pytest.raises(UsageError, match="other generate: None there, 4 here"):
        scan_tiny(folder, tmp_path / "plain", generate=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generate": 0}, "--generate 0: at least 1 token is needed"),
        ({"generate": -3}, "--generate -3"),
        (
            {"generate": 250},
            r"--generate 250: prompt 'one' has 13 tokens, 263 with the response, and .* takes 256; "
            r"use --generate 243 or less or --max-length 6 or less",
        ),
        ({"generate": 256}, "takes 256; use --generate 243 or less$"),
        ({"generate": 2, "texts": ["the cat " * 200]}, "has 256 tokens, 258 .*; use --max-length 254 or less$"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    folder: str, finder: MassFinder, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        scan_tiny(folder, tmp_path / "run", **options)
    with pytest.raises(UsageError, match=message):
        estimate(folder, find="mass", **{"texts": TEXTS, **options})
    assert finder.calls == [] and not (tmp_path / "run").exists()


def test_a_model_without_a_limit_takes_any_length() -> None:
    generate.require_room(bare("bloom"), [given()], 10**6)


def test_dry_run_counts_it(folder: str, finder: MassFinder) -> None:
    without, with_it = (estimate(folder, find="mass", texts=TEXTS, generate=n) for n in (None, 100))
    assert [b[1] - a[1] for a, b in zip(without.prompts, with_it.prompts, strict=True)] == [100] * 3
    assert with_it.peak_bytes > without.peak_bytes and with_it.seconds > without.seconds
    assert (without.as_dict()["generate"], with_it.as_dict()["generate"]) == (None, 100)
    assert "up to 100 of each the model's own continuation" in dict(with_it.lines())["prompts"]
    assert "own" not in dict(without.lines())["prompts"]


def test_on_the_command_line(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from interp.cli import run

    monkeypatch.chdir(tmp_path)
    command = ["scan", "--model", folder, "--find", "mass", "--text", "the cat sat", "--out", "run"]
    with registered():
        assert run([*command, "--generate", "0"]) == 2
        assert "--generate 0: at least 1 token" in capsys.readouterr().err
        assert run([*command, "--generate", "some"]) == 2
        assert "--generate" in capsys.readouterr().err
        assert run([*command, "--generate", "300", "--quiet"]) == 2
        assert "takes 256; use --generate" in capsys.readouterr().err
        assert not Path("run").exists()
        assert run([*command, "--generate", "4"]) == 0
    captured = capsys.readouterr()
    assert "generating: 1 prompt\n" in captured.err and "the model's own continuation" in captured.out
    assert json.loads(Path("run/run.json").read_text())["provenance"]["effect"]["generate"] == 4


@pytest.mark.smollm2
def test_smollm2_writes_a_response_under_its_chat_template(smollm2: Model, tmp_path: Path) -> None:
    assert smollm2.tokenizer is not None
    chat = load(smollm2.hf, tokenizer=smollm2.tokenizer, chat=True, check=False)
    before = chat.encode("What is 2 + 2?")
    stops = generate.stop_ids(chat)
    response = generate.greedy(chat, before, 24, stops)
    assert response == plain_loop(chat.hf, before.ids, len(response))
    assert smollm2.tokenizer.convert_tokens_to_ids("<|im_end|>") in stops
    after = generate.extended(chat, before, response, "length")
    assert "4" in generate.written(chat, response, after.tokens[len(before) :])
    assert after.text.startswith("What is 2 + 2?\n\n")


def test_a_chat_prompt_that_was_cut_is_told() -> None:
    extra = {"prompt_tokens": 3, "generated": 2, "stopped": "eos"}
    whole, cut = (Prompt("x", "", (1, 2, 3, 4, 5), ("a",) * 5, truncated=t, extra=extra) for t in (False, True))
    said = "2 of 5 tokens of each prompt are the model's own continuation (greedy), from position 3 on; it ended"
    assert generate.caveats([whole, cut], chat=False) == [f"{said} 2 of 2 itself."]
    turn = "1 prompts were cut before the chat template's end: there the model went on with the user's turn."
    assert generate.caveats([whole, cut], chat=True) == [f"{said} 2 of 2 itself.", turn]
    other = Prompt("y", "", (1, 2), ("a", "b"))
    assert "of 1 of 2 prompts are" in generate.caveats([whole, other], chat=True)[0]
