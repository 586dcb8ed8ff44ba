"""Where a scan's prompts come from: texts, text files, a JSONL file, ready prompts, or a probe; one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.registry import PROBES
from interp.runs.run import distinct_names
from interp.runs.settings import describe_probe, set_probe
from probes.base import Prompt
from probes.pair_base import OwnPairs

DEFAULT_PROBE = TEXT = "text"
PAIRS = "pairs"
"""The probe that reads own pairs."""
_SHAPE = (
    'expected one JSON object a line, such as {"text": "The cat sat.", "name": "cat"}, or of pairs {"clean": "The keys '
    'to the cabinet", "corrupt": "The key to the cabinet", "answer": " are", "wrong": " is"}'
)
_KEYS = {TEXT: "a text ('text')", PAIRS: "a pair ('clean', 'corrupt')"}
PLAIN = ("text", "repeated", "repeated-segment", "random", "problems", "problem-statements")
"""Probes whose prompts carry no task for a finder to measure."""
MIN_TOKENS = 2  # a single token attends to nothing but itself

Encode = Callable[[Any, "int | None", "int | None", int], Sequence[Prompt]]


@dataclass(frozen=True)
class Source:
    """A source that has been read and checked, before any model is loaded.

    Attributes:
        told: one phrase for people, e.g. ``2 text files``.
        encode: (model, limit, max_length, seed) -> prompts.
        settings: those of the probe that makes them, all that are used, as they are in effect.
        plain: name of one of its prompts, where it is known that they carry no task; else empty.
    """

    told: str
    encode: Encode
    settings: dict[str, Any] = field(default_factory=dict)
    plain: str = ""

    def prompts(self, model: Any, limit: int | None, max_length: int | None, seed: int) -> tuple[Prompt, ...]:
        """Prompts for one model, under distinct names; `UsageError` when there is none or one is too short to scan."""
        prompts = distinct_names(list(self.encode(model, limit, max_length, seed)))
        if not prompts:
            raise UsageError(f"no prompts in {self.told}")
        for prompt in prompts:
            if len(prompt) < MIN_TOKENS:
                raise UsageError(
                    f"prompt {prompt.name!r} has {len(prompt)} token(s); a scan needs at least {MIN_TOKENS}"
                )
        return prompts


def choose(
    texts: str | Mapping[str, str] | Sequence[str | tuple[str, str]] | None = None,
    text_files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    prompts: str | os.PathLike[str] | Sequence[Prompt] | None = None,
    probe: str | None = None,
    *,
    default: str = DEFAULT_PROBE,
    probe_set: Mapping[str, Any] | None = None,
) -> Source:
    """The one source that was given, read and checked; the probe `default` when none was.

    A prompts file is read by that probe where it has a way of its own to (`read`, `from_records`). Of a finder that
    takes any text, a file holds texts or pairs, which their keys tell apart.

    Args:
        probe_set: settings of the probe to change.

    Raises:
        UsageError: two sources at once, an unknown probe or setting, or a text or file that cannot be used.
    """
    given = {"--text": texts, "--text-file": text_files, "--prompts": prompts, "--probe": probe}
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} given together; choose one source of prompts")
    file = Path(prompts) if isinstance(prompts, str | os.PathLike) else None
    reader = None if file is None else reader_of(default)
    if probe_set and (named or ["--probe"]) != ["--probe"] and reader is None:
        raise UsageError(f"--probe-set goes with a probe, and {named[0]} is none; leave one of them out")
    if texts is not None:
        return _of_texts(_named(texts), "--text")
    if text_files is not None:
        return _of_files(text_files)
    if file is not None and reader is not None:
        return _of_records(file, reader, probe_set or {})
    if file is not None:
        return _of_file(file)
    if prompts is not None:
        return _of_prompts(prompts)
    return _of_probe(probe or default, probe_set or {})


def _named(texts: Any) -> list[tuple[str, str]]:
    if isinstance(texts, str):
        return [("text", texts)]
    if isinstance(texts, Mapping):
        return list(texts.items())
    plain = list(texts)
    return [
        item if isinstance(item, tuple) else (f"text {i}" if len(plain) > 1 else "text", item)
        for i, item in enumerate(plain)
    ]


def _of_texts(texts: Sequence[tuple[str, str] | tuple[str, str, dict[str, Any]]], told: str) -> Source:
    for name, text, *_ in texts:
        if not isinstance(text, str):
            raise UsageError(f"{told}: {name!r} is a {type(text).__name__}, not text")
        if not text.strip():
            raise UsageError(f"{told}: {name!r} is empty; it needs at least one word")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError(f"{told}: {name!r} is not UTF-8 text") from None

    def encode(model: Any, limit: int | None, max_length: int | None, seed: int) -> Sequence[Prompt]:
        from probes.text import from_texts

        return from_texts(model, texts[:limit], max_length)

    return Source(
        f"{len(texts)} text{'s' if len(texts) != 1 else ''} ({told})", encode, plain=texts[0][0] if texts else ""
    )


def _of_files(paths: Any) -> Source:
    from probes.prompts_file import read_text

    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return _of_texts([read_text(Path(path)) for path in listed], "--text-file")


def _of_file(path: Path) -> Source:
    """Texts or pairs, one a line; read once, for it may be a pipe."""
    from probes import pairs_file
    from probes.prompts_file import read_records, take_name, take_string

    lines = list(read_records(path, _SHAPE))
    kinds = [(where, kind) for where, _, line in lines if (kind := kind_of(line, where))]
    for where, kind in kinds:
        if kind != kinds[0][1]:
            raise UsageError(
                f"{where}: {_KEYS[kind]}, but {kinds[0][0].rpartition(', ')[2]} has {_KEYS[kinds[0][1]]}; give texts "
                "and pairs in files of their own"
            )
    if not kinds or kinds[0][1] == TEXT:
        texts = [
            (take_string(line, TEXT, where, _SHAPE), take_name(line, where, name), line) for where, name, line in lines
        ]
        return _of_texts([(name, text, line) for text, name, line in texts], f"--prompts {path}")
    return _records([pairs_file.record(line, where, name) for where, name, line in lines], PROBES.get(PAIRS), path, {})


def kind_of(line: Mapping[str, Any], where: str) -> str:
    """`TEXT` or `PAIRS`, by the keys of a line of a prompts file; empty where they tell nothing.

    Raises:
        UsageError: it has the keys of both.
    """
    pair = {"clean", "corrupt"} & line.keys()
    if TEXT in line and len(pair) == 2:
        raise UsageError(f"{where}: {_KEYS[TEXT]} and {_KEYS[PAIRS]} in one line; which is meant? Leave the other out")
    return TEXT if TEXT in line else PAIRS if pair else ""


def _of_prompts(prompts: Any) -> Source:
    ready = list(prompts)
    wrong = [type(prompt).__name__ for prompt in ready if not isinstance(prompt, Prompt)]
    if wrong:
        raise UsageError(
            f"prompts: expected a JSONL file or Prompt objects, got {wrong[0]}; for plain text use texts=[...]"
        )

    def encode(model: Any, limit: int | None, max_length: int | None, seed: int) -> Sequence[Prompt]:
        long = [prompt for prompt in ready if max_length is not None and len(prompt) > max_length]
        if long:
            raise UsageError(
                f"prompt {long[0].name!r} has {len(long[0])} tokens, more than max_length={max_length}; "
                "ready prompts are not cut: raise max_length"
            )
        return ready[:limit]

    return Source(f"{len(ready)} prompts", encode)


def reads_tasks(name: str) -> bool:
    """Whether a probe's prompts carry tasks, of which it reads a user's own too."""
    return callable(getattr(PROBES.get(name), "read", None))


def reader_of(default: str) -> str | None:
    """The probe that reads a prompts file for a finder whose own probe is `default`; None: the file's keys tell.

    Own pairs are the same whichever probe of pairs reads them, and use none of its settings.
    """
    read = getattr(type(PROBES.get(default)), "read", None)
    return None if not reads_tasks(default) else PAIRS if read is OwnPairs.read else default


def _of_records(path: Path, name: str, settings: Mapping[str, Any]) -> Source:
    """A file in the form that a probe reads itself."""
    plain = PROBES.get(name)
    used = getattr(plain, "for_records", tuple(describe_probe(plain)))
    for setting in settings:
        if setting in describe_probe(plain) and setting not in used:
            raise UsageError(
                f"--probe-set {setting}: own material (--prompts {path}) does not use it; it uses "
                f"{', '.join(used) or 'no settings'}"
            )
    probe = set_probe(plain, settings, name)
    effect = {setting: value for setting, value in _settings(probe).items() if setting in used}
    return _records(probe.read(path), probe, path, effect)


def _records(records: Sequence[Any], probe: Any, path: Path, settings: dict[str, Any]) -> Source:
    """What a probe has read."""

    def encode(model: Any, limit: int | None, max_length: int | None, seed: int) -> Sequence[Prompt]:
        return probe.from_records(model, records, limit=limit, max_length=max_length)

    n = len(records)
    kind = f"pair{'s' * (n != 1)}" if probe.name == PAIRS else f"{probe.name} prompts"
    return Source(f"{n} {kind} (--prompts {path})", encode, settings)


def _settings(probe: Any) -> dict[str, Any]:
    return {name: getattr(probe, name) for name in describe_probe(probe)}


def _of_probe(name: str, settings: Mapping[str, Any]) -> Source:
    probe = set_probe(PROBES.get(name), settings, name)

    def encode(model: Any, limit: int | None, max_length: int | None, seed: int) -> Sequence[Prompt]:
        return probe.prompts(model, limit=limit, max_length=max_length, seed=seed)

    return Source(f"probe {name}", encode, _settings(probe), plain=name if name in PLAIN else "")
