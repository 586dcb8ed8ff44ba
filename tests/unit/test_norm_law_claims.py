"""What the norm law claims: rho without removal, the written direction by where it was taken from, the group of each
figure; and its passes: gaps between reading layers, states reduced on the spot, logits only for a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.finders import norm_law_passes, norm_law_stats, norm_law_words
from interp.finders.base import Unit
from interp.finders.norm_law_config import MEASURES, NormLawConfig
from interp.finders.sink_config import Measured, Sink
from interp.finders.sink_measure import RESIDUAL, cosines
from interp.finders.sink_norm_law import norm_law, span
from interp.interventions.positions import WriteDirection, finest, lengths
from interp.tracing.tracer import trace
from tests.planted.builder import plant
from tests.planted.plan import prompt
from tests.planted.scan import as_prompt, scan
from tests.tiny import tiny

CONFIG = NormLawConfig()


def unit(lifetimes: Sequence[Sequence[float]], scores: Sequence[Sequence[float]] | None = None) -> Unit:
    """One prompt's sweep, each sink a list over the multiples of the default sweep."""
    life = np.array(lifetimes, dtype=np.float64).T
    arrays = {f"tokens.{name}": np.ones_like(life) for name in MEASURES}
    arrays["tokens.lifetime"] = life
    arrays["tokens.norm"] = np.array(CONFIG.sweep)[:, None] * np.ones(life.shape[1])
    arrays["tokens.score"] = life if scores is None else np.array(scores, dtype=np.float64).T
    arrays["tokens.loss"] = np.zeros(len(CONFIG.sweep))
    facts = {"swept": {"tokens": list(range(life.shape[1]))}, "loss": 0.0, "reverse": None}
    return Unit(arrays, facts)


def told(*groups: str) -> dict[str, Any]:
    return {"name": "one", "spans": [{"group": group} for group in groups]}


def both(one: Unit, *groups: str, measure: str = "lifetime") -> tuple[dict[str, Any], dict[str, Any]]:
    return tuple(
        correlate([told(*groups)], [one], "secondary", measure, CONFIG)
        for correlate in (norm_law_stats.causal, norm_law_stats.graded)
    )  # pyright: ignore[reportReturnType]


# -- correlations -----------------------------------------------------------------------------------------------------


def test_removal_alone_makes_no_graded_correlation() -> None:
    """A sink that is there or not, whatever the norm: positive with 0 among the multiples, 0 without."""
    causal, graded = both(unit([[0, 5, 5, 5, 5, 5, 5, 5, 5]]), "secondary")
    assert causal["mean"] == pytest.approx(0.548, abs=1e-3)
    assert (graded["mean"], graded["sinks"], graded["flat"], graded["n"]) == (0.0, 1, 1, 1)


def test_graded_takes_the_multiples_at_which_a_sink_lives() -> None:
    dead_below = [0, 0, 0, 0, 0, 5, 4, 3, 2]  # the more, the shorter, where there is a sink at all
    causal, graded = both(unit([dead_below]), "secondary")
    assert causal["mean"] > 0 and graded["mean"] == pytest.approx(-1) and graded["flat"] == 0
    scores = [0, 0, 0, 0, 0, 0.1, 0.2, 0.4, 0.3]
    _, graded = both(unit([dead_below], [scores]), "secondary", measure="score")
    assert graded["mean"] == pytest.approx(0.8)


def test_graded_keeps_to_its_group_and_to_sinks_with_three_multiples() -> None:
    rises, falls, short = [0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 8, 7, 6, 5, 4, 3, 2, 1], [0, 0, 0, 0, 0, 0, 0, 2, 3]
    _, graded = both(unit([rises, falls, short]), "secondary", "other", "secondary")
    assert (graded["mean"], graded["sinks"], graded["of"]) == (pytest.approx(1), 1, "secondary")
    _, nothing = both(unit([short]), "secondary")
    assert nothing["mean"] is None and "3 or more multiples above 0" in nothing["why"] and nothing["n"] == 0


def test_the_group_of_each_figure_is_named() -> None:
    figure = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    claims = {
        "correlation.score.natural": {**figure, "of": "all tokens"},
        "correlation.score.causal": {**figure, "of": "secondary"},
        "correlation.score.graded": {**figure, "mean": 0.1, "of": "secondary", "sinks": 7, "flat": 2},
    }
    said = norm_law_words.correlation_sentence(claims, "score")
    assert "9 sinks as they are (sinks of all kinds but the anchor)" in said
    assert "sweep, removal included (secondary sinks)" in said
    assert "0.10 (0.40 to 0.60) over the multiples above 0 at which the sink lives (secondary sinks: 7" in said
    claims["correlation.score.graded"] = {"mean": None, "why": "nothing lives"}
    assert "not defined over the multiples above 0 alone (nothing lives)" in norm_law_words.correlation_sentence(
        claims, "score"
    )


# -- the written direction --------------------------------------------------------------------------------------------


def test_the_reverse_of_secondary_sinks_alone() -> None:
    checks = []
    for of, became, received, random in (("secondary", 1.0, 0.5, 0.1), ("anchor", 0.0, 0.0, 0.3), ("other", 0, 0, 0)):
        one = unit([[0, 5, 5, 5, 5, 5, 5, 5, 5]])
        one.facts["reverse"] = {"of": of, "became": became, "received": received, "random": random}
        one.facts["reverse"] |= {"random_became": 0.0, "before": 0.0}
        checks.append(one)
    prompts = [told("secondary")] * 3
    claims = norm_law_stats.claims(prompts, checks, {}, CONFIG)
    assert claims["reverse.became_sinks"]["mean"] == pytest.approx(1 / 3)
    own = claims["reverse.secondary.became_sinks"], claims["reverse.secondary.received_gain"]
    assert [(one["mean"], one["n"]) for one in own] == [(1.0, 1), (pytest.approx(0.4), 1)]
    assert norm_law_words.taken_from(claims) == "in 1 taken from secondary sinks, where 100 % became sinks"
    none = norm_law_stats.claims(prompts[1:], checks[1:], {}, CONFIG)
    assert none["reverse.secondary.received_gain"]["mean"] is None and none["reverse.secondary.became_sinks"]["why"]
    assert norm_law_words.taken_from(none).startswith("none")


