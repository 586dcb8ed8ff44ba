"""Prompts from files: what is accepted, and that every refusal names file, line and what would have worked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from probes.prompts_file import read_prompts, read_text


def write(folder: Path, data: bytes | str) -> Path:
    path = folder / "prompts.jsonl"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_names_extra_and_line_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, '{"text": "One.", "name": "first"}\n\n  \n{"text": " Two ", "answer": 2, "name": null}')
    assert read_prompts(path) == [("first", "One.", {}), ("prompts.jsonl:4", " Two ", {"answer": 2})]
    assert read_prompts(str(path)) == read_prompts(path)


def test_bom_windows_line_ends_and_unicode(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + '{"text": "né\u2028e"}\r\n{"text": "\\u00e9\\nb"}\r\n'.encode())
    assert [text for _, text, _ in read_prompts(path)] == ["né\u2028e", "é\nb"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", r"line 2: not valid JSON .*\{\"text\": "),
        ("[" * 100_000, r"line 2: not valid JSON"),
        ('["a"]', r"line 2: a JSON array instead of an object; expected"),
        ('"a"', r"line 2: a JSON string instead"),
        ("null", r"line 2: a JSON null instead"),
        ("true", r"line 2: a JSON boolean instead"),
        ("{}", r"line 2: no 'text' in this object \(found no keys at all\)"),
        ('{"prompt": "a"}', r"line 2: no 'text' in this object \(found 'prompt'\); expected"),
        ('{"text": 3}', r"line 2: 'text' is a JSON number; it must be a string"),
        ('{"text": null}', r"line 2: 'text' is a JSON null"),
        ('{"text": " \\n"}', r"line 2: 'text' is blank"),
        ('{"text": "a\\ud800"}', r"line 2: 'text' holds half of a surrogate pair"),
        ('{"text": "a", "name": ["b"]}', r"line 2: 'name' is a JSON array"),
        ('{"text": "a", "name": ""}', r"line 2: 'name' is blank"),
    ],
)
def test_bad_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, '{"text": "fine"}\n' + line)
    with pytest.raises(UsageError, match=message) as caught:
        read_prompts(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no prompts in this file; expected one JSON object a line"),
        (b"\n \r\n", "no prompts in this file"),
        ('{"text": "a"}'.encode("utf-16"), "UTF-16; save it as UTF-8"),
        (b'{"text": "a"}\n{"text": "\xe9"}', r"line 2: not UTF-8 \(byte 0xe9 at offset 10\); save the file as UTF-8"),
    ],
)
def test_bad_file(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_prompts(write(tmp_path, data))


def test_unreadable(tmp_path: Path) -> None:
    for reader in (read_prompts, read_text):
        with pytest.raises(UsageError, match=r"cannot read .*absent: No such file"):
            reader(tmp_path / "absent")
        with pytest.raises(UsageError, match=r"cannot read"):
            reader(tmp_path)


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_bytes(b"\xef\xbb\xbfOne.\r\nTwo.\n")
    assert read_text(path) == ("story.txt", "One.\r\nTwo.\n")
    path.write_bytes(b" \n")
    with pytest.raises(UsageError, match="this text file is blank"):
        read_text(path)
    path.write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"story\.txt: not UTF-8"):
        read_text(path)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1, max_size=5)
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives(tmp_path: Path, texts: list[str]) -> None:
    for ascii_only in (True, False):
        path = write(tmp_path, "\n".join(json.dumps({"text": text}, ensure_ascii=ascii_only) for text in texts))
        assert [text for _, text, _ in read_prompts(path)] == texts


@given(st.binary(max_size=60))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_are_prompts_or_a_usage_error(tmp_path: Path, data: bytes) -> None:
    try:
        prompts = read_prompts(write(tmp_path, data))
    except UsageError as error:
        assert "prompts.jsonl" in str(error)
    else:
        assert all(text.strip() for _, text, _ in prompts)
