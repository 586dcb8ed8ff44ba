"""Findings made up for the report's tests: the scale of a real scan, and texts that try to break out of the page."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from interp.findings import Column, Findings, Heatmap, TokenStrip, Verification
from interp.report.text import clean
from probes.base import Prompt
from tests import sample_charts

COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("position", "Int64", "position", "0-based position of the token."),
    Column("token_id", "Int64", "token id", "Id of the token in the vocabulary."),
    Column("token", "string", "token", "The token as text."),
    Column("kind", "string", "kind", "primary, secondary or transient (METHODS 1.2)."),
    Column("start_layer", "Int64", "start layer", "First layer in which the token is a sink."),
    Column("lifetime", "Int64", "lifetime", "Number of layers it stays one."),
    Column("cosine", "float64", "cosine", "Mean cosine with the anchor's state over its layers."),
    Column("norm", "float64", "norm", "Mean l2 norm of its state over its layers."),
    Column(
        "received",
        "float64",
        "attention received",
        "Mean over its layers and all heads of the attention it gets from later queries.",
    ),
    Column("heads", "float64", "share of heads", "Share of heads above eps in its layers."),
    Column("level", "Int64", "level", "Group of equal start and lifetime."),
)
HOSTILE = (
    "<script>window.__pwned=1;alert(1)</script>",
    '"><img src=x onerror="window.__pwned=1">',
    "</script><script>window.__pwned=1</script>",
    "<!--<script>",
    '=HYPERLINK("http://example.invalid","x")',
    "<a href='javascript:window.__pwned=1'>b</a>",
    "\u202eevil\u2028\u2029\ud800\x00",
    "%{x} $E=mc^2$ &lt;b&gt;",
)
_WORDS = (
    "the",
    "of",
    "and",
    "a",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "with",
    "as",
    "his",
    "they",
    "be",
    "but",
)
_NAMES = ("prose", "code", "arithmetic", "dialogue", "lists", "letter", "recipe", "minutes")


def prompts(
    count: int = 8, length: int = 512, seed: int = 0, names: tuple[str, ...] = _NAMES, words: tuple[str, ...] = ()
) -> list[Prompt]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        pool = list(words) or [f" {word}" for word in _WORDS] + [".", ",", "\n"]
        tokens = ("<|im_start|>", *(pool[j] for j in rng.integers(0, len(pool), length - 1)))
        ids = (1, *(int(j) for j in rng.integers(2, 49152, length - 1)))
        made.append(Prompt(names[i % len(names)], "".join(tokens[1:]), ids, tokens, truncated=i == 1))
    return made


def sample(
    layers: int = 30,
    heads: int = 9,
    count: int = 8,
    length: int = 512,
    seed: int = 0,
    patterns: int = 3,
    hostile: bool = False,
) -> tuple[Findings, dict[str, Any], list[Prompt]]:
    """What SmolLM2-135M looks like: an anchor from layer 11 on, a first wave of small sinks, later ones."""
    rng = np.random.default_rng(seed)
    texts = prompts(count, length, seed, HOSTILE if hostile else _NAMES, HOSTILE if hostile else ())
    rows: list[dict[str, Any]] = []
    heatmaps = [
        Heatmap(
            "anchor",
            "Attention the anchor receives",
            _anchor(rng, layers, heads),
            "layer",
            "head",
            "mean attention received",
            "layer-head",
        ),
        Heatmap(
            "secondary",
            "Attention the secondary sinks receive",
            _anchor(rng, layers, heads) * 0.3,
            "layer",
            "head",
            "mean attention received",
            "layer-head",
        ),
    ]
    strips = []
    for i, prompt in enumerate(texts):
        received, norm, cosine, found = _prompt_arrays(rng, layers, length)
        for position, kind, start, lifetime, level in found:
            span = slice(start, start + lifetime)
            rows.append(
                {
                    "prompt": clean(prompt.name),
                    "position": position,
                    "token_id": prompt.ids[position],
                    "token": clean(prompt.tokens[position]),
                    "kind": kind,
                    "start_layer": start,
                    "lifetime": lifetime,
                    "cosine": float(cosine[span, position].mean()),
                    "norm": float(norm[span, position].mean()),
                    "received": float(received[span, position].mean()),
                    "heads": float(rng.uniform(0.2, 0.9)),
                    "level": level if kind == "secondary" else None,
                }
            )
        for name, title, values, label in (
            ("received", "Attention received", received, "mean attention received"),
            ("resid_norm", "Norm of the residual stream", norm, "l2 norm"),
            ("anchor_cosine", "Cosine with the anchor", cosine, "cosine with the anchor"),
        ):
            heatmaps.append(
                Heatmap(
                    f"{name}.{i}",
                    title,
                    values,
                    "layer",
                    "position",
                    label,
                    "layer-position",
                    i,
                    prompt.tokens,
                    diverging=name == "anchor_cosine",
                )
            )
        marks = {position: kind for position, kind, *_ in found}
        shown = (
            {f"{layer}.{layer % heads}": _pattern(rng, length, received[layer]) for layer in (4, 12, 20)[:patterns]}
            if i < 4
            else {}
        )
        strips.append(TokenStrip(i, prompt.name, prompt.tokens, received[11:].mean(axis=0), marks, shown))
    table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
    evil = HOSTILE[0] if hostile else ""
    findings = Findings(
        "sinks",
        table,
        COLUMNS,
        verdict=f"{len(rows)} sinks in {count} prompts of {length} tokens: {count} primary, from layer 11 on, "
        f"and {len(rows) - count} others.{evil}",
        summary={
            "T": length,
            "eps": 0.3,
            "Sink_0^eps": 61.9,
            "levels": {"1": {"start": 14, "lifetime": 8, "sinks": 9}},
            "note": evil or "relative rule",
        },
        caveats=[
            "Attention received falls as T grows: every figure here is for T = 512." + evil,
            "One gap of one layer was bridged.",
        ],
        verification=_verification(rng, texts),
        heatmaps=heatmaps + sample_charts.overall(rng, HOSTILE if hostile else ()),
        strips=strips,
        charts=sample_charts.charts(rng, HOSTILE if hostile else ()),
        sheets=sample_charts.sheets(rng, HOSTILE if hostile else ()),
    )
    return findings, provenance(texts, evil), texts


def empty() -> tuple[Findings, dict[str, Any], list[Prompt]]:
    """A scan that found nothing, drew nothing and checked nothing."""
    table = pd.DataFrame({c.name: pd.Series([], dtype=c.dtype) for c in COLUMNS})
    return Findings("sinks", table, COLUMNS, "No sink found in 1 prompt of 64 tokens."), {}, []


def provenance(texts: list[Prompt], evil: str = "") -> dict[str, Any]:
    digest = hashlib.sha256(b"weights").hexdigest()
    return {
        "model": {
            "name": "smollm2-135m" + evil,
            "kind": "packaged",
            "hub_id": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "revision": None,
            "weight_hash": digest,
            "tokenizer_hash": digest,
            "template_hash": None,
        },
        "position0": "'<|im_start|>' (id 1, added: --bos add)",
        "dtype": "float32",
        "device": "cpu",
        "attention_path": "streamed",
        "seed": 0,
        "versions": {"torch": "2.13.0", "transformers": "5.24.0", "python": "3.11.2"},
        "commit": "0123456789abcdef",
        "dirty": True,
        "command": "interp scan --model smollm2-135m --find sinks" + evil,
        "started": "2026-01-02T03:04:05Z",
        "finished": "2026-01-02T03:04:44Z",
        "args_given": {"model": "smollm2-135m"},
        "args_in_effect": {"max_length": 512, "bos": "add", "rule": "relative"},
        "prompts": [{"name": p.name, "hash": p.hash, "tokens": len(p)} for p in texts],
    }


def _anchor(rng: np.random.Generator, layers: int, heads: int) -> np.ndarray:
    layer = np.arange(layers)[:, None]
    level = np.where(layer >= 11, 0.5, 0.03) * np.where(layer == layers - 1, 0.5, 1.0)
    return np.clip(level * rng.uniform(0.4, 1.6, (layers, heads)), 0.001, 0.98)


def _prompt_arrays(
    rng: np.random.Generator, layers: int, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, str, int, int, int]]]:
    received = np.exp(rng.normal(np.log(1.0 / length), 0.6, (layers, length)))
    norm = np.exp(rng.normal(np.log(100), 0.15, (layers, length))) * np.linspace(0.5, 2, layers)[:, None]
    cosine = rng.uniform(-0.1, 0.4, (layers, length))
    found = [(0, "primary", 11, layers - 12, 0)]
    for kind, count, starts, lives in (("transient", 3, (1, 2, 3), (5, 6)), ("secondary", 2, (14, 17), (8, 10))):
        for position in rng.choice(np.arange(8, length - 40), count, replace=False):
            pick = int(rng.integers(0, len(starts)))
            found.append((int(position), kind, starts[pick], lives[pick % len(lives)], pick + 1))
    for position, kind, start, lifetime, _ in found:
        span = slice(start, start + lifetime)
        strength = {"primary": 0.5, "secondary": 0.14, "transient": 0.07}[kind]
        received[span, position] = strength * rng.uniform(0.7, 1.3, lifetime)
        norm[span, position] = {"primary": 25000.0, "secondary": 9000.0, "transient": 700.0}[kind] * rng.uniform(
            0.9, 1.1, lifetime
        )
        cosine[span, position] = rng.uniform(0.97, 1.0, lifetime)
    return received, norm, cosine, found


def _pattern(rng: np.random.Generator, length: int, received: np.ndarray) -> np.ndarray:
    scores = np.log(received)[None, :] + rng.normal(0, 1.5, (length, length))
    scores[~np.tri(length, dtype=bool)] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _verification(rng: np.random.Generator, texts: list[Prompt]) -> Verification:
    effect, control = rng.normal(0.8, 0.2, len(texts)), rng.normal(0.02, 0.01, len(texts))
    return Verification(
        "verified",
        "next-token loss, nats",
        "Attention to the sinks found was cut and the rows renormalised; the controls are as many ordinary positions, "
        "matched by distance from the start.",
        len(texts),
        *_interval(effect),
        *_interval(control),
        *_interval(effect - control),
        tuple(
            {"name": p.name, "effect": float(e), "control": float(c)}
            for p, e, c in zip(texts, effect, control, strict=True)
        ),
    )


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    mean, half = float(values.mean()), 1.96 * float(values.std()) / max(1, len(values)) ** 0.5
    return mean, mean - half, mean + half