def test_a_planted_run_says_what_it_compares() -> None:
    findings = scan(norm_law, plant("llama"), [prompt(seed) for seed in range(2)], NormLawConfig(sweep=(0.0, 1.0, 2.0)))
    claims = findings.summary["claims"]
    assert claims["reverse.secondary.became_sinks"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 2}
    gain = claims["reverse.received"]["mean"] - claims["reverse.random"]["mean"]
    assert claims["reverse.secondary.received_gain"]["mean"] == pytest.approx(gain)
    assert claims["correlation.lifetime.graded"]["why"]  # two multiples above 0 are too few
    assert "with random directions" in findings.verdict and "(0 % with random" not in findings.verdict
    assert "taken from secondary sinks" in findings.verdict


# -- passes -----------------------------------------------------------------------------------------------------------


def test_gaps_are_not_read() -> None:
    """wong2025 records layers one by one: the blocks after 2 and 6 read the sink, those between do not."""
    received = np.zeros((9, 1, 12), dtype=np.float32)
    received[[3, 7], 0, 5] = 0.4, 0.6
    received[[4, 5, 6], 0, 5] = 0.05
    measured = Measured(received, np.ones((9, 12)), np.ones((9, 12)), np.ones((9, 12)), 0, 0)
    made = span(measured, Sink(5, "secondary", 2, 2, (2, 6)), 2, 1.0)
    assert made["reading"] == [3, 7] and made["score"] == pytest.approx(0.5)
    seen = norm_law_passes.Seen(measured, None, {}, torch.ones(9, 2))
    assert norm_law_passes.response(seen, made, [], CONFIG)["score"] == pytest.approx(0.5)


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gemma3", "falcon"])
@torch.no_grad()
def test_reduced_on_the_spot_as_read_whole(arch: str) -> None:
    """The same numbers as from residual streams kept whole: reducing changes nothing, and comes after the edits."""
    model = interp.load(tiny(arch), check=False)
    one = as_prompt(tuple(range(5, 21)))
    edits = norm_law_passes.rescale([(1, 4, 3.0), (1, 7, 0.0)])
    seen = norm_law_passes.look(model, one, 2, [1], edits)
    sites = [RESIDUAL.format(layer) for layer in range(model.n_layers)]
    with trace(model, read=[*sites, "blocks.1.hook_mlp_out"], edit=edits) as traced:
        logits = traced.run(list(one.ids)).logits
        states = [traced[site][0].float() for site in sites]
        written = lengths(traced["blocks.1.hook_mlp_out"])[0].numpy()
    for layer, state in enumerate(states):
        np.testing.assert_allclose(seen.measured.norm[layer], state.norm(dim=-1).numpy(), rtol=1e-5)
        np.testing.assert_allclose(seen.measured.cosine[layer], cosines(state, 2)[0].numpy(), atol=1e-5)
        torch.testing.assert_close(seen.anchor_states[layer], state[2])
    np.testing.assert_allclose(seen.written[1], written, rtol=1e-5, atol=1e-7)
    loss = torch.nn.functional.cross_entropy(logits[0, :-1].float(), torch.tensor(one.ids[1:]))
    assert seen.loss == pytest.approx(float(loss), abs=1e-5)


def test_no_pass_keeps_residual_streams_or_needless_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = interp.load(plant("llama"), check=False)
    one = as_prompt(prompt(3))
    config = NormLawConfig(sweep=(0.0, 1.0), controls=1)
    rows, reads = [], []

    def watched(*args: Any, **kwargs: Any) -> Any:
        reads.append(kwargs.get("read", ()))
        return trace(*args, **kwargs)

    monkeypatch.setattr(norm_law_passes, "trace", watched)
    handle = model.hf.lm_head.register_forward_hook(lambda _, __, out: rows.append(out.shape[1]))
    norm_law.measure(model, one, config)  # the first trace of a model tries it out on a short input
    rows.clear()
    reads.clear()
    measured = norm_law.measure(model, one, config)
    assert rows == [len(one), 1]  # the sinks, with their loss, and the forming pass without
    findings = norm_law.find([one], [measured], config, model.facts())
    rows.clear()
    made = norm_law.check(model, one, 0, findings, config)
    handle.remove()
    assert made is not None and made.facts["identity"] == 0.0
    # natural and both multiples need the loss; removal at ordinary tokens, the direction and a random one do not
    assert rows == [len(one)] * 3 + [1] * 3
    assert len(reads) == 7 and not any(reads)


def test_devices_without_float64() -> None:
    assert finest(torch.device("mps")) == torch.float32 and finest(torch.device("cpu")) == torch.float64
    assert lengths(torch.ones(1, 2, 4, dtype=torch.bfloat16)).dtype == torch.float64
    edit = WriteDirection(("blocks.0.hook_mlp_out",), (1,), torch.ones(4, dtype=torch.float64))
    assert edit.apply(torch.zeros(1, 2, 4), "blocks.0.hook_mlp_out", 0)[0, 1].tolist() == [1, 1, 1, 1]
