"""What every registered finder keeps, by being registered (see `interp.finders.base`)."""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp
from interp.errors import UsageError
from interp.finders.base import Unit, examines, explores
from interp.findings import Findings
from interp.registry import FINDERS
from interp.runs.run import state_of
from interp.runs.settings import as_dict, describe, make_config
from interp.runs.store import RunFolder, canonical, plain
from probes.base import Prompt
from tests.able_pairs import able_pair, able_pairs
from tests.contracts.conftest import Memory, fingerprint
from tests.needles import needle_prompts, shortest

LOOSE: dict[str, dict[str, Any]] = {
    "ablation": {"how": "zero", "heads": ("0.1", "1.0")},
    "circuit": {"share": 0.2, "least": 1, "resamples": 5, "subsets": 1, "points": 1, "controls": 1},
    "repair": {"edit": "scale", "heads": ("0.1", "1.0"), "metric": "choice", "factors": (0.0, 2.0)},
    "sinks": {"floor": 0.0, "multiple": 1.0, "norm": 0.0, "cosine": 0.2},
    "sink-formation": {"floor": 0.0, "multiple": 1.0, "norm": 0.0, "cosine": 0.2, "carried": 1.0},
    "primary-weakening": {"floor": 0.0, "multiple": 1.0, "norm": 0.0, "cosine": 0.2, "of": "any"},
    "sink-norm-law": {"floor": 0.0, "multiple": 1.0, "norm": 0.0, "cosine": 0.2, "sweep": (0.0, 1.0, 2.0)},
    "massive-activations": {"size": 0.0, "ratio": 4.0, "most": 3},
    "sink-neighbourhood": {"floor": 0.0, "multiple": 1.0, "norm": 0.0, "cosine": 0.2},
    "sink-rate": {"eps": 0.02},
    "heads": {"length": 8, "induction": 0.11, "previous": 0.15, "duplicate": 0.14, "copy": 0.2, "sink": 0.15},
    "probe": {"margin": -2.0, "strengths": (0.1,), "draws": 2},
    "retrieval-heads": {"threshold": 0.005, "ks": (0, 1, 2), "draws": 2, "random_tokens": 8, "closed_book": 0},
}
"""Settings under which random weights give a finding, so that the later phases have something to work on."""

TEXT = "the cat sat on the mat and the dog ran to it. a red dog and a blue cat sat in it, and it was red. "


def text_prompts(model: interp.Model) -> tuple[Prompt, ...]:
    texts = {"first": TEXT, "second": "it was " + TEXT, "cut": TEXT * 3}
    return tuple(model.encode(text, name=name, max_length=90) for name, text in texts.items())


def two_tokens(model: interp.Model) -> Prompt:
    return Prompt("short", "", (1, 5), model.decode_tokens((1, 5)))


def pair_prompts(model: interp.Model) -> tuple[Prompt, ...]:
    first, second, cut = able_pairs(model, 3, lengths=(10, 12))
    renamed = zip((first, second, cut), ("first", "second", "cut"), strict=True)
    return tuple(dataclasses.replace(prompt, name=name, truncated=name == "cut") for prompt, name in renamed)


def shortest_pair(model: interp.Model) -> Prompt:
    """The first two tokens whose twin the model answers otherwise."""
    made = (able_pair(model, (1, 5), (1, other), "short") for other in range(6, 100))
    return next(prompt for prompt in made if prompt is not None)


KINDS: tuple[tuple[Callable[[Any], tuple[Prompt, ...]], Callable[[Any], Prompt]], ...] = (
    (text_prompts, two_tokens),
    (pair_prompts, shortest_pair),
    (needle_prompts, shortest),
)
"""By kind of prompt: (model) -> three prompts, the last of them cut; (model) -> the shortest one."""


def prompts_for(finder: Any, model: interp.Model, config: Any) -> tuple[tuple[Prompt, ...], Prompt]:
    """Three prompts and the shortest, of the first kind that has all that the finder needs."""
    refused = []
    for several, short in KINDS:
        prompts = several(model)
        try:
            for prompt in prompts:
                getattr(finder, "needs", lambda prompt: None)(prompt)
                getattr(finder, "suits", lambda prompt, config: None)(prompt, config)
        except UsageError as error:
            refused.append(str(error))
        else:
            return prompts, short(model)
    raise LookupError(f"{finder.name} takes none of the contract's prompts; add a kind: {refused}")


@pytest.fixture(params=FINDERS.names())
def finder(request: pytest.FixtureRequest) -> Any:
    made = FINDERS.get(request.param)
    assert made.name == request.param
    return made


@pytest.fixture
def config(finder: Any) -> Any:
    return make_config(finder.config_type, LOOSE.get(finder.name, {}), finder.name)


