"""How large a store will be, from shapes alone: for ``--dry-run``, and to tell a full disk before it is full."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interp.activations.index import Entry, SiteSpec, StoreError, inspect, read_index, read_records
from interp.activations.request import DEFAULT_SITES, settle, wanted
from interp.activations.writer import dtype_name
from interp.amounts import told
from interp.errors import LoadError
from interp.tracing.tracer import trace
from probes.base import Prompt

SPARE = 0.02
"""Share of a store's size beyond its tensors that is reckoned with: index, headers, prompts."""


@dataclass(frozen=True)
class Sizes:
    """What a call of capture would write.

    Attributes:
        model, source, out: names.
        sites: (name, dtype, shape of a row) of each.
        prompts, tokens: in all; rows: of what is not in the store yet.
        there: prompts that the store holds already.
        row_bytes: bytes a row, all sites together.
        bytes: size of what would be written.
        shards: how many files at the least.
        free: bytes free where it would be written; None where that cannot be told.
    """

    model: str
    source: str
    out: str
    sites: tuple[tuple[str, str, tuple[int, ...]], ...]
    positions: str
    prompts: int
    tokens: int
    rows: int
    there: int
    row_bytes: int
    bytes: int
    shards: int
    free: int | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        sites = [{"site": site, "dtype": dtype, "shape": list(shape)} for site, dtype, shape in self.sites]
        return {**asdict(self), "sites": sites}

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) for people."""
        first, last = self.sites[0], self.sites[-1]
        names = first[0] if len(self.sites) == 1 else f"{first[0]} ... {last[0]}"
        free = "" if self.free is None else f"; {told(self.free)} free"
        return [
            ("model", self.model),
            ("prompts", f"{self.prompts} from {self.source}, {self.tokens:,} tokens; {self.there} there already"),
            ("sites", f"{len(self.sites)} ({names}), {first[1]} {list(first[2])} a token of the first"),
            ("rows", f"{self.rows:,} ({self.positions} positions), {self.row_bytes:,} bytes each"),
            ("size", f"about {told(self.bytes)} in {self.shards} shard{'s' * (self.shards != 1)}{free}"),
            ("store", self.out),
        ]


def estimate(model: Any, out: str | os.PathLike[str], sites: Any = None, **request: Any) -> Sizes:
    """What `interp.capture` with these arguments would write; nothing is written, and weights are not loaded.

    Raises:
        UsageError, LoadError: as capture would, as far as can be told without the weights.
    """
    from interp.models.device import placement
    from interp.runs.outline import outline

    asked, folder = wanted(sites, **request), Path(out)
    inspect(folder)
    index = read_index(folder)
    settle(asked, index)
    options = {n: asked.load_options[n] for n in ("device", "dtype", "device_map") if n in asked.load_options}
    dtype, _, _ = placement(**options)
    sketched = outline(model, asked.load_options)
    on_meta = sketched.hf.get_input_embeddings().weight.device.type == "meta"
    if not on_meta or dtype == "auto":
        dtype = sketched.dtype
    if on_meta:
        sketched.hf.bfloat16()  # grouped experts run without values in this dtype alone; shapes are the same in any
    prompts = asked.prompts(sketched)
    names = sites_of(asked, index, sketched)
    positions, kept = settle(asked, index, names)
    specs = index.sites if index is not None else shapes(sketched, names, prompts[0], dtype_name(dtype), kept)
    known = {one.prompt.hash for one in entries_of(folder, index)}
    new = {prompt.hash: prompt for prompt in prompts if prompt.hash not in known}
    rows = rows_of(list(new.values()), positions)
    row_bytes = sum(spec.row_bytes for spec in specs)
    return Sizes(
        model=sketched.name,
        source=asked.source.told,
        out=str(folder),
        sites=tuple((spec.site, spec.dtype, spec.shape) for spec in specs),
        positions=positions,
        prompts=len(prompts),
        tokens=sum(len(prompt) for prompt in prompts),
        rows=rows,
        there=sum(prompt.hash in known for prompt in prompts),
        row_bytes=row_bytes,
        bytes=round(rows * row_bytes * (1 + SPARE)),
        shards=-(-rows * row_bytes // asked.shard_bytes),
        free=free_bytes(folder),
    )


def sites_of(asked: Any, index: Any, model: Any) -> tuple[str, ...]:
    """Full names of the sites that are to be captured, in the order of the forward pass."""
    if asked.patterns is None and index is not None:
        return tuple(spec.site for spec in index.sites)
    return model.sites.expand(asked.patterns or DEFAULT_SITES)


def entries_of(folder: Path, index: Any) -> list[Entry]:
    """Every prompt of a store; none of one that is not there yet."""
    shards = () if index is None else index.shards
    return [entry for number, shard in enumerate(shards) for entry in read_records(folder, number, shard)]


def rows_of(prompts: Sequence[Prompt], positions: str) -> int:
    """Rows that prompts take."""
    return len(prompts) if positions == "last" else sum(len(prompt) for prompt in prompts)


def shapes(model: Any, sites: Sequence[str], prompt: Prompt, dtype: str, kept: str) -> tuple[SiteSpec, ...]:
    """What a row of each site looks like, from a pass over two tokens of a model that may be without weights.

    What the attention function receives is not traced, for it would have to be computed; its shape follows from sites
    of the same layer.

    Raises:
        LoadError: the model does not run without its weights.
    """
    named = dtype if kept == "as-is" else kept
    given = {site: akin(model, site) for site in sites}
    read = sorted({one for one in given.values() if one is not None})
    try:
        with trace(model, read=read) as traced:
            traced.run(list(prompt.ids[:2]), use_cache=True)  # with a cache, transformers looks for no packed sequences
            found = {site: tuple(traced[site].shape[2:]) for site in read}
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise LoadError(
            f"{model.name}: {model.family} does not run without its weights ({' '.join(str(error).split())[:120]}), so "
            "sizes cannot be told beforehand; capture with --limit 1 to see"
        ) from error
    return tuple(SiteSpec(site, shape_of(model, site, given[site], found), named) for site in sites)


def akin(model: Any, site: str) -> str | None:
    """A site of the same width that is a module's input or output; None where there is none."""
    binding = model.sites.binding(site)
    sides = {"query": "attn.hook_q", "key": "attn.hook_k", "value": "attn.hook_z"}
    if binding.where not in sides:
        return site
    other = f"blocks.{binding.layer}.{sides[binding.where]}"
    known = other in model.sites.names() and model.sites.binding(other).where not in sides
    return other if known else None


def shape_of(model: Any, site: str, other: str | None, found: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of a row of `site`, that of `other` being known."""
    if site == other:
        return found[site]
    binding = model.sites.binding(site)
    count = model.sites.n_heads if binding.where == "query" else model.sites.n_kv_heads
    return (count(binding.layer), model.d_head if other is None else found[other][-1])


def require_space(folder: Path, specs: Sequence[SiteSpec], rows: int) -> None:
    """`StoreError` when what is to come does not fit on the disk."""
    needed, free = round(rows * sum(spec.row_bytes for spec in specs) * (1 + SPARE)), free_bytes(folder)
    if free is not None and needed > free:
        raise StoreError(
            f"{folder} would grow by about {told(needed)}, {told(free)} are free there; take fewer prompts, sites or "
            "--positions last, --dtype-store float16, or another --out"
        )


def free_bytes(folder: Path) -> int | None:
    """Bytes free on the disk of a folder that need not be there yet."""
    there = next((one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir()), None)
    try:
        return None if there is None else shutil.disk_usage(there).free
    except OSError:
        return None
