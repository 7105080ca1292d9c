"""The live screen: what it draws, what its keys do, and that it fits."""

from __future__ import annotations

import io
import math
import os
import pty
import sys
from types import SimpleNamespace

import msgspec
import pytest
from rich.cells import cell_len

from rtsep.cli import keys, report
from rtsep.cli.play import Stop
from rtsep.cli.screen import LOWEST_DB, TOP_DB, Faders, Screen, step
from rtsep.engine.stats import Stats

STATS = Stats(
    samplerate=44100,
    device_samplerate=48000,
    hop_frames=512,
    hops=123456,
    late=1,
    hop_ms_p50=0.42,
    hop_ms_p99=0.81,
    hop_ms_max=13.2,
    latency_frames=1024,
    latency_ms=23.2,
    device_latency_ms=10.0,
    peak_in_db=(-3.0, -12.0),
    peak_vocals_db=(-20.0, -30.0),
    peak_music_db=(-math.inf, -25.0),
    peak_out_db=(1.0, -90.0),
    vocals_db=-math.inf,
    state="playing",
    input="a very long name of a device that somebody has bought somewhere, number 12",
    output="speakers",
    separator="koretzky",
    recording="/a/folder/with/a/very/long/name/that/does/not/fit/into/one/line/of/eighty/columns/at/all",
    messages=tuple(
        "a message that is longer than eighty columns, as messages of systems so often are: " * 2 for _ in range(9)
    ),
)


class FakeSession:
    """The part of a session that the faders use."""

    def __init__(self, *parts: str) -> None:
        self.values: dict[str, float] = {"vocals_db": 0.0, "music_db": 0.0, "bypass": 0.0}
        self.values |= {f"{part}_db": 0.0 for part in parts}
        self.separator = SimpleNamespace(parts=parts)

    def get(self, name: str) -> float:
        return self.values[name]

    def set(self, name: str, value: float) -> None:
        self.values[name] = value


def drawn(stats: Stats) -> list[str]:
    screen = Screen(io.StringIO())
    screen.duration = 600.0
    return screen.draw(stats).plain.split("\n")


PARTS_DB = {"drums": -12.0, "bass": -math.inf, "other": 3.0}


@pytest.mark.parametrize("parts_db", [{}, PARTS_DB])
def test_fits_80_by_24(parts_db: dict[str, float]) -> None:
    lines = drawn(msgspec.structs.replace(STATS, parts_db=parts_db))
    assert len(lines) <= 24
    assert max(map(cell_len, lines)) <= 80


def test_shows_the_figures() -> None:
    text = "\n".join(drawn(STATS))
    for part in (
        "44.1 kHz",
        "48 kHz",
        "hop 512",
        "23.2 ms",
        "33.2 ms",
        "0.42 ms p50",
        "0.81 ms p99",
        "1 of 123456",
        "-inf dB",
        "23:53",
    ):
        assert part in text
    assert "bypass: the delayed" not in text
    assert "bypass: the delayed" in "\n".join(drawn(Stats(bypass=True, state="playing")))


def test_draws_before_anything_has_played() -> None:
    assert drawn(Stats())


def test_fader_ends() -> None:
    assert step(TOP_DB, 1.0) == TOP_DB
    assert step(LOWEST_DB, -1.0) == -math.inf
    assert step(-math.inf, -1.0) == -math.inf
    assert step(-math.inf, 1.0) == LOWEST_DB
    assert step(0.0, -1.0) == -1.0


def test_keys_move_the_faders() -> None:
    session = FakeSession()
    faders = Faders(session)  # type: ignore[arg-type]
    for key in ("down", "down", "right", "b"):
        assert faders.press(key)
    assert session.values == {"vocals_db": -2.0, "music_db": 1.0, "bypass": True}
    faders.press("k")
    faders.press("a")
    assert session.values["vocals_db"] == session.values["music_db"] == -math.inf
    faders.press("k")
    faders.press("a")
    assert (session.values["vocals_db"], session.values["music_db"]) == (-2.0, 1.0)
    faders.press("0")
    assert session.values["vocals_db"] == session.values["music_db"] == 0.0
    assert not faders.press("z")


def test_keys_move_the_parts_of_the_music() -> None:
    session = FakeSession("drums", "bass", "other")
    faders = Faders(session)  # type: ignore[arg-type]
    for key in "dDDsssoO1":
        assert faders.press(key)
    parts = {name: session.values[f"{name}_db"] for name in ("drums", "bass", "other")}
    assert parts == {"drums": -math.inf, "bass": -3.0, "other": 0.0}
    faders.press("1")
    assert session.values["drums_db"] == 1.0
    faders.press("0")
    assert not any(session.values.values())
    assert not Faders(FakeSession()).press("d")  # type: ignore[arg-type]
    text = "\n".join(drawn(msgspec.structs.replace(STATS, parts_db=PARTS_DB)))
    for shown in ("dD1 drums", "-12.0", "sS2 bass", "-inf", "oO3 other", "3.0"):
        assert shown in text


def test_key_sequences() -> None:
    assert keys.split(b"k\x1b[Aq\x1bOD") == ["k", "up", "q", "left"]
    assert keys.split(b"\x1b[15~a\x1b[1;5Cb") == ["a", "b"]
    assert keys.split(b"\x1b") == []


def test_keyboard_without_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("q"))
    with keys.Keyboard() as keyboard:
        assert keyboard.read() == []


def test_terminal_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import termios

    master, slave = pty.openpty()
    monkeypatch.setattr(sys, "stdin", os.fdopen(slave, "r"))
    monkeypatch.setattr(keys, "_ours", lambda: True)
    before = termios.tcgetattr(slave)
    with pytest.raises(RuntimeError), keys.Keyboard() as keyboard:
        assert termios.tcgetattr(slave) != before
        assert keyboard.read() == []
        os.write(master, b"k\x1b[A")
        assert keyboard.read() == ["k", "up"]
        raise RuntimeError
    assert termios.tcgetattr(slave) == before
    os.close(master)


def test_news_of_a_list_that_forgets_its_oldest() -> None:
    assert list(report.news((), ("a", "b"))) == ["a", "b"]
    assert list(report.news(("a", "b"), ("a", "b"))) == []
    assert list(report.news(("a", "b", "c"), ("b", "c", "d"))) == ["d"]
    assert list(report.news(("a",), ("x", "y"))) == ["x", "y"]


def test_times_and_levels() -> None:
    assert [report.clock(s) for s in (0, 59.9, 61, 3723)] == ["0:00", "0:59", "1:01", "1:02:03"]
    assert [report.db(v) for v in (-math.inf, -12.34, 0.0)] == ["-inf", "-12.3", "0.0"]


def test_second_interrupt_does_not_wait() -> None:
    import signal

    stop = Stop()
    stop.request(signal.SIGINT)
    assert stop.wanted and stop.exit_code == 130
    with pytest.raises(KeyboardInterrupt):
        stop.request(signal.SIGINT)
    term = Stop()
    term.request(signal.SIGTERM)
    assert term.exit_code == 0
