"""The live screen: levels, faders, latency, cost, and the keys that move the faders; 80 columns by 24 lines."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from rtsep import __version__
from rtsep.cli.keys import Keyboard
from rtsep.cli.report import clock, cost_line, db, latency, played_s, summary
from rtsep.cli.views import View

if TYPE_CHECKING:
    from rtsep.cli.play import Stop
    from rtsep.engine.session import Session, Stats

WIDTH = 79
METER = 46
FADER = 46
PART_FADER = 9
FLOOR_DB = -60.0
STEP_DB = 1.0
TOP_DB = 12.0
#: Below this a fader jumps to silence.
LOWEST_DB = -40.0

KEYS = "↑↓ vocals   ←→ music   k karaoke   a acapella   0 reset   b bypass   q quit"
#: Keys of the parts of the music: down and up, and to silence and back.
PART_KEYS = {"drums": ("d", "D", "1"), "bass": ("s", "S", "2"), "other": ("o", "O", "3")}


def step(level: float, change: float) -> float:
    """Next position of a fader in dB; below `LOWEST_DB` comes silence."""
    if level == -math.inf:
        return LOWEST_DB if change > 0 else -math.inf
    moved = min(level + change, TOP_DB)
    return moved if moved >= LOWEST_DB else -math.inf


class Faders:
    """What the keys do to a session [main thread].

    Parameters
    ----------
    session : Session
        Whose faders they are.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._before: dict[str, float] = {}
        self._moves = {
            "up": ("vocals_db", STEP_DB),
            "down": ("vocals_db", -STEP_DB),
            "right": ("music_db", STEP_DB),
            "left": ("music_db", -STEP_DB),
            "v": ("vocals_db", -STEP_DB),
            "V": ("vocals_db", STEP_DB),
            "m": ("music_db", -STEP_DB),
            "M": ("music_db", STEP_DB),
        }
        self._mutes = {"k": "vocals_db", "a": "music_db"}
        for part in session.separator.parts:
            down, up, mute = PART_KEYS[part]
            self._moves |= {down: (f"{part}_db", -STEP_DB), up: (f"{part}_db", STEP_DB)}
            self._mutes[mute] = f"{part}_db"

    def press(self, key: str) -> bool:
        """Do what a key stands for; False if it means nothing."""
        if key in self._moves:
            name, change = self._moves[key]
            self.session.set(name, step(self.session.get(name), change))
        elif key in self._mutes:
            self._mute(self._mutes[key])
        elif key == "0":
            for name in self._mutes.values():
                self.session.set(name, 0.0)
        elif key == "b":
            self.session.set("bypass", not self.session.get("bypass"))
        else:
            return False
        return True

    def _mute(self, name: str) -> None:
        """Silence a fader, or bring it back to where it was."""
        level = self.session.get(name)
        if level == -math.inf:
            self.session.set(name, self._before.get(name, 0.0))
        else:
            self._before[name] = level
            self.session.set(name, -math.inf)


