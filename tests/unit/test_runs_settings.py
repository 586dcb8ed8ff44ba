"""--set: strings to the types of a frozen config, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from interp.errors import UsageError
from interp.runs.settings import as_dict, describe, make_config, parse_pairs


@dataclass(frozen=True)
class Config:
    count: int = 3
    eps: float = 0.5
    flag: bool = False
    name: str = "x"
    rule: Literal["relative", "wong2025"] = "relative"
    size: Literal[1, 2] = 1
    window: int | None = None
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count={self.count}: expected 0 or more")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("count", "7", 7),
        ("count", "-0", 0),
        ("eps", "1e-3", 0.001),
        ("eps", "2", 2.0),
        ("flag", "yes", True),
        ("flag", "False", False),
        ("name", "a=b, c", "a=b, c"),
        ("name", "none", "none"),
        ("rule", "wong2025", "wong2025"),
        ("size", "2", 2),
        ("window", "none", None),
        ("window", "64", 64),
        ("pair", "3,4.5", (3, 4.5)),
        ("pair", "(3, 4)", (3, 4.0)),
        ("many", "1,2,3", (1, 2, 3)),
        ("many", "", ()),
    ],
)
def test_text_becomes_the_type_of_the_field(key: str, text: str, value: Any) -> None:
    config = make_config(Config, parse_pairs([f"{key}={text}"]), "sinks")
    got = getattr(config, key)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", "1.5"),
        ("count", "many"),
        ("count", True),
        ("count", 1.5),
        ("eps", "half"),
        ("eps", "inf"),
        ("eps", "-1e999"),
        ("eps", "nan"),
        ("eps", float("nan")),
        ("eps", 10**400),
        ("count", float("inf")),
        ("count", float("nan")),
        ("pair", "1,inf"),
        ("eps", None),
        ("flag", "maybe"),
        ("flag", 2),
        ("name", 5),
        ("rule", "wong"),
        ("size", "3"),
        ("window", "wide"),
        ("pair", "1"),
        ("pair", 4),
        ("many", "1,x"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        make_config(Config, {key: value}, "sinks")
    assert f"--set {key}={value}" in str(caught.value)
    assert describe(Config)[key] in str(caught.value)


def test_an_unknown_key_says_what_was_meant_and_lists_keys_with_types() -> None:
    with pytest.raises(UsageError) as caught:
        make_config(Config, {"rul": "x"}, "sinks")
    message = str(caught.value)
    assert "unknown setting of finder sinks 'rul'. Did you mean rule?" in message
    for text in (
        "count: int = 3",
        "eps: float = 0.5",
        "rule: relative|wong2025 = 'relative'",
        "window: int|none = None",
    ):
        assert text in message


def test_what_the_config_itself_refuses_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="count=-1: expected 0 or more"):
        make_config(Config, {"count": "-1"}, "sinks")


@pytest.mark.parametrize("pairs", [["eps"], ["=3"], ["eps=1", "eps=2"]])
def test_malformed_pairs(pairs: list[str]) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_pairs(pairs)


def test_python_values_and_the_record() -> None:
    config = make_config(Config, {"count": 4, "many": [5, 6], "eps": 1}, "sinks")
    assert config == Config(count=4, many=(5, 6), eps=1.0)
    assert as_dict(config)["many"] == [5, 6]