@pytest.fixture
def prompts(finder: Any, config: Any, model: interp.Model) -> tuple[Prompt, ...]:
    return prompts_for(finder, model, config)[0]


def _units(finder: Any, model: interp.Model, prompts: tuple[Prompt, ...], config: Any) -> list[Unit]:
    return [finder.measure(model, prompt, config) for prompt in prompts]


def _find(finder: Any, model: interp.Model, prompts: tuple[Prompt, ...], config: Any) -> Findings:
    units = _units(finder, model, prompts, config)
    return finder.find(prompts, units, config, model.facts(), *_explored(finder, model, prompts, units, config))


def _explored(finder: Any, model: interp.Model, prompts: tuple[Prompt, ...], units: list[Unit], config: Any) -> Any:
    """What `find` gets beside the units: nothing, or what was explored."""
    return [finder.explore(model, prompts, units, config, Memory())] if explores(finder) else []


def _conclude(finder: Any, model: interp.Model, prompts: tuple[Prompt, ...], findings: Findings, config: Any) -> Any:
    checks = [finder.check(model, prompt, index, findings, config) for index, prompt in enumerate(prompts)]
    more = [finder.examine(model, findings, config)] if examines(finder) else []
    return finder.conclude(findings, checks, config, *more)


def _same_unit(left: Unit, right: Unit) -> None:
    assert left.arrays.keys() == right.arrays.keys()
    for name, array in left.arrays.items():
        np.testing.assert_array_equal(array, right.arrays[name])
    assert canonical(left.facts) == canonical(right.facts)


def test_its_module_reads_like_a_method_section(finder: Any) -> None:
    """Title, citation, numbered steps (STYLE: how a finder should look)."""
    told = sys.modules[type(finder).__module__].__doc__ or ""
    assert told.strip().splitlines()[0].endswith(".")
    assert re.search(r"arXiv|doi", told)
    steps = re.findall(r"^(\d+)\.", told, re.MULTILINE)
    assert len(steps) >= 3 and steps == [str(number) for number in range(1, len(steps) + 1)]


def test_its_config_is_frozen_and_can_be_given_as_text(finder: Any) -> None:
    default = finder.config_type()
    assert dataclasses.is_dataclass(default)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(default, dataclasses.fields(default)[0].name, None)
    assert describe(finder.config_type).keys() == as_dict(default).keys()
    texts = {}
    for name, value in as_dict(default).items():
        texts[name] = ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
    assert make_config(finder.config_type, texts, finder.name) == default


def test_measuring_is_repeatable_storable_and_leaves_the_model_alone(
    finder: Any, config: Any, model: interp.Model, prompts: tuple[Prompt, ...], tmp_path: Path
) -> None:
    before = fingerprint(model.hf)
    first, second = (finder.measure(model, prompts[0], config) for _ in range(2))
    _same_unit(first, second)
    assert fingerprint(model.hf) == before
    folder = RunFolder(tmp_path / "run")
    folder.prepare()
    folder.put("a" * 64, first)
    there, stored = folder.get("a" * 64)
    assert there and stored is not None
    _same_unit(first, stored)


def test_finding_is_a_pure_function_of_stored_units(
    finder: Any, config: Any, model: interp.Model, prompts: tuple[Prompt, ...], tmp_path: Path
) -> None:
    units = _units(finder, model, prompts, config)
    more = _explored(finder, model, prompts, units, config)
    untouched = copy.deepcopy([*units, *more])
    folder = RunFolder(tmp_path / "run")
    folder.prepare()
    stored = [folder.put(str(number) * 64, unit) for number, unit in enumerate(units)]
    fresh = finder.find(prompts, units, config, model.facts(), *more)
    again = finder.find(prompts, stored, config, model.facts(), *more)
    assert state_of(fresh) == state_of(again)
    assert fresh.verdict == again.verdict
    for unit, before in zip([*units, *more], untouched, strict=True):
        _same_unit(unit, before)