class Screen(View):
    """Draws the session about eight times a second, and lets the keys move its faders."""

    interval_s = 0.12

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.console = Console(file=stream, highlight=False)
        self._notes: list[str] = []

    def say(self, text: str) -> None:
        self._notes.append(text)
        self.print(text)

    @contextlib.contextmanager
    def showing(self, session: Session, stop: Stop, duration: float | None) -> Iterator[None]:
        self.session, self.stop, self.duration = session, stop, duration
        self.faders = Faders(session)
        # The refresh thread of rich would draw at a time of its own, beside the keys: it stays off.
        live = Live(console=self.console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        with Keyboard() as self.keyboard, live as self.live:
            yield

    def update(self, stats: Stats) -> None:
        for key in self.keyboard.read():
            if key in "qQ":
                self.stop.request()
            else:
                self.faders.press(key)
        self.live.update(self.draw(stats), refresh=True)

    def end(self, stats: Stats) -> None:
        for message in stats.messages:
            self.print(message)
        self.print(summary(stats))

    def draw(self, stats: Stats) -> Text:
        """The whole screen as text, at most 80 x 24."""
        hop_ms = 1000.0 * stats.hop_frames / (stats.samplerate or 1)
        rate = f"{stats.samplerate / 1000:g} kHz"
        if stats.device_samplerate != stats.samplerate:
            rate += f", device {stats.device_samplerate / 1000:g} kHz"
        played = clock(played_s(stats)) + (f" of {clock(self.duration)}" if self.duration else "")
        state = stats.state
        if stats.bypass and state == "playing":
            state = "bypass: the delayed input as it is"
        if stats.recording:
            state += f", recording to {stats.recording}/"
        path = f"{stats.input} > {stats.separator} > {stats.output}"

        text = Text(no_wrap=True, overflow="crop")
        text.append(f" rtsep {__version__}  ", "bold")
        text.append(f"{path[: WIDTH - 30]:<{WIDTH - 30}}", "bold cyan")
        text.append(f"{played:>{14}}\n", "bold")
        text.append(f" {state[: WIDTH - 1]}\n\n", "yellow" if stats.bypass or stats.state != "playing" else "green")

        for name, peaks in (
            ("input", stats.peak_in_db),
            ("vocals", stats.peak_vocals_db),
            ("music", stats.peak_music_db),
            ("output", stats.peak_out_db),
        ):
            _meters(text, name, peaks)
        text.append("\n")
        _fader(text, "vocals", stats.vocals_db)
        _fader(text, "music", stats.music_db)
        if stats.parts_db:
            _parts(text, stats.parts_db)
        text.append("\n")

        xruns = f"{stats.xruns_in} in, {stats.xruns_out} out"
        if stats.device_xruns:
            xruns += f", {stats.device_xruns} reported by the device"
        rows = (
            ("stream", f"{rate}, hop {stats.hop_frames} frames = {hop_ms:.2f} ms", False),
            ("latency", latency(stats), False),
            (
                "per hop",
                f"{cost_line(stats)}   CPU {stats.load:.0%}",
                stats.hop_ms_p99 > hop_ms,
            ),
            ("late masks", f"{stats.late} of {stats.hops}", stats.late > 0),
            ("xruns", xruns, stats.xruns_in + stats.xruns_out > 0),
        )
        for name, value, alarm in rows:
            text.append(f" {name:<11}", "dim")
            text.append(f"{value[: WIDTH - 14]}\n", "yellow" if alarm else "")
        notes = [*self._notes, *stats.messages][-2:]
        for line in [*notes, "", ""][:2]:
            text.append(f" {line[: WIDTH - 1]}\n", "dim")
        text.append(f" {KEYS}", "dim")
        return text


def _meters(text: Text, name: str, peaks: Sequence[float]) -> None:
    """Two meter lines at most: one per channel."""
    for channel, peak in enumerate(peaks[:2]):
        label = name if channel == 0 else ""
        side = "LR"[channel] if len(peaks) > 1 else " "
        share = 0.0 if peak <= FLOOR_DB else min(1.0, 1.0 - peak / FLOOR_DB)
        filled = round(share * METER)
        green, yellow = round(METER * 0.7), round(METER * 0.95)  # -18 dB, -3 dB
        text.append(f" {label:<9}{side} ", "dim")
        text.append("█" * min(filled, green), "green")
        text.append("█" * max(0, min(filled, yellow) - green), "yellow")
        text.append("█" * max(0, filled - yellow), "red")
        text.append("·" * (METER - filled), "bright_black")
        text.append(f" {db(peak):>6} dB\n")


def _fader(text: Text, name: str, level: float) -> None:
    text.append(f" {name:<10} ", "dim")
    _slider(text, level, FADER)
    text.append(f" {db(level):>6} dB\n", "bold")


def _slider(text: Text, level: float, width: int) -> None:
    share = 0.0 if level == -math.inf else (level - LOWEST_DB) / (TOP_DB - LOWEST_DB)
    place = round(max(0.0, share) * (width - 1))
    text.append("─" * place, "cyan")
    text.append("●", "bold cyan")
    text.append("─" * (width - 1 - place), "bright_black")


def _parts(text: Text, levels: Mapping[str, float]) -> None:
    """Faders of the parts of the music, with their keys, in one line."""
    for name, level in levels.items():
        text.append(f" {''.join(PART_KEYS[name])} ", "bold")
        text.append(f"{name} ", "dim")
        _slider(text, level, PART_FADER)
        text.append(f" {db(level):>5}", "bold")
    text.append("\n")
