"""Test signals as sources: sine, sweep, click, noise, silence; endless, and always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.ring import Ring
from rtsep.errors import UsageError, nearest
from rtsep.io.feed import BLOCK_FRAMES, FeedSource

_LEVEL = 0.25
_SWEEP_S = 10.0
_SWEEP_HZ = (20.0, 20000.0)

#: ``(start frame, frames, samplerate, parameter)`` to (frames, channels).
_Maker = Callable[[int, int, int, float], NDArray[np.float64]]


def _sine(start: int, frames: int, samplerate: int, hz: float) -> NDArray[np.float64]:
    turns = np.arange(start, start + frames, dtype=np.float64) * hz / samplerate
    return _LEVEL * np.sin(2 * np.pi * (turns % 1.0))[:, None]


def _sweep(start: int, frames: int, samplerate: int, period_s: float) -> NDArray[np.float64]:
    """Exponential sweep (A. Farina, AES 2000) up to 20 kHz, or 0.45 of the samplerate, again and again."""
    low, high = _SWEEP_HZ[0], min(_SWEEP_HZ[1], 0.45 * samplerate)
    time = np.arange(start, start + frames) % round(period_s * samplerate) / samplerate
    rise = np.log(high / low) / period_s
    return _LEVEL * np.sin(2 * np.pi * low / rise * np.expm1(rise * time))[:, None]


def _click(start: int, frames: int, samplerate: int, period_ms: float) -> NDArray[np.float64]:
    """One sample at half of full scale, first after one period."""
    period = max(1, round(period_ms * samplerate / 1000))
    place = np.arange(start, start + frames)
    return 0.5 * ((place % period == 0) & (place > 0))[:, None]


def _noise(start: int, frames: int, samplerate: int, seed: float) -> NDArray[np.float64]:
    """White, left and right independent."""
    return 0.1 * np.random.default_rng([int(seed), start]).standard_normal((frames, 2))


def _silence(start: int, frames: int, samplerate: int, _: float) -> NDArray[np.float64]:
    return np.zeros((frames, 1))


@dataclass(frozen=True, slots=True)
class _Kind:
    make: _Maker
    channels: int
    parameter: str
    default: float
    least: float
    most: float


_KINDS: dict[str, _Kind] = {
    "sine": _Kind(_sine, 1, "hz", 440.0, 1.0, 96000.0),
    "sweep": _Kind(_sweep, 1, "period_s", _SWEEP_S, 0.1, 600.0),
    "click": _Kind(_click, 1, "period_ms", 500.0, 1.0, 60000.0),
    "noise": _Kind(_noise, 2, "seed", 0.0, 0.0, 1e6),
    "silence": _Kind(_silence, 1, "", 0.0, 0.0, 0.0),
}
SIGNALS = tuple(_KINDS)


class SignalSource(FeedSource):
    """A computed signal at the engine's own rate.

    Parameters
    ----------
    text : str
        ``sine[:hz]`` (-12 dBFS), ``sweep[:period_s]`` (-12 dBFS, 20 Hz to 20 kHz), ``click[:period_ms]`` (one sample at
        -6 dBFS), ``noise[:seed]`` (white stereo, -20 dBFS), ``silence``; with or without ``test:`` before.
    duration_s : float, optional
        End after so many seconds; endless if missing.

    Raises
    ------
    UsageError
        For an unknown signal or a parameter that is no number or out of range.
    """

    def __init__(self, text: str, duration_s: float | None = None) -> None:
        super().__init__()
        name, _, value = text.removeprefix("test:").partition(":")
        if name not in _KINDS:
            raise UsageError(f"unknown test signal '{name}': {nearest(name, SIGNALS)}")
        self._kind = _KINDS[name]
        self._parameter = self._parse(name, value)
        self.channels = self._kind.channels
        self.samplerate = 48000
        self._duration_s = duration_s
        self._frames = 0

    def _parse(self, name: str, value: str) -> float:
        kind = self._kind
        if not value:
            return kind.default
        if not kind.parameter:
            raise UsageError(f"test:{name} takes no parameter, got '{value}'")
        try:
            number = float(value)
        except ValueError:
            raise UsageError(f"test:{name}:{kind.parameter} wants a number, got '{value}'") from None
        if not kind.least <= number <= kind.most:
            raise UsageError(
                f"test:{name}:{kind.parameter} of {value} is not possible: {kind.least:g} to {kind.most:g} are"
            )
        return number

    def open(self) -> None:
        """Nothing to check."""

    def start(self, ring: Ring, samplerate: int) -> None:
        """See `Source.start`; the signal is computed at `samplerate` [main thread]."""
        self.samplerate = samplerate
        self._frames = 0 if self._duration_s is None else round(self._duration_s * samplerate)
        super().start(ring, samplerate)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Blocks of the signal, shape (frames, channels)."""
        start = 0
        while self._duration_s is None or start < self._frames:
            block = self._kind.make(start, BLOCK_FRAMES, self.samplerate, self._parameter).astype(np.float32)
            yield block if self._duration_s is None else block[: self._frames - start]
            start += BLOCK_FRAMES

    @property
    def total_frames(self) -> int:
        """Length at the rate given to `start`; 0: endless [any thread]."""
        return self._frames
