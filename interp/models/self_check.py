"""What is checked when a model is loaded: the tracer sees what the model computes, and what it changes matters.

A few short forward passes on random token ids:

1. the logits with the streamed attention equal the model's own;
2. attention rows sum to 1; with learned sinks, to what the model's own eager attention rows sum to;
3. silencing the heads of any one layer changes the logits, so `attn.hook_z` is where the model's attention passes. All
   layers are tried in one pass: a row of the batch has one layer silenced, and two rows left alone show the noise.

What this cannot show: that the weights are the right ones, or that the sites mean what their names say in a family that
no test of ours has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.errors import InterpError, LoadError

LENGTH = 16
SILENCED_LENGTH = 2  # one row of the batch per layer, so short rows
# Largest difference of logits that counts as equal, as a share of the largest logit. Half-precision attention differs
# by more than rounding between any two kernels.
LOGIT_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
ROW_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 2e-2}
# Smallest change of the logits that is a change: above it lies any layer that does something, below it rounding.
CHANGE_FLOOR = {torch.float64: 1e-9, torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 2e-3}
FIRST_SILENCED = 1


@dataclass(frozen=True)
class SelfCheck:
    """The outcome.

    Attributes:
        ok: every check passed.
        max_logit_gap: largest difference between streamed and own logits, as a share of the largest logit (of the first
            layer's attention output instead, for experts in half precision; a note says so).
        row_sum_error: largest difference of an attention row's sum from what it should be.
        edit_effect: over the layers, the smallest change of the last logits when a layer's heads are silenced, as a
            share of the largest logit.
        attention_path: ``streamed``, or ``eager`` for families that bypass transformers' attention interface.
        notes: what failed, and what is worth knowing; one sentence each.
    """

    ok: bool
    max_logit_gap: float
    row_sum_error: float
    edit_effect: float
    attention_path: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _SilenceOneLayerPerRow:
    """Zeroes all heads of ``layers[i]`` in batch row ``FIRST_SILENCED + i``."""

    layers: Sequence[int]

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(f"blocks.{layer}.attn.hook_z" for layer in self.layers)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        silenced = value.clone()
        silenced[FIRST_SILENCED + self.layers.index(layer)] = 0  # pyright: ignore[reportArgumentType]
        return silenced


def self_check(model: Any) -> SelfCheck:
    """Check a loaded `Model` (or a Hugging Face causal LM).

    Returns:
        The outcome; what the tracer refuses is a failed check with the refusal as its note.
    """
    try:
        return _check(model)
    except InterpError as error:
        return SelfCheck(False, float("nan"), float("nan"), float("nan"), "none", (str(error),))


def _check(model: Any) -> SelfCheck:
    from interp.tracing.statistics import RowSum
    from interp.tracing.tracer import trace, unwrap

    hf: Any
    hf, sites = unwrap(model)
    embeddings: Tensor = hf.get_input_embeddings().weight
    dtype = embeddings.dtype
    ids = _random_ids(embeddings.shape[0])
    first = f"blocks.{sites.attention_layers()[0]}.hook_attn_out"
    with trace(model, read=[first]) as t:
        own, own_attention = t.run(ids).logits.float(), t[first].float()
    with trace(model, read=[first], stats=[RowSum()]) as t:
        streamed, attention = t.run(ids).logits.float(), t[first].float()
        sums: Tensor = t.stats["row_sum"].float()
    path, notes, failures = t.attention_path, list(t.notes), []
    scale = own.abs().max().item()
    if not torch.isfinite(own).all() or scale == 0.0:
        failures.append("the model's own logits are not finite, or all zero")

    # In half precision rounding sends tokens to other experts, so only what comes before the first one is compared.
    jumpy = sites.structure.moe and dtype in (torch.float16, torch.bfloat16)
    gap = _gap(attention, own_attention) if jumpy else _gap(streamed, own)
    what = f"{first} under streamed attention differs" if jumpy else "streamed logits differ"
    if jumpy:
        notes.append(
            f"experts are chosen in {str(dtype).removeprefix('torch.')}, so {first} was compared, not the logits"
        )
    if not gap <= LOGIT_TOLERANCE[dtype]:
        failures.append(f"{what} from the model's own by {gap:.2g} of the largest value")
        if path == "eager" and hf.config._attn_implementation != "eager":
            failures.append(
                "only this family's eager attention can be read, and in transformers it computes something else than "
                f"the {hf.config._attn_implementation} attention this model runs with"
            )

    row_error = (sums - 1).abs().max().item()
    if not row_error <= ROW_TOLERANCE[dtype]:
        expected = _own_row_sums(hf, sites, ids.to(own.device))
        if expected is None or not (expected < 1 - ROW_TOLERANCE[dtype]).any():
            failures.append(f"attention rows miss the sum of 1 by up to {row_error:.2g}")
        else:
            compared = slice(0, 1) if jumpy else slice(None)
            row_error = (sums - expected.to(sums.device))[compared].abs().max().item()
            notes.append("attention rows sum to less than 1 (learned sinks), as in the model's own eager attention")
            if not row_error <= ROW_TOLERANCE[dtype]:
                failures.append(f"attention rows differ from the model's own eager sums by up to {row_error:.2g}")

    effect, weak = _silencing(model, sites.attention_layers(), ids, scale or 1.0, CHANGE_FLOOR[dtype])
    if weak:
        failures.append(f"silencing every head of layer {', '.join(map(str, weak))} does not change the logits")
    return SelfCheck(not failures, gap, row_error, effect, path, (*failures, *notes))


def _gap(found: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest expected value."""
    return (found - expected).abs().max().item() / (expected.abs().max().item() or 1.0)


def _random_ids(vocabulary: int) -> Tensor:
    """[1, LENGTH] ids from the middle of the vocabulary, where no special token is; the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary // 10, vocabulary // 2, (1, LENGTH), generator=generator)


def _own_row_sums(hf: Any, sites: Any, ids: Tensor) -> Tensor | None:
    """Sums of the model's own eager attention rows, [layer, batch, head, query]; None where it returns no attention."""
    from interp.tracing import streamed

    modules = [sites.attention(layer) for layer in range(sites.n_layers)]
    with torch.no_grad(), streamed.implementation(hf, modules, "eager"):
        attentions = hf(input_ids=ids, use_cache=False, output_attentions=True).attentions
    if not attentions or any(pattern is None for pattern in attentions):
        return None
    return torch.stack([pattern.float().sum(-1).to(ids.device) for pattern in attentions])


def _silencing(model: Any, layers: Sequence[int], ids: Tensor, scale: float, floor: float) -> tuple[float, list[int]]:
    """(smallest effect of silencing a layer, layers whose silencing does not stand out from rounding)."""
    from interp.tracing.calls import skip_logits
    from interp.tracing.tracer import trace

    batch = ids[:, :SILENCED_LENGTH].expand(len(layers) + 2, -1)  # the first row and the last are left alone
    with trace(model, edit=[_SilenceOneLayerPerRow(layers)]) as t:
        last = t.run(batch, **skip_logits(model)).logits[:, -1].float()
    changes = ((last - last[0]).abs().amax(-1) / scale).tolist()
    effects, noise = changes[FIRST_SILENCED:-1], changes[-1]
    weak = [layer for layer, effect in zip(layers, effects, strict=True) if not effect > max(10 * noise, floor)]
    return min(effects, default=0.0), weak


def refuse_unsupported(model_or_config: Any) -> None:
    """Refuse what is not a decoder language model with attention; takes a Hugging Face model, or only its config.

    Raises:
        LoadError: names the class and what it is: encoder-decoder, encoder-only, without attention, no language model.
    """
    from transformers.models.auto import modeling_auto as auto

    config = getattr(model_or_config, "config", model_or_config)
    text = config.get_text_config()
    stated = getattr(config, "architectures", None) or [type(config).__name__]
    name = type(model_or_config).__name__ if config is not model_or_config else str(stated[0])
    kind = str(getattr(text, "model_type", ""))
    works = "a decoder language model with attention works, such as LlamaForCausalLM or GPT2LMHeadModel"
    if getattr(config, "is_encoder_decoder", False):
        raise LoadError(f"{name} is an encoder-decoder; {works}.")
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(text, "is_decoder", False):
        raise LoadError(f"{name} is an encoder (it sees both sides of a token), not a causal language model; {works}.")
    if not getattr(text, "num_attention_heads", None):
        raise LoadError(f"{name} has no attention heads ({kind}), so there is no attention to look at; {works}.")
    known = {str(config.model_type), kind} & set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    if not known and not any(word in name for word in ("CausalLM", "LMHead")):  # remote code states its class only
        raise LoadError(f"{name} ({kind}) is not a causal language model; {works}.")
