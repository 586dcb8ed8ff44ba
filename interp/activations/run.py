"""`capture`: stream a model's activations at chosen sites into a store, prompt by prompt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.activations.index import SHARDS, Index, StoreError, forget, inspect, read_index, write_index
from interp.activations.request import ELSEWHERE, SHARD_SIZE, same_model, settle, wanted
from interp.activations.shards import damage
from interp.activations.sizes import entries_of, require_space, rows_of, sites_of
from interp.activations.store import Store, labels_of, open_store
from interp.activations.writer import Writer, stored
from interp.errors import UsageError
from interp.runs import progress as reporting
from interp.runs import provenance
from interp.runs.lock import locked
from interp.runs.store import plain
from probes.base import Prompt


def capture(
    model: Any,
    out: str | os.PathLike[str],
    sites: str | Sequence[str] | None = None,
    *,
    texts: str | Mapping[str, str] | Sequence[str | tuple[str, str]] | None = None,
    text_files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    prompts: str | os.PathLike[str] | Sequence[Prompt] | None = None,
    probe: str | None = None,
    probe_set: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    positions: str | None = None,
    dtype_store: str | None = None,
    shard_size: str | int = SHARD_SIZE,
    repair: bool = False,
    progress: bool = True,
    command: str | None = None,
    **load_options: Any,
) -> Store:
    """Capture activations into the store `out`, a new one or one to add to; returns it, opened.

    A prompt is known by its token ids: what is in the store already is not captured again. The same call after a kill
    goes on behind the last whole shard.

    Args:
        model: anything `interp.load` takes.
        out: folder of the store.
        sites: names or patterns, ``blocks.*.hook_resid_post`` by default; a store keeps to those it was made with.
        texts, text_files, prompts, probe, probe_set, max_length, limit, seed: as `interp.scan` takes them.
        positions: ``all`` (default) or ``last``: which positions of a prompt are kept.
        dtype_store: ``as-is`` (default), ``float16``, ``bfloat16`` or ``float32``.
        shard_size: how large a file gets, and how much is held in memory beside what one prompt gives.
        repair: read the whole store, forget shards that are damaged, and capture their prompts again.
        progress: report on stderr.
        command: what to record as the command line; default: this process's own.
        load_options: ``device``, ``dtype``, ``bos``, ... for `interp.load`.

    Raises:
        UsageError: the request is malformed, or does not go with what the store holds.
        NumbersError: an activation that is not finite, or too large for `dtype_store`; what came before it is kept.
        StoreError: the store cannot be written, is damaged, or would not fit on the disk.
        LoadError, SelfCheckError: the model cannot be loaded or trusted.
    """
    from interp.runs.scan import load_checked

    asked = wanted(
        sites,
        texts=texts,
        text_files=text_files,
        prompts=prompts,
        probe=probe,
        probe_set=probe_set,
        max_length=max_length,
        limit=limit,
        seed=seed,
        positions=positions,
        dtype_store=dtype_store,
        shard_size=shard_size,
        **load_options,
    )
    folder = Path(out)
    inspect(folder)
    settle(asked, read_index(folder))  # what does not go together is better known before a model is loaded
    started = provenance.now()
    with reporting.choose(quiet=not progress) as told:
        loaded, checked = load_checked(model, load_options, told)
        ready = asked.prompts(loaded)
        told.say(f"{loaded.name}: {len(ready)} prompts from {asked.source.told}; position 0: {loaded.position0}")
        sites_of(asked, read_index(folder), loaded)  # as above: no folder is made for a site that is not there
        prepare(folder)
        with locked(folder):
            index = whole_index(folder, repair, told)
            same_model(index, provenance.weights_identity(loaded))
            names = sites_of(asked, index, loaded)
            kept_positions, kept_dtype = settle(asked, index, names)
            call = {
                "dtype_store": kept_dtype,
                "source": asked.source.told,
                "limit": limit,
                "max_length": asked.max_length,
                "seed": seed,
                "started": started,
                "versions": provenance.versions(),
                "host": provenance.describe_host(),
                **provenance.checkout(),
                "command": provenance.command_line() if command is None else command,
            }
            base = index or Index(
                provenance.weights_identity(loaded),
                kept_positions,
                (),
                model=plain(provenance.model_facts(loaded, checked)),
            )
            writer = Writer(folder, base, call, asked.shard_bytes)
            writer.sweep()
            fill(writer, loaded, names, new_prompts(folder, index, ready), ready, kept_dtype, told)
    return open_store(folder)


def prepare(folder: Path) -> None:
    """Make the folder of a store.

    Raises:
        StoreError: it cannot be made or written to.
    """
    try:
        (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot use {folder} as an activation store: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK | os.X_OK) or not os.access(folder / SHARDS, os.W_OK | os.X_OK):
        raise StoreError(f"cannot use {folder} as an activation store: it is not writable")


def whole_index(folder: Path, repair: bool, told: reporting.Progress) -> Index | None:
    """The index, with nothing damaged in it; None of a new store.

    Raises:
        StoreError: a shard is damaged and `repair` is off.
    """
    index = read_index(folder)
    if index is None:
        return None
    broken = [one for shard in index.shards if (one := damage(folder, index, shard, digests=repair))]
    if not broken:
        return index
    lost = sum(one.prompts for one in broken)
    if not repair:
        raise StoreError(
            f"{folder} is damaged: {broken[0].why}; with --repair, {len(broken)} shard(s) of {lost} prompts are "
            "forgotten, and those among this call's prompts captured again"
        )
    told.say(f"forgetting {len(broken)} damaged shard(s) with {lost} prompts: {', '.join(one.shard for one in broken)}")
    index = forget(index, {one.shard for one in broken})
    write_index(folder, index)
    return index


def new_prompts(folder: Path, index: Index | None, ready: Sequence[Prompt]) -> dict[str, Prompt]:
    """Prompts that the store does not hold, by hash, under names that no other one there has.

    Raises:
        UsageError: the same tokens come with another label or answer than they have already.
    """
    entries = entries_of(folder, index)
    known = {one.prompt.hash: one.prompt for one in entries}
    names, new = {one.prompt.name for one in entries}, {}
    for prompt in ready:
        other = known.get(prompt.hash)
        if other is None:
            name, number = prompt.name, 1
            while name in names:
                number += 1
                name = f"{prompt.name} ({number})"
            names.add(name)
            known[prompt.hash] = new[prompt.hash] = prompt if name == prompt.name else replace(prompt, name=name)
            continue
        for what, mine in labels_of(prompt).items():
            theirs = labels_of(other)[what]
            if plain(mine) != plain(theirs):  # what is in the store has been through JSON
                raise UsageError(
                    f"prompt {prompt.name!r} is token for token {other.name!r}, which has {what} {theirs!r}, not "
                    f"{mine!r}: activations are stored once; give labels to interp.activations.probe, or {ELSEWHERE}"
                )
    return new


def fill(
    writer: Writer,
    model: Any,
    sites: Sequence[str],
    new: Mapping[str, Prompt],
    ready: Sequence[Prompt],
    dtype_store: str,
    told: reporting.Progress,
) -> None:
    """Capture the prompts in `new`; progress counts all that are `ready`.

    However it ends, the prompts that were captured whole are committed.
    """
    import torch

    from interp.tracing.calls import skip_logits
    from interp.tracing.tracer import trace

    dtype = None if dtype_store == "as-is" else getattr(torch, dtype_store)
    logits = {} if "unembed.hook_out" in sites else skip_logits(model)
    left, done = dict(new), 0
    told.start("capturing", len(ready))
    try:
        for prompt in ready:
            here = left.pop(prompt.hash, None)
            if here is not None:
                rows = None if writer.index.positions == "all" else [len(here) - 1]
                with trace(model, read=sites) as traced:
                    traced.run(list(here.ids), **logits)
                    values = {site: stored(traced[site], dtype, site, here, rows) for site in sites}
                writer.add(here, values)
                if not done:  # the first one tells the shapes
                    require_space(
                        writer.folder, writer.index.sites, rows_of(list(left.values()), writer.index.positions)
                    )
                done += 1
            told.step(prompt.name, here is None)
    except StoreError:
        raise  # the disk refused, or would
    except BaseException:
        writer.commit()
        raise
    writer.commit()
