"""From the command line to needles: a finder's own probe and length, --probe-set, own material, dry runs, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.cli import run
from interp.errors import UsageError
from interp.finders.base import Effort
from interp.registry import FINDERS
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.effort import QUESTION, effort
from interp.retrieval.plain_text import LENGTH
from interp.retrieval.task import has_task, task_of
from interp.runs.estimate import estimate
from interp.runs.plan import plan
from probes.base import Prompt
from tests.mass_finder import MassFinder
from tests.retrieval_units import chance, made
from tests.tiny import tiny, tiny_tokenizer

LINE = {"context": "The dog ran. The cat sat on the blue mat.", "answer": "on the blue mat", "question": "the cat?"}
SMALL = {"lengths": "200", "depths": "0.5", "needles": "2", "form": "bare"}


@dataclass
class NeedleFinder(MassFinder):
    """The test finder, as one that works on needles."""

    probe: str = "needle"
    max_length: int = 210
    decodes: int = 1000

    def needs(self, prompt: Prompt) -> None:
        task_of(prompt)

    def effort(self, config: Any, prompts: Sequence[Prompt], shape: tuple[int, int]) -> Effort:
        return Effort(2.0, self.decodes)


@pytest.fixture
def finder() -> Iterator[NeedleFinder]:
    made = NeedleFinder()
    FINDERS._targets["mass"] = made
    yield made
    del FINDERS._targets["mass"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny("llama", max_position_embeddings=2048).save_pretrained(path)
    tiny_tokenizer(128).save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    return code, captured.out, captured.err


def _written(*lines: Any) -> str:
    Path("mine.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return "mine.jsonl"


def test_a_finder_brings_its_probe_and_length(finder: NeedleFinder, folder: str, tmp_path: Path) -> None:
    result = interp.scan(folder, "mass", probe_set=SMALL, out=tmp_path / "run", progress=False, seed=3)
    assert all(has_task(prompt) and 196 <= len(prompt) <= 200 for prompt in result.prompts) and len(result.prompts) == 2
    given, effect = (result.provenance[name] for name in ("given", "effect"))
    assert given["probe_set"] == SMALL and "max_length" not in given
    assert effect["max_length"] == 210 and effect["source"] == "probe needle"
    assert effect["probe_set"] == {
        "lengths": [200],
        "depths": [0.5],
        "needles": 2,
        "distractors": False,
        "form": "bare",
        "max_new_tokens": 50,
    }
    other = interp.scan(folder, "mass", probe_set={**SMALL, "needles": "1"}, progress=False, seed=3)
    again = interp.scan(folder, "mass", probe_set=SMALL, progress=False, seed=3)
    assert other.folder != again.folder, "settings of the probe settle the prompts, and they the run"
    assert again.provenance["key"] == result.provenance["key"] != other.provenance["key"]


def test_other_finders_keep_theirs() -> None:
    made = plan("sinks")
    assert made.max_length == 512 and made.source.told == "probe text" and "max_length" not in made.given
    assert plan("sinks", max_length=512).given["max_length"] == 512
    assert plan("sinks", probe="needle").source.settings["needles"] == 3
    assert plan("sinks", max_length=None, limit=2, seed=1, probe="random").max_length == 512


def test_what_carries_no_needle_is_refused_before_a_model_is_loaded() -> None:
    for given in ({"texts": "a"}, {"probe": "random"}, {"probe": "text"}):
        with pytest.raises(UsageError, match="holds no needle; use --probe needle"):
            plan("retrieval-heads", **given)
    assert plan("retrieval-heads").source.told == "probe needle"
    assert plan("heads", texts="a b").source.plain == "text"


def test_default_lengths_that_are_left_out_are_told() -> None:
    model = interp.load(tiny("llama", max_position_embeddings=4096), tokenizer=tiny_tokenizer(128), check=False)
    (prompt,) = plan("retrieval-heads", max_length=500, limit=1, probe_set={"form": "bare"}).prompts(model)
    (note,) = prompt.notes
    assert note.startswith(
        "default lengths of 62, 125 tokens were left out, for needle, question and a little haystack"
    )
    assert note.endswith("used: 250, 500")
    (whole,) = plan("retrieval-heads", max_length=4000, limit=1, probe_set={"form": "bare"}).prompts(model)
    assert whole.notes == []


def test_max_length_can_be_given(finder: NeedleFinder) -> None:
    model = interp.load(tiny("llama", max_position_embeddings=2048), tokenizer=tiny_tokenizer(128), check=False)
    made = plan("mass", max_length=400, probe_set={"form": "bare"}, limit=2)
    assert max(len(prompt) for prompt in made.prompts(model)) > 390
    assert made.length_for(model) == 400


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--probe-set", "lenghts=5"), "unknown setting of probe needle 'lenghts'. Did you mean lengths? Valid keys:"),
        (("--probe-set", "lengths=a"), "--probe-set lengths=a: expected an integer"),
        (("--probe-set", "depths=0,3"), "settings of probe needle: depths=(0.0, 3.0): expected shares from 0 to 1"),
        (("--probe-set", "form=loud"), "--probe-set form=loud: expected one of auto, bare, prefix, chat"),
        (("--probe-set", "name=x"), "unknown setting of probe needle 'name'"),
        (("--probe-set", "needles"), "--probe-set 'needles': expected key=value"),
        (("--probe-set", "needles=1", "--probe-set", "needles=2"), "--probe-set needles: given twice"),
        (("--probe-set", "needles=1", "--text", "the cat"), "--probe-set goes with a probe, and --text is none"),
        (("--probe", "text", "--probe-set", "needles=1"), "unknown setting of probe text 'needles'. Valid keys: none"),
        (("--probe-set", "lengths=999"), "lengths=999: prompts have at most 210 tokens here (--max-length 210)"),
        (("--max-length", "60"), "no haystack fits in 60 tokens"),
        (("--text", "the cat sat on the mat"), "prompt 'text' holds no needle; use --probe needle, or --prompts"),
        (
            ("--prompts", "mine.jsonl", "--probe-set", "lengths=128"),
            "--probe-set lengths: own material (--prompts mine",
        ),
        (("--prompts", "absent.jsonl"), "cannot read absent.jsonl"),
        (("--probe", "random"), "holds no needle"),
    ],
)
def test_refusals(
    finder: NeedleFinder, folder: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    code, out, err = _run(capsys, "scan", "--model", folder, "--find", "mass", "--quiet", *arguments)
    assert code == 2 and told in err and out == ""
    assert finder.calls == [], "refused before anything is measured"
    assert not list(Path().glob("runs/*"))


def test_own_material(finder: NeedleFinder, folder: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    twice = {**LINE, "name": "twice", "context": LINE["context"] + " It sat on the blue mat."}
    path = _written(LINE, twice)
    code, _, err = _run(
        capsys, "scan", "--model", folder, "--find", "mass", "--prompts", path, "--out", "run", "--probe-set",
        "max_new_tokens=8",
    )  # fmt: skip
    assert code == 0, err
    assert "2 prompts from 2 needle prompts (--prompts mine.jsonl)" in err
    result = interp.open_run(tmp_path / "run")
    assert [task_of(prompt).max_new_tokens for prompt in result.prompts] == [8, 8]
    assert [one for one in result.findings.caveats if "stands in the context 2 times" in one] == [
        "Prompt twice: its answer stands in the context 2 times, and copying is scored on the first place alone."
    ]
    assert result.provenance["effect"]["probe_set"]["max_new_tokens"] == 8


def test_own_material_of_another_finder_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"no 'text' in this object \(found 'context'"):
        plan("sinks", prompts=_written(LINE))
    with pytest.raises(UsageError, match="--probe-set goes with a probe, and --prompts is none"):
        plan("sinks", prompts=_written({"text": "a b"}), probe_set={"needles": 1})


def test_own_material_that_is_wrong(finder: NeedleFinder, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line, told in (
        ({"text": "a"}, "mine.jsonl, line 2: no 'context' in this object (found 'text')"),
        ({**LINE, "answer": "under it"}, "mine.jsonl, line 2: 'answer' ('under it') is no part of 'context'"),
        ({**LINE, "context": LINE["context"] * 20}, "mine.jsonl, line 2: prompt"),
    ):
        path = _written(LINE, line)
        code, _, err = _run(capsys, "scan", "--model", folder, "--find", "mass", "--prompts", path)
        assert code == 2 and told in err and finder.calls == []


def test_a_dry_run(finder: NeedleFinder, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "scan", "--model", folder, "--find", "mass", "--dry-run", "--limit", "3")
    assert code == 0 and "prompts: 3 from probe needle" in out
    assert "for 1,000 decoded tokens a prompt" in out
    assert "no form of the question was tried, for the model's weights are not here" in out
    assert finder.calls == [] and list(Path().iterdir()) == []
    told = estimate(folder, find="mass", limit=3)
    assert told.decodes == 1000 and told.as_dict()["decodes"] == 1000
    assert estimate(folder, find="sinks", limit=1).decodes is None


def test_decoded_tokens_take_time(finder: NeedleFinder, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.runs.estimate._speed", lambda *_: 1e9)
    monkeypatch.setattr("interp.runs.estimate._reading", lambda *_: 1e9)
    with_them = estimate(folder, find="mass", limit=2)
    finder.decodes = 0
    without = estimate(folder, find="mass", limit=2)
    assert with_them.seconds - without.seconds == pytest.approx(2 * 1000 * with_them.weights_bytes / 0.5e9)


def test_a_dry_run_asks_the_finder_what_its_settings_cost(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.runs.estimate._speed", lambda *_: 1e9)
    monkeypatch.setattr("interp.runs.estimate._reading", lambda *_: 1e9)

    def told(find: str = "retrieval-heads", **settings: Any) -> Any:
        return estimate(folder, find=find, config=settings, max_length=210, probe_set=SMALL)

    full, no_masks, no_questions = told(), told(ks=(0,)), told(closed_book=0)
    assert full.seconds > no_questions.seconds > no_masks.seconds
    assert no_masks.decodes == 50 and "for 50 decoded tokens a prompt" in no_masks.how
    one = told(at_once=1)
    cache = one.cache_bytes // 3  # what is read, what is remembered, one arm
    assert told(at_once=8).cache_bytes == 10 * cache and no_masks.cache_bytes == 2 * cache
    more = told(at_once=8)  # the process itself is measured, so it may differ between two calls
    assert (more.peak_bytes - more.process_bytes) - (one.peak_bytes - one.process_bytes) == 7 * cache
    assert told(at_once=1, share_prefix=False).cache_bytes == 2 * cache
    shape = 2 * 3 * 2 * 8  # keys and values, layers, key heads, their size
    assert cache == shape * max(tokens for _, tokens in one.prompts) * 4
    assert told(when="both").seconds > full.seconds
    assert told("heads").seconds > told("heads", checked=0).seconds


def test_the_effort_of_masking_by_hand() -> None:
    prompts, _ = made(["a", "b"], chance(2))  # answers of at most 8 tokens
    config = RetrievalConfig(ks=(0, 1, 2), draws=2, at_once=4, random_tokens=10, closed_book=2)
    found = effort(config, prompts)
    assert found.passes == (2 + 1 + 2) / 2  # both, the event, the judging one for its answers and the proof
    assert found.decodes == math.ceil((2 * 8 + 2 * 8 + 3) / 2)  # seven arms in two batches, and the proof's steps
    assert found.caches == 2 + 4
    assert found.tokens == 2 * 2 * 10 + 8 * 256 * 7 + 6 * QUESTION
    assert found.steps == 6 * 8
    more = effort(replace(config, when="both", draws=5), prompts)
    assert more.passes == (2 + 1 + 13 + 4) / 2  # thirteen arms, and two masks there twice
    assert more.tokens == 2 * 2 * 10 + 8 * 256 * 7 + 6 * QUESTION * 7  # two draws on text, all five on questions
    assert more.steps == 6 * 8 * 2
    held = {"reads": 0.0, "maps": 0, "logits": LENGTH, "edits": False}
    assert effort(RetrievalConfig(ks=(0,), random_tokens=0), prompts) == Effort(1.5, 8, 2, **held)


def test_what_can_be_set_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "ls", "probes")
    assert code == 0
    assert "needle --probe-set needles: int = 3" in out and "needle --probe-set form: auto|bare|prefix|chat" in out
    assert "needle --probe-set name" not in out and "text --probe-set" not in out
    listed = {row["probe"]: row for row in json.loads(_run(capsys, "ls", "probes", "--json")[1])}
    assert listed["needle"]["settings"]["depths"] == "float,... = (0.0, 0.25, 0.5, 0.75, 1.0)"
    assert listed["repeated-segment"]["settings"] == {"copies": "int|none = 2"}


@pytest.mark.parametrize(
    ("probe", "setting"), [("problems", "level=9"), ("problems", "kind=x"), ("repeated", "copies=0")]
)
def test_other_probes_refuse_what_means_nothing(
    folder: str, capsys: pytest.CaptureFixture[str], probe: str, setting: str
) -> None:
    code, _, err = _run(capsys, "scan", "--model", folder, "--probe", probe, "--probe-set", setting, "--limit", "1")
    assert code == 2 and setting.partition("=")[0] in err
