"""From a checked checkpoint or GGUF file to a model and tokenizer, with every failure told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interp.errors import InterpError, LoadError
from interp.models.checkpoint import Checkpoint
from interp.models.gguf_files import gguf_model, gguf_tokenizer, read_header
from interp.models.loading_report import check_complete, one_line
from interp.models.quiet import quiet


def read_checkpoint(checkpoint: Checkpoint, *, dtype: Any, placement: Any, trust_remote_code: bool) -> Any:
    """Load the weights of a checkpoint folder.

    Raises:
        LoadError: not a causal language model, weights that do not fit the config, or whatever transformers could not
        read.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = str(checkpoint.folder)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds; all of them mean the config is unusable
        raise LoadError(f"{folder}: config.json is not one transformers can use: {one_line(error)}") from None
    _refuse(config, folder)
    options: dict[str, Any] = {} if placement is None else {"device_map": placement}
    if getattr(config, "attn_logit_softcapping", None):
        options["attn_implementation"] = "eager"  # transformers before 5.22 lets sdpa run these and drop the soft cap
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                use_safetensors=not checkpoint.pickled,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that `check_complete` can name them; none is let through
                **options,
            )
    except Exception as error:  # as above
        raise LoadError(f"{folder} could not be loaded: {one_line(error)}") from None
    model, info = loaded
    check_complete(info, folder)
    return model.eval()


def _refuse(config: Any, where: str) -> None:
    from interp.models.self_check import refuse_unsupported

    try:
        refuse_unsupported(config)
    except InterpError as error:
        raise LoadError(f"{where}: {error}") from None


def read_tokenizer(where: str | Path, trust_remote_code: bool = False, revision: str | None = None) -> Any:
    """A tokenizer from a folder (or hub id)."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(
                str(where), trust_remote_code=trust_remote_code, revision=revision or "main"
            )
    except Exception as error:  # tokenizers raises bare Exception on a corrupt tokenizer.json
        raise LoadError(f"the tokenizer in {where} could not be read: {one_line(error)}") from None


def read_gguf(path: Path, dtype: Any, placement: Any) -> tuple[Any, Any]:
    """(model, tokenizer) of a GGUF file."""
    try:
        with path.open("rb") as handle:
            magic = handle.read(4)
    except OSError as error:
        raise LoadError(f"{path} could not be opened: {error.strerror}") from None
    if magic != b"GGUF":
        raise LoadError(f"{path} is not a GGUF file: it starts with {magic!r}")
    try:
        header = read_header(path)
    except Exception as error:  # GGUFReader trips over a short file in many ways
        raise LoadError(f"{path} is not a whole GGUF file ({one_line(error)}): truncated or corrupt") from None
    if int(header.get("split.count", 1)) > 1:
        raise LoadError(
            f"{path} is one part of a GGUF file in {header['split.count']} parts; merge them into one file first"
        )
    kind = header.get("general.architecture")
    try:
        with quiet():
            tokenizer = gguf_tokenizer(path)
            model, info = gguf_model(path, dtype, placement)
    except Exception as error:  # transformers: unsupported architecture, tensors that do not fit
        raise LoadError(f"{path} (GGUF architecture {kind!r}) could not be loaded: {one_line(error)}") from None
    check_complete(info, str(path))
    _refuse(model.config, str(path))
    return model, tokenizer
