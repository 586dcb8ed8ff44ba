"""Progress off a terminal: few lines, an ETA that leaves out what was on disk, nothing that steers a terminal."""

from __future__ import annotations

import io

from interp.runs.progress import Bar, Plain, Silent, choose, duration
from interp.text import file_name, printable


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_at_intervals_with_an_eta() -> None:
    stream, clock = io.StringIO(), Clock()
    told = Plain(stream, interval=10, clock=clock)
    told.start("measuring", 100)
    for number in range(100):
        clock.now += 1.0
        told.step(f"p{number}", stored=False)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "measuring: 100 prompts"
    assert lines[1] == "measuring: 10/100, 1 min 30 s left"
    assert lines[-1] == "measuring: 100/100 done in 1 min 40 s"
    assert len(lines) == 11


def test_what_was_on_disk_says_nothing_about_speed() -> None:
    stream, clock = io.StringIO(), Clock()
    told = Plain(stream, interval=10, clock=clock)
    told.start("measuring", 100)
    for _ in range(90):
        told.step("p", stored=True)
    clock.now += 10.0
    told.step("p", stored=False)
    assert stream.getvalue().splitlines()[-1] == "measuring: 91/100, 1 min 30 s left"
    for _ in range(9):
        told.step("p", stored=False)
    assert stream.getvalue().splitlines()[-1].endswith("90 of them on disk already")


def test_the_reporter_fits_where_stderr_goes() -> None:
    assert isinstance(choose(quiet=True), Silent)
    assert isinstance(choose(quiet=False), Plain)  # under pytest stderr is no terminal


def test_a_bar_on_a_terminal_counts_and_shows_names_as_they_are() -> None:
    from rich.console import Console

    stream = io.StringIO()
    with Bar(Console(file=stream, force_terminal=True, width=100)) as told:
        told.start("measuring", 2)
        told.step("[red]a[/red]\x07", stored=False)
        told.say("half [bold]way[/bold]")
        told.step("b", stored=True)
        told.start("checking", 1)
        told.step("b", stored=False)
    shown = stream.getvalue()
    for text in ("measuring", "1/2", "2/2", "checking", "half [bold]way[/bold]", "[red]a[/red]\\x07"):
        assert text in shown


def test_durations() -> None:
    assert [duration(s) for s in (0.25, 42, 185, 7800)] == ["0.2 s", "42 s", "3 min 05 s", "2 h 10 min"]


def test_untrusted_text_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31mb\nc\u202e\ud800é") == "a\\x1b[31mb\\nc\\u202e\\ud800é"
    assert printable("abcdef", 4) == "abc…"


def test_file_names_cannot_leave_their_folder() -> None:
    for text in (
        "../../etc/passwd",
        "..",
        "",
        "C:\\x",
        ".hidden",
        "a/b",
        "\x00",
        "Qwen/Qwen3 14B",
        "ü" * 300,
        "x" * 300,
    ):
        name = file_name(text)
        assert name and len(name) <= 60 and not name.startswith((".", "-")) and not set(name) & set("/\\:\x00 ")
    assert file_name("Qwen/Qwen3 14B") == "qwen-qwen3-14b"
