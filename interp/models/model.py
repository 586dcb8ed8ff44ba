"""A loaded model: the user's own Hugging Face object, its tokenizer, its sites, and what stands at position 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch

from interp.errors import LoadError, UsageError
from interp.finders.base import ModelFacts
from interp.models.checkpoint import TOKENIZER_FILES
from interp.models.device import input_device
from interp.models.display import TokenDisplay
from interp.models.first_position import FirstPosition
from interp.models.hashing import template_hash, tokenizer_hash
from interp.models.sites import SiteMap
from probes.base import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["packaged", "hub", "folder", "gguf", "object", "bridge"]


@dataclass(frozen=True)
class Source:
    """Where a model came from, for provenance.

    Attributes:
        kind: how it was given.
        requested: what was asked for, as given (a name, or the class of an object).
        hub_id, revision: of a hub model; the revision is the resolved commit.
        path: folder or file the weights were read from.

    The hashes (`interp.models.hashing`) are computed when first asked for: they cost seconds on large models.
    """

    kind: Kind
    requested: str
    hash_weights: Callable[[], str] = field(repr=False, compare=False)
    tokenizer: Any = field(repr=False, compare=False)
    hub_id: str | None = None
    revision: str | None = None
    path: str | None = None

    @cached_property
    def weight_hash(self) -> str:
        """SHA-256 of the weights: of the files, or of the parameters of an object."""
        return self.hash_weights()

    @cached_property
    def tokenizer_hash(self) -> str | None:
        """Hash of the tokenizer's serialisation; None without one."""
        return tokenizer_hash(self.tokenizer)

    @cached_property
    def template_hash(self) -> str | None:
        """Hash of the chat template; None without one."""
        return template_hash(self.tokenizer)

    def as_dict(self) -> dict[str, str | None]:
        """JSON-able, weight hash included."""
        return {
            "kind": self.kind,
            "requested": self.requested,
            "hub_id": self.hub_id,
            "revision": self.revision,
            "path": self.path,
            "weight_hash": self.weight_hash,
            "tokenizer_hash": self.tokenizer_hash,
            "template_hash": self.template_hash,
        }


@dataclass(eq=False)
class Model:
    """A causal language model ready to be looked into. `interp.load` makes one; nothing in `hf` is changed.

    Attributes:
        hf: the Hugging Face model, in evaluation mode.
        tokenizer: its tokenizer; None for an object given without one, which can only be fed token ids.
        name: display name (untrusted text).
        source: where it came from.
        bos, chat: the policies texts are encoded with, as requested.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    name: str
    source: Source
    bos: str = "auto"
    chat: bool = False

    def __post_init__(self) -> None:
        if self.tokenizer is None and (self.chat or self.bos != "auto"):
            raise LoadError(f"bos={self.bos!r}, chat={self.chat} need a tokenizer: {self._no_tokenizer()}")
        self._display = TokenDisplay(self.tokenizer)
        self._first = (
            None
            if self.tokenizer is None
            else FirstPosition(self.tokenizer, self.bos, self.chat, getattr(self.config, "bos_token_id", None))
        )

    def _no_tokenizer(self) -> str:
        """Why there is none, and what to do about it."""
        if self.source.path is None:
            return f"{self.name} was given without a tokenizer; pass tokenizer=..., or feed token ids"
        return (
            f"{self.name} is without a tokenizer: {self.source.path} holds none of {', '.join(TOKENIZER_FILES)}; put "
            "the model's tokenizer files there (in Python, tokenizer=... takes them from elsewhere)"
        )

    @cached_property
    def sites(self) -> SiteMap:
        """Every site this model has, in TransformerLens's words."""
        return SiteMap(self.hf)

    @property
    def config(self) -> Any:
        """The text model's configuration."""
        return self.hf.config.get_text_config()

    @property
    def n_layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def n_heads(self) -> int:
        """Query heads a layer (the config's figure; `sites.n_heads(layer)` where layers differ)."""
        return int(self.config.num_attention_heads)

    @property
    def d_model(self) -> int:
        return int(self.config.hidden_size)

    @property
    def d_head(self) -> int:
        return int(getattr(self.config, "head_dim", None) or self.d_model // self.n_heads)

    @property
    def _embedding(self) -> Any:
        return self.hf.get_input_embeddings()

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding matrix: ids from 0 to this, exclusive, can be fed."""
        return int(self._embedding.weight.shape[0])

    @property
    def max_positions(self) -> int | None:
        """Longest input the config allows; None when it states no limit (ALiBi)."""
        limit = getattr(self.config, "max_position_embeddings", None)
        return int(limit) if isinstance(limit, int) and limit > 0 else None

    @property
    def family(self) -> str:
        return str(self.config.model_type)

    @property
    def architecture(self) -> str:
        return type(self.hf).__name__

    @property
    def device(self) -> torch.device:
        """Where input ids go."""
        return input_device(self.hf)

    @property
    def dtype(self) -> torch.dtype:
        return self.hf.dtype

    @cached_property
    def position0(self) -> str:
        """One phrase: what stands at position 0, and why."""
        if self._first is None:
            return "the first id given (no tokenizer)"
        return self._first.describe(self._display)

    def encode(self, text: str, *, name: str = "text", max_length: int | None = None) -> Prompt:
        """Tokenise one text under the model's BOS and chat policy.

        Args:
            text: the text; with ``chat`` it becomes a single user turn.
            name: label of the prompt.
            max_length: keep this many ids from the front (BOS included).

        Raises:
            UsageError: nothing is left to feed, it is longer than the model takes, or ``max_length`` is not positive.
            LoadError: the model has no tokenizer.
        """
        if self._first is None:
            raise LoadError(f"prompt {name!r} cannot be read: {self._no_tokenizer()}")
        if max_length is not None and max_length < 1:
            raise UsageError(f"max_length must be at least 1, not {max_length}")
        ids = self._first.encode(text)
        truncated = max_length is not None and len(ids) > max_length
        ids = ids[:max_length]
        if not ids:
            raise UsageError(f"prompt {name!r} is empty: {len(text)} characters give no token ({self.position0})")
        if self.max_positions is not None and len(ids) > self.max_positions:
            raise UsageError(
                f"prompt {name!r} has {len(ids)} tokens, {self.name} takes {self.max_positions}; "
                "set a maximum length up to that"
            )
        if max(ids) >= self.vocab_size:
            raise LoadError(
                f"prompt {name!r} holds token id {max(ids)}, but {self.name} has {self.vocab_size} embeddings: "
                "the tokenizer does not belong to this model"
            )
        return Prompt(name=name, text=text, ids=tuple(ids), tokens=self.decode_tokens(ids), truncated=truncated)

    def decode_tokens(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Display strings, one a token (untrusted text)."""
        return self._display(ids)

    def facts(self) -> ModelFacts:
        """What a pure phase of a finder may know."""
        return ModelFacts(
            name=self.name,
            family=self.family,
            architecture=self.architecture,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_model=self.d_model,
            chat=self.chat,
            position0=self.position0,
            hub_id=self.source.hub_id,
        )

    def bridge(self) -> Any:
        """A TransformerLens ``TransformerBridge`` over a deep copy of the model; the model itself is left alone."""
        from interp.models.bridged import bridged

        return bridged(self.hf, self.tokenizer)
