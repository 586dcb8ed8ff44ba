"""The probe finder on a model made by hand: block 1 computes what the unembedding reads, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import interp
from interp.probing.edit import MoveAlong, at_random
from probes.base import Prompt
from tests.tiny import tiny, tiny_tokenizer

STOP, WORDS = 6, tuple(range(50, 74))  # "." and words of the tokenizer


def signs(token: int) -> tuple[int, int]:
    """The two features of a token; a full stop follows where they are alike."""
    return (1, -1) if token == STOP else (1 if token & 1 else -1, 1 if token & 2 else -1)


@pytest.fixture(scope="module")
def model() -> interp.Model:
    """Two features in the embedding; block 1's MLP writes their product to dimension 3, which the full stop's logit
    reads. A linear probe cannot read a product before it is there."""
    hf = tiny("llama")
    with torch.no_grad():
        for layer in hf.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.01)  # the load-time check wants heads that matter
            layer.mlp.down_proj.weight.zero_()
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight.fill_(1)
        hf.model.norm.weight.fill_(1)
        embedding = hf.get_input_embeddings().weight
        embedding.zero_()
        embedding[:, 2] = 1.0
        for token in (STOP, *WORDS):
            embedding[token, :3] = torch.tensor([*signs(token), 1.0])
        mlp = hf.model.layers[1].mlp
        mlp.gate_proj.weight.zero_()
        mlp.up_proj.weight.zero_()
        for neuron, sign in enumerate((1.0, -1.0)):
            mlp.gate_proj.weight[neuron, 0] = 4 * sign  # SiLU opens it for one sign of the first feature ...
            mlp.up_proj.weight[neuron, 1] = sign  # ... and lets the second one through, signed
            mlp.down_proj.weight[3, neuron] = 0.5
        hf.lm_head.weight.mul_(0.02)
        hf.lm_head.weight[STOP, 3] = 6.0
    return interp.load(hf, tokenizer=tiny_tokenizer())


@pytest.fixture(scope="module")
def prompts(model: interp.Model) -> list[Prompt]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(20):
        ids = [int(rng.choice(WORDS))]
        while len(ids) < 24:
            first, second = signs(ids[-1])
            ids.append(STOP if first == second else int(rng.choice(WORDS)))
        made.append(Prompt(f"p{number}", "", tuple(ids), model.decode_tokens(ids)))
    assert made[0].tokens[made[0].ids.index(STOP)] == "."
    return made


def test_it_finds_the_block_and_that_the_model_uses_it(
    model: interp.Model, prompts: list[Prompt], tmp_path: Path
) -> None:
    found = interp.scan(
        model,
        find="probe",
        prompts=prompts,
        config={"label": "ends-sentence", "strengths": (0.1, 10.0), "draws": 3},
        out=tmp_path / "r",
        progress=False,
    )
    scores = found.table.set_index("layer")
    assert found.table.iloc[0]["layer"] == 1 and scores.loc[1, "score"] == 1
    assert scores.loc[0, "gain"] < 0.1 and scores.loc[1, "control"] < 0.9
    (write,) = found.findings.arrays["write"]
    assert abs(write[3]) / np.linalg.norm(write) > 0.9
    checked = found.findings.verification
    assert checked is not None and checked.verdict == "verified" and checked.prompts == 10
    assert checked.effect is not None and checked.control is not None
    assert checked.effect > 0.05 > checked.control
    assert "raises the next-token loss" in found.verdict and "the model uses" in found.verdict
    judged = {one["name"] for one in found.findings.summary["prompts"] if one["held_out"]}
    assert {one["name"] for one in checked.per_prompt} == judged


def test_what_is_not_there_leaves_nothing_to_verify(model: interp.Model, prompts: list[Prompt], tmp_path: Path) -> None:
    """Hardly any attention, so hardly any state knows its position."""
    found = interp.scan(
        model,
        find="probe",
        prompts=prompts,
        config={"label": "position-parity", "strengths": (0.1,)},
        out=tmp_path / "r",
        progress=False,
    )
    assert found.table.iloc[0]["gain_low"] <= 0
    assert found.findings.verification is not None and found.findings.verification.verdict == "nothing to verify"
    assert "is not read by a linear probe better than the baseline" in found.verdict


def test_the_edit_takes_out_what_it_reads_and_moves_as_far_otherwise() -> None:
    rng = np.random.default_rng(0)
    states = torch.tensor(rng.standard_normal((2, 5, 12)), dtype=torch.float32)
    spread = rng.random(12) + 0.1
    directions = np.linalg.qr(rng.standard_normal((12, 3)))[0].T
    read, own, centre = directions / spread, directions * spread, rng.standard_normal(12)
    write = at_random(own, spread, rng)
    np.testing.assert_allclose(write @ write.T, own @ own.T, atol=1e-12)
    np.testing.assert_allclose(write @ own.T, 0, atol=1e-12)
    taken = MoveAlong(("x",), (1, 4), read, own, centre).apply(states, "x", 0)
    moved = MoveAlong(("x",), (1, 4), read, write, centre).apply(states, "x", 0)
    along = (taken.double().numpy() - centre) @ read.T
    np.testing.assert_allclose(along[:, [1, 4]], 0, atol=1e-5)
    for edited in (taken, moved):
        assert torch.equal(edited[:, [0, 2, 3]], states[:, [0, 2, 3]])
    torch.testing.assert_close((taken - states).norm(dim=-1), (moved - states).norm(dim=-1))
    whole = MoveAlong(("x",), (1, 4), read, own, centre)
    parts = [whole.apply_from(states[:, :3], "x", 0, 0), whole.apply_from(states[:, 3:], "x", 0, 3)]
    torch.testing.assert_close(torch.cat(parts, 1), taken)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "nothing"}, "no such question"),
        ({"label": "answer"}, "no answer"),
        ({"positions": ("S2",)}, "no position 'S2'"),
        ({"layers": (7,)}, "blocks 0 to 2"),
        ({"select": 1.0}, "select=1.0"),
        ({"strengths": ()}, "strengths"),
    ],
)
def test_settings_that_do_not_go_are_told(
    model: interp.Model, prompts: list[Prompt], settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(interp.UsageError, match=message):
        interp.scan(model, find="probe", prompts=prompts[:2], config=settings, out=tmp_path / "r", progress=False)
