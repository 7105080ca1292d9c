"""The weak points that the author of acapella names, as measured cases: what share of a sound goes to the vocals.

    python -m benchmarks.weak_points [--separators acapella acapella-v2 ...]

Snares and clicks are taken for a voice: their share should be small. Steady low notes that are sung are taken for
instruments: their share should be large; that of a played bass note small. Each sound is synthesized, and is put alone,
and on chords as loud as it, through the chain that plays live. The share is how much of it is found in the vocals by
projection: the inner product of both over the energy of the sound.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from benchmarks._page import Page, Table, parser, program
from rtsep.engine.offline import split
from rtsep.separators.registry import create

RATE, SECONDS, SETTLED = 44100, 8.0, 2.0  # s; those at the start are not counted
Sound = NDArray[np.float64]
FORMANTS = ((800, 90), (1200, 110), (2750, 150), (3700, 220), (4900, 300))  # of an "a": Hz and width


def _time() -> Sound:
    return np.arange(int(SECONDS * RATE)) / RATE


def snares(rng: np.random.Generator) -> Sound:
    """Two a second: noise above 300 Hz that decays in 80 ms, and a drum's tone."""
    t = _time() % 0.5
    wires = signal.sosfilt(signal.butter(2, 300, "high", fs=RATE, output="sos"), rng.standard_normal(len(t)))
    return wires * np.exp(-t / 0.08) + 1.5 * np.sin(2 * np.pi * 190 * t) * np.exp(-t / 0.05)


def clicks(rng: np.random.Generator) -> Sound:
    """Four a second: 2 ms of noise."""
    t = _time() % 0.25
    return rng.standard_normal(len(t)) * np.exp(-t / 0.002)


def _pulse(hz: float) -> Sound:
    t = _time()
    return sum(np.sin(2 * np.pi * k * hz * t) / k for k in range(1, int(5000 / hz)))


def low_voice(rng: np.random.Generator) -> Sound:
    """A steady "a" at 98 Hz."""
    x = _pulse(98.0)
    out = np.zeros_like(x)
    for hz, width in FORMANTS:
        radius = np.exp(-np.pi * width / RATE)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * hz / RATE), radius**2]
        out += signal.lfilter([1 - radius], poles, x) * (800 / hz)
    return out * (1 + 0.02 * rng.standard_normal(len(x)))


def bass_note(rng: np.random.Generator) -> Sound:
    """A steady bass at 55 Hz: a saw-tooth through a low-pass at 400 Hz."""
    return signal.sosfilt(signal.butter(2, 400, fs=RATE, output="sos"), _pulse(55.0))


def chords() -> Sound:
    """A pad: a triad of detuned saw-teeth below 2 kHz, another every 2 s."""
    t, out = _time(), np.zeros(int(SECONDS * RATE))
    for i, root in enumerate((220.0, 196.0, 174.6, 196.0)):
        part = (t >= 2 * i) & (t < 2 * i + 2)
        for ratio in (1.0, 1.26, 1.5, 1.003, 1.256, 1.504):
            out[part] += _pulse(root * ratio)[part]
    return signal.sosfilt(signal.butter(2, 2000, fs=RATE, output="sos"), out)


CASES: dict[str, tuple[str, Callable[[np.random.Generator], Sound]]] = {
    "snares": ("small", snares),
    "clicks": ("small", clicks),
    "sung low note": ("large", low_voice),
    "bass note": ("small", bass_note),
}
COLUMNS = {
    "separator": "separator",
    "case": "sound",
    "wanted": "share wanted",
    "alone": "alone, %",
    "in_music": "on chords, %",
}


def share(name: str, sound: Sound, music: Sound) -> float:
    """Share of a sound, in the middle of music, that the vocals hold, in %."""
    mixture = np.repeat((sound + music)[None], 2, axis=0).astype(np.float32)
    vocals, _ = split(create(name, device="cpu"), mixture, RATE)
    late = slice(int(SETTLED * RATE), None)
    return 100 * float(vocals[0, late] @ sound[late] / (sound[late] @ sound[late]))


def measure(chosen: Any) -> Page:
    """The table."""
    rows = []
    music = chords()
    music *= 0.1 / np.sqrt(np.mean(music**2))
    for name in chosen.separators:
        for case, (wanted, make) in CASES.items():
            sound = make(np.random.default_rng(0))
            sound *= 0.1 / np.sqrt(np.mean(sound**2))
            alone, mixed = share(name, sound, np.zeros_like(sound)), share(name, sound, music)
            rows.append({"separator": name, "case": case, "wanted": wanted, "alone": alone, "in_music": mixed})
    page = Page(
        "weak_points", "Weak points", "Synthesized sounds, mono, 44.1 kHz: how much of each is taken for a voice."
    )
    page.tables = [Table("Shares", COLUMNS, rows, "Of the last 6 s of 8.")]
    page.figures = {f"{r['separator']} {r['case']} on chords": r["in_music"] for r in rows}
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--separators", nargs="+", default=["acapella", "acapella-v2"], metavar="NAME")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
