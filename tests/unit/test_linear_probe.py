"""Linear probes against planted truth: what is there is found where it is, what is not is not, and nothing leaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.activations import Store, open_store, probe
from interp.activations.index import Index
from interp.activations.writer import Writer
from interp.errors import UsageError
from interp.finders.probe import examples_of
from interp.probing import labels
from interp.probing.config import ProbeConfig
from interp.probing.fit import fit
from interp.probing.task import Examples, halves, prefix_of, task_of
from probes.base import Prompt
from tests.tiny import tiny, tiny_tokenizer

SIZE, TYPES, LENGTH, PROMPTS = 24, 40, 30, 30
TOKENS = "hook_embed"
SITES = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def prompt_of(number: int, ids: tuple[int, ...], **extra: Any) -> Prompt:
    return Prompt(f"p{number}", "", ids, tuple(f"t{i}" for i in ids), extra=extra)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, np.ndarray, np.ndarray]:
    """(store, bool [row] planted along a direction at block 1, that direction); else noise and token identity."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("planted")
    direction = rng.standard_normal(SIZE)
    direction /= np.linalg.norm(direction)
    types = rng.standard_normal((TYPES, SIZE)) * 2
    writer = Writer(folder, Index({}, "all", ()), {"dtype_store": "as-is"}, 30_000)
    writer.sweep()
    truth = []
    for number in range(PROMPTS):
        ids = rng.integers(0, TYPES, LENGTH)
        label = rng.random(LENGTH) < 0.5
        states = [types[ids] + rng.standard_normal((LENGTH, SIZE)) for _ in SITES]
        states[1] = (
            states[1] + np.outer(np.where(label, 3.0, -3.0), direction) - np.outer(types[ids] @ direction, direction)
        )
        truth.append(label)
        states.append(np.eye(TYPES)[ids] + 0.01 * rng.standard_normal((LENGTH, TYPES)))
        values = {
            site: torch.tensor(state, dtype=torch.float32) for site, state in zip((*SITES, TOKENS), states, strict=True)
        }
        writer.add(prompt_of(number, tuple(map(int, ids)), label="odd" if number % 2 else "even"), values)
    writer.commit()
    return open_store(folder), np.concatenate(truth), direction


def test_what_is_planted_is_found_where_it_is(planted: tuple[Store, np.ndarray, np.ndarray]) -> None:
    store, truth, direction = planted
    found = probe(store, "blocks.*.hook_resid_post", truth)
    best, other = found.table.iloc[0], found.table.iloc[1]
    assert best["site"] == SITES[1] and best["layer"] == 1
    assert best["score"] > 0.97 and best["gain_low"] > 0.3 and best["selectivity_low"] > 0.1
    assert other["score"] == pytest.approx(0.5, abs=0.08) and other["gain_low"] < 0.05
    assert best["test"] + best["train"] == store.index.rows - PROMPTS  # the first position takes no part
    removal = found.removals[SITES[1]]
    (write,) = removal.write
    assert abs(write @ direction) / np.linalg.norm(write) > 0.9
    states = np.asarray(store[SITES[1]], dtype=np.float64)
    taken = states - (states - removal.centre) @ removal.read.T @ removal.write
    np.testing.assert_allclose((taken - removal.centre) @ removal.read.T, 0, atol=1e-9)
    assert "read best at blocks.1" in found.verdict and "more than the probe could remember" in found.verdict
    again = probe(store, "blocks.*.hook_resid_post", truth)
    assert again.table.equals(found.table)


def test_what_a_probe_remembers_is_not_selective(planted: tuple[Store, np.ndarray, np.ndarray]) -> None:
    """Labels by token type: read from what the states hold of the token, and so are random ones."""
    store, _, _ = planted
    parity = probe(store, TOKENS, lambda prompt, position: prompt.ids[position] % 2)
    row = parity.table.iloc[0]
    assert row["score"] == 1 and row["control"] == 1 and row["selectivity"] == 0
    assert "not more than the same probe reaches on random labels" in parity.verdict
    noise = probe(store, SITES[1], np.random.default_rng(5).random(store.index.rows) < 0.5).table.iloc[0]
    assert noise["score"] == pytest.approx(0.5, abs=0.08) and noise["gain_low"] < 0.05