@pytest.mark.parametrize("name", [name for name in FINDERS.names() if explores(FINDERS.get(name))])
def test_exploring_is_repeatable_and_goes_on_from_what_is_stored(
    name: str, model: interp.Model, tmp_path: Path
) -> None:
    """All that it measures is kept, piece by piece; broken off anywhere, it ends in the same."""
    explorer = FINDERS.get(name)
    config = make_config(explorer.config_type, LOOSE.get(name, {}), name)
    prompts, _ = prompts_for(explorer, model, config)
    units = _units(explorer, model, prompts, config)
    before, untouched = fingerprint(model.hf), copy.deepcopy(units)
    memory = Memory(RunFolder(tmp_path / "run"))
    first = explorer.explore(model, prompts, units, config, memory)
    assert memory.made == len(memory.keys), "what explore measures goes through kept"
    if not memory.made:  # with these settings it has nothing to explore (ablation: only the means of pairs)
        assert name == "ablation"
        return
    assert memory.phases and all(label and pieces > 0 for label, pieces in memory.phases)
    again = explorer.explore(model, prompts, units, config, memory)
    _same_unit(first, again)
    assert memory.made == len(memory.keys), "a second call measures nothing"
    broken = Memory(most=memory.made // 2)
    with pytest.raises(KeyboardInterrupt):
        explorer.explore(model, prompts, units, config, broken)
    broken.most = None
    _same_unit(explorer.explore(model, prompts, units, config, broken), first)
    assert list(broken.keys) == list(memory.keys) and broken.made == memory.made
    assert fingerprint(model.hf) == before
    for unit, as_before in zip(units, untouched, strict=True):
        _same_unit(unit, as_before)


def test_findings_keep_their_own_schema(
    finder: Any, config: Any, model: interp.Model, prompts: tuple[Prompt, ...]
) -> None:
    findings = _find(finder, model, prompts, config)
    assert findings.finder == finder.name
    assert list(findings.table.columns) == [column.name for column in findings.columns]
    assert {name: str(kind) for name, kind in findings.table.dtypes.items()} == {
        column.name: str(pd.api.types.pandas_dtype(column.dtype)) for column in findings.columns
    }
    for column in findings.columns:
        assert column.label and len(column.help) > 10
    assert findings.verdict.strip() and "\n" not in findings.verdict
    assert not any(name.startswith("report.") for name in findings.arrays)
    canonical(plain(findings.summary))
    if "prompt" in findings.table.columns:
        assert set(findings.table["prompt"]) <= {prompt.name for prompt in prompts}


def test_what_was_cut_is_said(finder: Any, config: Any, model: interp.Model, prompts: tuple[Prompt, ...]) -> None:
    assert prompts[-1].truncated
    cut = _find(finder, model, prompts, config).caveats
    whole = _find(finder, model, prompts[:-1], config).caveats
    pattern = re.compile(r"\bcut\b|truncated")
    assert any(pattern.search(caveat) for caveat in cut)
    assert not any(pattern.search(caveat) for caveat in whole)


def test_checking_changes_neither_findings_nor_model(
    finder: Any, config: Any, model: interp.Model, prompts: tuple[Prompt, ...]
) -> None:
    findings = _find(finder, model, prompts, config)
    before, state = fingerprint(model.hf), state_of(findings)
    for index, prompt in enumerate(prompts):
        first, second = (finder.check(model, prompt, index, findings, config) for _ in range(2))
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            _same_unit(first, second)
    assert (fingerprint(model.hf), state_of(findings)) == (before, state)


def test_few_prompts_verify_nothing(finder: Any, config: Any, model: interp.Model, prompts: tuple[Prompt, ...]) -> None:
    """DESIGN decision 6: below a stated number of prompts there is no verdict, but the effect is shown."""
    findings = _find(finder, model, prompts, config)
    assert len(findings.table) > 0, "give the finder settings in LOOSE under which it finds something"
    concluded = _conclude(finder, model, prompts, findings, config)
    assert concluded.verification is not None
    assert concluded.verification.verdict == "too few to say"
    assert concluded.verification.effect is not None
    assert concluded.verification.how and concluded.verification.metric


def test_a_scan_of_it_can_be_opened_again(
    finder: Any, config: Any, model: interp.Model, prompts: tuple[Prompt, ...], tmp_path: Path
) -> None:
    options = {"find": finder.name, "prompts": prompts, "config": config, "progress": False}
    first = interp.scan(model, out=tmp_path / "run", **options)
    again = interp.open_run(tmp_path / "run")
    pd.testing.assert_frame_equal(again.table, first.table)
    assert again.findings.verification == first.findings.verification
    assert again.findings.summary == first.findings.summary
    assert again.html() == first.html() == (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert again._repr_html_() == first._repr_html_()
    resumed = interp.scan(model, out=tmp_path / "run", **options)
    assert resumed.provenance["units"]["measured"] == {}
    pd.testing.assert_frame_equal(resumed.table, first.table)


def test_the_shortest_prompt_is_no_accident(finder: Any, model: interp.Model) -> None:
    """Two tokens where the finder takes any prompt, default settings: findings or none, but no crash and a sentence."""
    config = finder.config_type()
    prompt = prompts_for(finder, model, config)[1]
    findings = _find(finder, model, (prompt,), config)
    assert _conclude(finder, model, (prompt,), findings, config).verdict.strip()
