"""What a sweep is asked for: every key known, lists that are crossed told apart from lists that are values."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from interp.errors import UsageError
from interp.sweeps import spec as specs
from interp.sweeps.run import units_of
from interp.sweeps.sizing import Need
from interp.sweeps.spec import read
from interp.sweeps.units import SweepUnit, expand
from interp.sweeps.work import Task, Worker


def units(**given: Any) -> tuple[SweepUnit, ...]:
    return expand(read({"models": ["smollm2-135m"], "finders": ["sinks"], **given}))


def test_everything_is_crossed_models_outermost() -> None:
    made = units(
        models=["smollm2-135m", {"name": "gemma3-270m", "bos": "add", "dtype": "bfloat16"}],
        finders=[
            {"name": "sinks", "grid": {"draw": [1, 2], "cosine": [0.5]}},
            {"name": "heads", "probes": ["repeated"]},
        ],
        probes=["text", {"name": "needle", "grid": {"lengths": [[512], [1024]]}}],
        limit=3,
        grid={"max_length": [64, 128]},
    )  # fmt: skip
    assert len(made) == 2 * 2 * (2 * (1 + 2) + 1)
    assert [unit.model for unit in made] == ["smollm2-135m"] * 14 + ["gemma3-270m"] * 14
    assert {unit.source for unit in made if unit.finder == "heads"} == {"repeated"}
    first, last = made[0], made[-1]
    assert first.arguments["config"] == {"draw": 1, "cosine": 0.5} and first.arguments["find"] == "sinks"
    assert (first.arguments["probe"], first.arguments["limit"], first.arguments["max_length"]) == ("text", 3, 64)
    assert first.load == {} and last.load == {"bos": "add", "dtype": "bfloat16"}
    assert last.effect["max_length"] == 128 and last.effect["limit"] == 3
    assert len({unit.id for unit in made}) == len({unit.folder for unit in made}) == 28


def test_a_list_under_set_is_one_value_and_in_a_grid_it_is_one_of_several() -> None:
    def lengths(**needle: Any) -> list[Any]:
        made = units(finders=["retrieval-heads"], probes=[{"name": "needle", **needle}])
        return [unit.effect["probe_set"]["lengths"] for unit in made]

    assert lengths(set={"lengths": [512, 1024]}) == [[512, 1024]]
    assert lengths(grid={"lengths": [[512, 1024], [2048]]}) == [[512, 1024], [2048]]


def test_the_same_request_has_the_same_id_however_it_is_written() -> None:
    (number,), (text,) = (units(finders=[{"name": "sinks", "set": {"cosine": value}}]) for value in (0.5, "0.5"))
    assert number == text
    (named,) = units(finders=[{"name": "sinks", "set": {"cosine": 0.5}}], probes=["text"], max_length=512, seed=0)
    assert named.id == number.id  # the finder's own probe and length, by name
    (other,) = units(finders=[{"name": "sinks", "set": {"cosine": 0.6}}])
    assert other.id != number.id


def test_a_prompts_file_counts_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    ids = []
    for text in ("the cat", "the dog", "the cat"):
        file.write_text(f'{{"text": "{text}"}}\n')
        (unit,) = units(probes=[{"prompts": str(file)}])
        ids.append(unit.id)
    assert ids[0] == ids[2] != ids[1]


def test_a_prompts_file_that_changes_meanwhile_fails_its_unit(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"text": "the cat"}\n')
    (unit,) = units(probes=[{"prompts": str(file)}])
    task = json.loads(json.dumps(Task(unit, tmp_path / "run", "", Need(None)).payload))
    file.write_text('{"text": "the dog"}\n')
    outcome = Worker().run(task)
    assert outcome.kind == "failed" and outcome.message.startswith(f"{file} has changed since the sweep began")
    file.unlink()
    outcome = Worker().run(task)
    assert outcome.kind == "failed" and f"{file}: cannot be read any more (No such file" in outcome.message
    assert not (tmp_path / "run").exists()


def test_the_engine_of_attention_goes_to_the_scan() -> None:
    (plain,), (auto,), (fused,) = (
        units(**given) for given in ({}, *({"attention_engine": e} for e in ("auto", "fused")))
    )
    assert plain == auto and fused.id != plain.id
    assert fused.arguments["engine"] == "fused" and "engine" not in plain.arguments and fused.load == {}


def test_folders_are_called_by_their_last_part_and_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run/checkpoint-1", "run/checkpoint-2", "other/checkpoint-1"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    made = units(models=["run/checkpoint-1", "./run/checkpoint-2"])
    assert [unit.model for unit in made] == ["checkpoint-1", "checkpoint-2"]
    assert made[0].name == str(tmp_path / "run" / "checkpoint-1")
    with pytest.raises(UsageError, match=r"two models would be called 'checkpoint-1'; give each a label"):
        units(models=["run/checkpoint-1", "other/checkpoint-1"])
    labelled = units(models=["run/checkpoint-1", {"name": "other/checkpoint-1", "label": "../../evil name"}])
    assert labelled[1].model == "../../evil name"
    assert labelled[1].folder == f"sinks-evil-name-{labelled[1].id}"


def test_one_model_under_several_options_is_told_apart() -> None:
    made = units(models=["smollm2-135m", {"name": "smollm2-135m", "bos": "add"}])
    assert [unit.model for unit in made] == ["smollm2-135m", "smollm2-135m (bos=add)"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"modles": ["x"]}, r"unknown key 'modles'. Did you mean models"),
    ({"models": []}, r"models: name one or more"),
    ({"models": ["smollm2-135n"]}, r"'smollm2-135n' is neither .* \(did you mean smollm2-135m"),
    ({"models": [{"name": "smollm2-135m", "boss": "add"}]}, r"models\[0\]: unknown key 'boss'. Did you mean bos"),
    ({"models": [{"name": 7}]}, r"models\[0\]: name: expected text, got 7"),
    ({"models": [{"name": "a/b", "trust_remote_code": True}]}, r"trust_remote_code lets a model run code"),
    ({"allow_pickle": True}, r"allow_pickle lets a model run code of its own; .* give --allow-pickle"),
    ({"finders": ["sink"]}, r"unknown finder 'sink'. Did you mean sinks"),
    ({"finders": [{"name": "sinks", "sets": {}}]}, r"finders\[0\]: unknown key 'sets'. Did you mean set"),
    ({"finders": [{"name": "sinks", "set": {"cosin": 1}}]}, r"unknown setting of finder sinks"),
    ({"finders": [{"name": "sinks", "set": {"cosine": "much"}}]}, r"cosine=much: expected a number"),
    ({"finders": [{"name": "sinks", "set": [1]}]}, r"finders\[0\]: set: expected key: value pairs, got \[1\]"),
    ({"finders": [{"name": "sinks", "grid": {"draw": 2}}]}, r"grid: draw: expected a list of values to cross, got 2"),
    ({"finders": [{"name": "sinks", "grid": {"draw": []}}]}, r"grid: draw: expected a list of values to cross"),
    ({"finders": [{"name": "sinks", "set": {"draw": 1}, "grid": {"draw": [2]}}]}, r"draw is given as one"),
    ({"finders": [{"name": "sinks", "grid": {"cosine": [0.5, "0.50"]}}]}, r"asks for the same thing twice"),
    ({"finders": ["circuit"], "probes": ["text"]}, r"smollm2-135m, circuit, text: "),
    ({"probes": ["txt"]}, r"unknown probe 'txt'. Did you mean text"),
    ({"probes": [{"name": "text", "prompts": "x"}]}, r"probes\[0\]: give either the name of a probe or prompts"),
    ({"probes": [{"prompts": "nowhere.jsonl"}]}, r"nowhere.jsonl"),
    ({"limit": "two"}, r"limit: expected a whole number, got 'two'"),
    ({"limit": 10**30}, r"limit: expected a whole number of at most 9,223,372,036,854,775,807, got 10000"),
    ({"grid": {"seed": [2**70]}}, r"seed: expected a whole number of at most"),
    ({"models": ["./train/chekpoint-3"]}, r"'./train/chekpoint-3': no such folder or file here \(/"),
    ({"models": ["train/run/chekpoint-3"]}, r"no such folder or file here"),
    ({"models": ["nowhere.gguf"]}, r"no such folder or file here"),
    ({"models": [{"name": "smollm2-135m", "device_map": {"": date(2024, 1, 1)}}]}, r"device_map: expected auto"),
    ({"models": [{"name": "smollm2-135m", "device_map": {1: 0}}]}, r"device_map: expected auto, or a mapping"),
    ({"attention_engine": "fast"}, r"attention_engine: expected one of auto, blocked, fused, got 'fast'"),
    ({"grid": {"attention_engine": ["fused"]}}, r"grid: unknown key 'attention_engine'"),
    ({"limit": True}, r"limit: expected a whole number, got True"),
    ({"limit": 0}, r"--limit 0: at least 1 prompt"),
    ({"dtype": "float8"}, r"dtype: expected one of float32, bfloat16, float16, auto, got 'float8'"),
    ({"device": "gpu"}, r"device: expected auto, cpu, cuda\[:i\] or mps, got 'gpu'"),
    ({"grid": {"models": ["a"]}}, r"grid: unknown key 'models'"),
    ({"grid": {"bos": ["maybe"]}}, r"bos: expected one of auto, add, none, got 'maybe'"),
    ({"limit": 1, "grid": {"limit": [1, 2]}}, r"limit is given as one value and crossed"),
    ({"models": [{"name": "smollm2-135m", "bos": "add"}], "grid": {"bos": ["none"]}}, r"bos is given as one"),
    ({"grid": {"seed": list(range(200)), "limit": list(range(1, 201))}}, r"crosses to 40,000 units"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "told"), BAD, ids=lambda part: str(part)[:60])
def test_what_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        units(**given)


YAML = """
models: smollm2-135m
finders:
  - name: sinks
    grid: {cosine: [0.3, 1e-1]}