def test_labels_of_prompts_cannot_leak_through_tokens(tmp_path: Path) -> None:
    """Every prompt has a state of its own and a random label: only a split by token could read it."""
    rng = np.random.default_rng(1)
    writer = Writer(tmp_path, Index({}, "all", ()), {"dtype_store": "as-is"}, 10**6)
    writer.sweep()
    given = {}
    for number in range(40):
        states = rng.standard_normal(SIZE) * 5 + rng.standard_normal((10, SIZE)) * 0.01
        prompt = prompt_of(number, tuple(rng.integers(0, TYPES, 10).tolist()))
        given[prompt.name] = str(rng.integers(2))
        writer.add(prompt, {"site": torch.tensor(states, dtype=torch.float32)})
    writer.commit()
    store = open_store(tmp_path)
    found = probe(store, "site", given, position="all")
    assert not set(found.training) & set(found.held_out) and len(found.held_out) == 20
    assert found.table.iloc[0]["gain_low"] <= 0.02
    by_token = fit_by_token(store, given)
    assert by_token > 0.95  # what the same states would give, were tokens of one prompt on both sides


def fit_by_token(store: Store, given: dict[str, str]) -> float:
    """The same core, each token passed off as a prompt."""
    rows = np.arange(store.index.rows)
    owner = rows // 10
    named = [given[store.prompt(int(i)).name] for i in owner]
    tokens = np.array([store.prompt(int(i)).ids[r % 10] for r, i in enumerate(owner)])
    examples = Examples(rows, rows % 10, tokens, named, apart(rows))
    task = task_of(examples, (rows[::2].tolist(), rows[1::2].tolist()), ProbeConfig())
    fitted = fit(np.asarray(store["site"])[task.kept], task, ProbeConfig())
    return fitted.gained.sum() / fitted.possible.sum()


def test_quantities_by_ridge(planted: tuple[Store, np.ndarray, np.ndarray]) -> None:
    store, _, direction = planted
    along = np.asarray(store[SITES[1]], dtype=np.float64) @ direction
    rng = np.random.default_rng(2)
    row = probe(store, SITES[1], (along + 0.1 * rng.standard_normal(len(along))).tolist(), strengths=(1.0,)).table.iloc[
        0
    ]
    assert row["score"] > 0.98 and row["baseline"] == 0 and row["control"] < 0.5
    noise = probe(store, SITES[1], rng.standard_normal(len(along)).tolist()).table.iloc[0]
    assert noise["gain_low"] < 0.02


def test_prompts_are_parted_evenly_and_stay_whole() -> None:
    prompts = [prompt_of(i, (i, 1, 2)) for i in range(24)]
    prompts += [replace(prompts[0], name="twin"), replace(prompts[1], name="twin too")]
    given = ["rare" if i in (3, 9, 15, 21) else "often" for i in range(26)]
    train, test = halves(prompts, given, ProbeConfig())
    assert sorted(train + test) == list(range(26)) and len(test) == 13
    assert sum(given[i] == "rare" for i in test) == 2
    for twin, first in ((24, 0), (25, 1)):
        assert (twin in test) == (first in test)
    assert halves(prompts, given, ProbeConfig(seed=1)) != (train, test)
    for n, held_out in ((0, 0), (1, 0), (2, 1), (3, 1), (11, 8)):
        assert len(halves(prompts[:n], given[:n], ProbeConfig())[1]) == held_out


def test_the_control_task_gives_one_label_to_a_type() -> None:
    rng = np.random.default_rng(0)
    tokens, prompts = rng.integers(0, 30, 400), np.repeat(np.arange(40), 10)
    named = [str(rng.integers(3)) for _ in range(400)]
    task = task_of(
        Examples(prompts, np.tile(np.arange(10), 40), tokens, named, apart(tokens)),
        (range(20), range(20, 40)),
        ProbeConfig(),
    )
    assert task.by_type and task.classes == ("0", "1", "2")
    by = {token: set(task.control[tokens == token]) for token in set(tokens)}
    assert all(len(found) == 1 for found in by.values()) and len({min(found) for found in by.values()}) == 3
    same = task_of(
        Examples(prompts, tokens * 0, tokens * 0 + 7, named, apart(tokens)), (range(20), range(20, 40)), ProbeConfig()
    )
    assert not same.by_type
    assert all(len(set(same.control[prompts == i])) == 1 for i in range(40)) and len(set(same.control)) > 1


def apart(examples: np.ndarray) -> list[str]:
    """As many prefixes, no two alike."""
    return [str(i) for i in range(len(examples))]


