"""A planted circuit from end to end: found, named, verified; ablation moves the answer as built, and an edit repairs a
model whose inhibition heads were broken."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interp
from interp.circuits.config import NONE
from interp.errors import UsageError
from interp.models.load import load
from interp.models.model import Model
from tests.planted.circuit import plant
from tests.planted.circuit_cases import SETTINGS, noise_heads, planted
from tests.planted.circuit_plan import Circuit, Head
from tests.planted.circuit_prompts import prompts_of

SEED = 10


def labels(heads: Collection[Head]) -> str:
    """As tables have them."""
    return ", ".join(f"{layer}.{head}" for layer, head in sorted(heads))


@pytest.fixture(scope="module")
def built() -> tuple[Model, Circuit]:
    return planted("llama", SEED)


@pytest.fixture(scope="module")
def run(built: tuple[Model, Circuit], tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("planted") / "circuit"
    return interp.scan(built[0], "circuit", prompts=prompts_of(24), out=out, config=SETTINGS, progress=False)


def test_the_finder_names_every_planted_head_and_no_other(run: Any, built: tuple[Model, Circuit]) -> None:
    _, circuit = built
    told = run.findings.summary
    assert told["circuit"] == [list(head) for head in circuit.heads]
    assert {name: [tuple(one) for one in heads] for name, heads in told["classes"].items()} == circuit.classes
    assert told["backups"] == [list(circuit.backup)]
    assert told["behaviour"]["accuracy"]["mean"] == told["behaviour"]["top1"]["mean"] == 1
    assert all(stage["found_again"] == 1 for stage in told["stages"])
    table = run.table.set_index(["layer", "head"])
    named = table["class"]
    wanted = {head: name for name, heads in circuit.classes.items() for head in heads}
    wanted[circuit.backup] = "backup mover"
    assert dict(named[named != NONE]) == wanted
    sizes, small = table["total"].abs(), table.index.difference(list(wanted))
    assert sizes[list(circuit.heads)].min() > 0.05 > 0.02 > sizes[small].max()
    assert (table.loc[list(circuit.heads), "total_holm"] < 0.05).all()


def test_the_circuit_stands_on_its_own_and_random_heads_do_not(run: Any, built: tuple[Model, Circuit]) -> None:
    _, circuit = built
    told = run.findings.summary["evaluation"]
    for found in told["faithfulness"].values():
        assert 0.85 < found["share"]["mean"] < 1.25  # not quite 1: the backup is no part of it
        assert abs(found["random"]["share"]["mean"]) < 0.05
    whole = told["faithfulness"]["mean"]["whole"]["mean"]
    missed = {one["name"]: one["model"] - one["circuit"] for one in told["completeness"]["sets"]}
    assert missed.pop("mover") > 0.4 * whole  # without movers the whole model has its backup, which the circuit lacks
    for name in set(circuit.classes) - {"mover", "inhibition"}:
        assert abs(missed[name]) < 0.2 * whole, name
    assert all(one["needed"] and one["share"] > 0.05 for one in told["minimality"]["heads"])
    assert [tuple(one["head"]) for one in told["minimality"]["heads"]] == list(circuit.heads)
    curves = told["curves"]["curves"]
    for name in ("total effect", "attribution, IG"):
        found = curves[name]["absolute"]
        assert found["f"][-2] > 0.85 and found["cpr"] > 0.4  # half of all heads have the circuit's among them
    drawn = [curve["absolute"]["cpr"] for name, curve in curves.items() if name.startswith("random")]
    assert curves["total effect"]["absolute"]["cpr"] > np.mean(drawn)


def test_the_check_verifies_it(run: Any) -> None:
    check = run.findings.verification
    assert check.verdict == "verified" and "verified" in run.verdict
    assert check.effect < -5 and abs(check.control) < 0.2


@pytest.mark.parametrize("how", ("resample", "zero"))
def test_ablation_moves_the_answer_as_built(how: str, built: tuple[Model, Circuit], tmp_path: Path) -> None:
    model, circuit = built
    untouched, effects = 0.0, {}
    sets = {"movers": circuit.movers, "inhibition": circuit.inhibition, "negative": (circuit.negative,)}
    sets["noise"] = noise_heads(circuit, 3)
    for name, heads in sets.items():
        config: dict[str, Any] = {"controls": 1, **({"aim": "help"} if name == "negative" else {})}
        asked = {"heads": list(heads), "prompts": prompts_of(12), "out": tmp_path / name, "progress": False}
        result = interp.ablate(model, how, config=config, **asked)
        effects[name] = result.findings.verification
        untouched = result.findings.summary["claims"]["untouched"]["mean"]
    assert effects["movers"].verdict == effects["inhibition"].verdict == "verified"
    assert effects["movers"].effect < -0.4 * untouched
    assert effects["inhibition"].effect < -untouched  # two of three names are the wrong one
    assert effects["negative"].verdict == "verified" and effects["negative"].effect > 0.1 * untouched
    assert effects["noise"].verdict != "verified" and abs(effects["noise"].effect) < 0.02 * untouched


def test_heads_come_from_the_run_by_class(run: Any, built: tuple[Model, Circuit], tmp_path: Path) -> None:
    model, circuit = built
    found = interp.ablate(
        model,
        "zero",
        from_run=f"{run.folder}:inhibition",
        prompts=prompts_of(12),
        out=tmp_path / "run",
        config={"controls": 1},
        progress=False,
    )
    assert found.findings.summary["selected_heads"] == [list(head) for head in circuit.classes["inhibition"]]
    assert found.findings.verification.verdict == "verified"


def test_an_edit_repairs_broken_inhibition(run: Any, built: tuple[Model, Circuit], tmp_path: Path) -> None:
    """The same circuit in a model whose inhibition heads do not see the end."""
    broken, circuit = planted("llama", SEED, inhibits=False)
    config = {"controls": 1, "factors": (0.0, 2.0)}
    asked: dict[str, Any] = {"prompts": prompts_of(16), "config": config, "progress": False}
    result = interp.repair(broken, circuit=run.folder, out=tmp_path / "run", **asked)
    together = result.table[result.table["part"] == "all"].set_index("edit")
    assert set(together["heads"]) == {labels([*circuit.inhibition, circuit.negative])}
    assert (together["top1_before"] == 0).all()
    for edit in ("oracle", "inhibit"):  # told the answer, and not
        row = together.loc[edit]
        assert row["top1"] == 1 and row["broken"] == 0 and row["random"] < 0.5
        assert row["difference_before"] < -1 < 1 < row["difference"]
        assert row["mover_after"] > row["mover_before"] + 0.1
    assert together.loc["point", "top1"] == together.loc["scale", "top1"] == 0
    assert result.findings.summary["judged"] == "inhibit" and result.findings.verification.verdict == "verified"


def test_heads_that_repair_are_chosen(tmp_path: Path) -> None:
    """Without names: of all heads, an inhibition head's row is the one to be put on the wrong names."""
    broken, circuit = planted("llama", SEED, inhibits=False)
    config = {"controls": 1, "candidates": 2}
    result = interp.repair(
        broken, "inhibit", prompts=prompts_of(16), config=config, out=tmp_path / "run", progress=False
    )
    (row,) = (one for _, one in result.table.iterrows() if one["part"] == "all")
    chosen = {tuple(map(int, str(label).split("."))) for label in str(row["heads"]).split(", ")}
    assert chosen & set(circuit.inhibition) and row["top1"] == 1


def test_noise_is_refused(tmp_path: Path) -> None:
    model = load(plant("llama", None), check=False)
    with pytest.raises(UsageError, match="cannot do this task"):
        interp.scan(model, "circuit", prompts=prompts_of(12), out=tmp_path / "run", config=SETTINGS, progress=False)