limit: 2
"""


def test_a_file_says_the_same_as_a_dict(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(YAML)
    finder = {"name": "sinks", "grid": {"cosine": [0.3, 0.1]}}
    as_dict = {"models": ["smollm2-135m"], "finders": [finder], "limit": 2}
    assert units_of(path, {}) == units_of(as_dict, {}) == units_of(None, {}, **as_dict)
    with pytest.raises(UsageError, match="got both"):
        units_of(path, {}, limit=3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (YAML + "limit: 3\n", r"line 2: the key 'limit' is given twice"),
        ("models: [a\n", r"is not YAML"),
        ("- a\n", r"holds list"),
        ("", r"holds nothing"),
        ("models: !!python/object/apply:os.system [true]\n", r"is not YAML"),
        ("a: 2024-13-01\n", r"is not YAML"),
        ("a: &x [1]\nb: [*x, *x]\n", r"unknown key 'a'"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        units_of(path, {})


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none.yaml: No such file"):
        units_of(tmp_path / "none.yaml", {})


def test_every_key_of_an_entry_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text("utf-8")
    for key in {*specs.KEYS, *specs.MODEL_KEYS, *specs.FINDER_KEYS, *specs.PROBE_KEYS}:
        assert f"`{key}`" in page, key


def test_the_documented_file_is_what_is_said_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text("utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "train" / "checkpoint-100").mkdir(parents=True)
    (tmp_path / "sweep.yaml").write_text(block)
    monkeypatch.chdir(tmp_path)
    made = units_of("sweep.yaml", {})
    counts = Counter(unit.finder for unit in made)
    for finder, count in {"heads": 6, "sinks": 12, "retrieval-heads": 12}.items():
        assert counts[finder] == count and f"{count} of `{finder}`".replace("6 of", "6 units of") in page
    assert {unit.model for unit in made} == {"smollm2-135m", "gemma3-270m", "step 100"}


def test_checking_a_sweep_imports_no_torch() -> None:
    code = (
        "import sys\nfrom interp.sweeps.run import units_of\nfrom interp.errors import UsageError\n"
        "try:\n    units_of(None, {}, models=['smollm2-135n'], finders=['sinks'])\n"
        "except UsageError:\n    print([name for name in ('torch', 'transformers', 'ray') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