def test_what_a_training_prompt_begins_with_does_not_judge() -> None:
    """A template: its tokens' states are the same in every prompt, so a probe could know them by heart."""
    shared = (7, 3, 9, 4)
    prompts = [prompt_of(i, (*shared, 20 + i, 60 + i)) for i in range(8)]
    places = [np.arange(1, 6)] * 8
    examples = Examples(
        np.repeat(np.arange(8), 5),
        np.tile(np.arange(1, 6), 8),
        np.array([prompt.ids[at] for prompt in prompts for at in range(1, 6)]),
        ["odd" if at % 2 else "even" for _ in prompts for at in range(1, 6)],
        [prefix_of(prompt, int(at)) for prompt, here in zip(prompts, places, strict=True) for at in here],
    )
    task = task_of(examples, (range(4), range(4, 8)), ProbeConfig(least=1))
    assert task.seen == 4 * 3 and task.left_out == 0  # the three shared tokens of each held-out prompt
    assert examples.positions[task.kept][task.test].tolist() == [4, 5] * 4


def test_classes_are_those_of_the_training_prompts() -> None:
    named = ["a", "a", "a", "b", "b", "b", "c", None, "d", "a", "b", "e"]
    n = np.arange(12)
    task = task_of(Examples(n, n, n, named, apart(n)), (range(9), range(9, 12)), ProbeConfig(least=2))
    assert task.classes == ("a", "b") and task.kept.tolist() == [0, 1, 2, 3, 4, 5, 9, 10] and task.left_out == 4
    assert task.why == ""
    for labels_, why in (
        (["a"] * 12, "one label"),
        ([None] * 12, "no training"),
        (["a", "b"] * 4 + ["a"] + ["z"] * 3, "no held-out"),
    ):
        assert why in task_of(Examples(n, n, n, labels_, apart(n)), (range(9), range(9, 12)), ProbeConfig(least=1)).why


def test_fits_that_do_not_converge_are_told(planted: tuple[Store, np.ndarray, np.ndarray]) -> None:
    store, truth, _ = planted
    assert not probe(store, SITES[1], truth, iterations=1).converged
    assert probe(store, SITES[1], truth).converged


def test_questions_by_hand() -> None:
    prompt = replace(prompt_of(0, (5, 6, 5, 7)), tokens=("The", " cat", ".", "\n"))
    asked = {name: [labels.question(name).of(prompt, at) for at in range(4)] for name in list(labels.QUESTIONS)[:4]}
    assert asked["repeated"] == [False, False, True, False]
    assert asked["position-parity"] == [False, True, False, True]
    assert asked["next-starts-word"] == [True, False, True, None]
    assert asked["ends-sentence"] == [False, True, False, None]
    assert labels.places(prompt, "all") == [1, 2, 3] and labels.places(prompt, "-1") == labels.places(
        prompt, "last"
    ) == [3]
    examples = examples_of([prompt], [np.array([1, 3])], labels.question("ends-sentence"))
    assert examples.tokens.tolist() == [6, 7] and examples.labels == [True, None]
    for name, message in (("nothing", "no such question"), ("group:", "no such question")):
        with pytest.raises(UsageError, match=message):
            labels.question(name)
    for name, message in (("answer", "no answer"), ("label", "no label"), ("group:order", "no group:order")):
        with pytest.raises(UsageError, match=message):
            labels.requires(prompt, labels.question(name))
    with pytest.raises(UsageError, match="no position 'S2'"):
        labels.places(prompt, "S2")
    with pytest.raises(UsageError, match="a list"):
        labels.requires(replace(prompt, extra={"label": [1]}), labels.question("label"))


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        ([1, 2], {}, "2 labels for 30 prompts with 900 rows"),
        ({"nobody": 1}, {}, "'nobody', which is no prompt"),
        ("repeated", {"layers": (0,)}, "no setting of a probe over a store"),
        ("repeated", {"folds": 1}, "folds=1"),
        ("repeated", {"position": "S2"}, "no position 'S2'"),
        (["same"] * 30, {}, "one label"),
        ("answer", {}, "no answer"),
    ],
)
def test_bad_requests_are_told(
    planted: tuple[Store, np.ndarray, np.ndarray], given: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        probe(planted[0], SITES[0], given, **more)
    with pytest.raises(UsageError, match="unknown site"):
        probe(planted[0], "blocks.7.*", "repeated")


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer())


def test_the_finder_and_the_store_agree(model: interp.Model, tmp_path: Path) -> None:
    texts = {f"t{i}": "the cat sat on the mat and " * (2 + i % 3) + f"dog {i % 10} ran to it. " * 2 for i in range(12)}
    store = interp.capture(model, tmp_path / "s", texts=texts, progress=False)
    over = probe(store, "blocks.*.hook_resid_post", "repeated")
    run = interp.scan(model, find="probe", texts=texts, out=tmp_path / "r", progress=False, config={"draws": 1})
    columns = ["site", "score", "baseline", "control", "validation", "strength", "score_low"]
    assert over.table[columns].equals(run.table[columns])
    assert over.table["converged"].dtype == "boolean" and over.table["converged"].all()
