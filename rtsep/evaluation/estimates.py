"""Estimates of a song's parts by one method, through the chain that plays live, and what they cost."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from rtsep.engine.offline import split_stems
from rtsep.engine.stream import engine_rate
from rtsep.errors import RtsepError
from rtsep.evaluation.methods import Method
from rtsep.evaluation.oracles import Oracle
from rtsep.evaluation.sound import Song, Sound, resampled
from rtsep.separators.base import Mask, Separator, Spectrum
from rtsep.spec import StreamSpec


class Probe(Separator):
    """A separator that is watched: duration of each `process`, and the masks of a stretch of the song.

    Parameters
    ----------
    inner : Separator
    stretch : (float, float), optional
        Begin and end in seconds; `masks` then holds the first channel's for it (of a complex mask, its modulus).
    stems : bool
        Ask it for its stems, too.
    """

    def __init__(self, inner: Separator, stretch: tuple[float, float] | None = None, stems: bool = False) -> None:
        super().__init__()
        self.stems = inner.stems if stems else ()
        self.name, self.summary = inner.name, inner.summary
        self.params = inner.params
        self.durations_ns: list[int] = []
        self.masks: list[NDArray[np.float32]] = []
        self._inner = inner
        self._stretch = stretch

    @property
    def latency(self) -> int:
        return self._inner.latency

    def required_hop(self, samplerate: int) -> int | None:
        return self._inner.required_hop(samplerate)

    def supported_samplerates(self) -> tuple[int, ...]:
        return self._inner.supported_samplerates()

    def prepare(self, spec: StreamSpec) -> None:
        """Prepare the separator that is watched [main thread]."""
        self._inner.prepare(spec)
        self.mask_kind = self._inner.mask_kind
        self.spec = spec

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Let it work, and take the time."""
        start = time.perf_counter_ns()
        self._inner.process(spectrum, mask)
        self.durations_ns.append(time.perf_counter_ns() - start)
        if self._stretch is not None:
            at = (len(self.durations_ns) * self.spec.hop - self.latency) / self.spec.samplerate
            if self._stretch[0] < at <= self._stretch[1]:
                complex_mask = self.mask_kind == "complex"
                self.masks.append(np.hypot(mask[0], mask[len(mask) // 2]) if complex_mask else mask[0].copy())

    def reset(self) -> None:
        """Reset the separator that is watched."""
        self._inner.reset()


def separate(separator: Separator, mixture: Sound, samplerate: int, hop: int) -> dict[str, Sound]:
    """Vocals, and stems if it tells any apart, of a mixture (channels, frames) through the live chain, aligned with it.

    At the mixture's rate, or the nearest that the separator was made for.

    Raises
    ------
    RtsepError
        Whatever the separator raises (it may come from another package), or if it gives NaN or Inf.
    """
    rate = engine_rate(samplerate, separator)
    sound = resampled(mixture, samplerate, rate)
    try:
        parts = split_stems(separator, sound, rate, hop)
    except RtsepError:
        raise
    except Exception as error:
        raise RtsepError(f"separator {separator.name} failed: {type(error).__name__}: {error}") from error
    if not all(np.isfinite(sound).all() for sound in parts.values()):
        raise RtsepError(f"separator {separator.name} gave values that are not finite")
    return {name: _as_long(resampled(parts[name], rate, samplerate), mixture) for name in ("vocals", *separator.parts)}


def _as_long(sound: Sound, mixture: Sound) -> Sound:
    """Sound (channels, frames) with as many frames as the mixture: two conversions may round the length."""
    out = np.zeros_like(mixture)
    frames = min(out.shape[1], sound.shape[1])
    out[:, :frames] = sound[:, :frames]
    return out


def estimate(
    method: Method, song: Song, device: str, stretch: tuple[float, float] | None = None
) -> tuple[dict[str, Sound], Probe | None]:
    """Vocals and accompaniment of a song by a method, and stems if both know them; the floor gives the mixture for all.

    With `stretch`, in seconds, its masks are kept in the probe.
    """
    if method.kind == "floor":
        return dict.fromkeys(("vocals", "accompaniment", *song.stems), song.mixture), None
    if method.kind == "ceiling":
        oracle = Oracle(method.source, song.vocals, song.accompaniment, method.rates)
        rate = engine_rate(song.samplerate, oracle)
        oracle.give(*(resampled(sound, song.samplerate, rate) for sound in (song.vocals, song.accompaniment)))
        separator: Separator = oracle
    else:
        separator = method.make(device)
    probe = Probe(separator, stretch, stems=bool(song.stems))
    found = separate(probe, song.mixture, song.samplerate, method.hop)
    return {**found, "accompaniment": song.mixture - found["vocals"]}, probe
