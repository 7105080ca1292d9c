"""Sound that is known, and measures of what became of it."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]

#: The piece of the demo song that is played: singer and band are both there from its first second on.
_START_S = 3.0
#: Length and step of the windows in which the time shift is measured, in frames.
_WINDOW, _STEP = 16384, 4096
#: Half length of the interpolation filter, in frames.
_HALF = 32


@cache
def song(seconds: float, samplerate: int = 48000) -> tuple[Sound, Sound]:
    """Vocals and accompaniment of a piece of the demo song, shape (2, frames)."""
    from rtsep.io.demo import demo_stems

    part = slice(int(_START_S * samplerate), int((_START_S + seconds) * samplerate))
    vocals, music = demo_stems(samplerate)
    return np.ascontiguousarray(vocals[:, part]), np.ascontiguousarray(music[:, part])


def noise(frames: int, channels: int, seed: int = 0) -> Sound:
    """Uniform noise, shape (channels, frames), correlated between the channels."""
    sound = np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)
    if channels == 2:
        sound[1] = 0.5 * (sound[0] + sound[1])
    return sound


def sdr_db(wanted: NDArray[np.floating], got: NDArray[np.floating]) -> float:
    """Signal-to-distortion ratio of the whole, without any fit."""
    reference = wanted.astype(float)
    return float(10 * np.log10(np.sum(reference**2) / (np.sum((reference - got) ** 2) + 1e-30)))


def pieces_db(wanted: NDArray[np.floating], got: NDArray[np.floating], frames: int = 24000) -> NDArray[np.float64]:
    """`sdr_db` of each piece of so many frames; what is left over at the end is not looked at."""
    starts = range(0, wanted.shape[1] - frames + 1, frames)
    return np.array([sdr_db(wanted[:, at : at + frames], got[:, at : at + frames]) for at in starts])


def lag(heard: Sound, wanted: Sound) -> int:
    """Frames by which `wanted` (channels, frames) is late in `heard`."""
    size = 1 << (heard.shape[1] + wanted.shape[1]).bit_length()
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(wanted, size))
    return int(np.argmax(np.fft.irfft(product.sum(axis=0))[: heard.shape[1]]))


def align(heard: Sound, wanted: Sound) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`heard` moved in time to fit `wanted`, and by how many frames it was late, per window.

    Where two clocks are matched the shift is not a whole number, and wanders within a millisecond while the controller
    settles. So it is measured in windows (peak of the cross-correlation, refined by a parabola; windows that are nearly
    silent take their neighbours' value), interpolated linearly in between, and undone by a Kaiser-windowed sinc.
    """
    first = lag(heard, wanted)
    frames, room = wanted.shape[1], 256
    centres, shifts, weights = [], [], []
    for start in range(0, frames - _WINDOW + 1, _STEP):
        piece = wanted[:, start : start + _WINDOW]
        begin = max(first + start - room, 0)
        around = heard[:, begin : first + start + _WINDOW + room]
        size = 1 << (around.shape[1] + _WINDOW).bit_length()
        product = np.fft.rfft(around, size) * np.conj(np.fft.rfft(piece, size))
        match = np.fft.irfft(product.sum(axis=0))[: 2 * room]
        peak = int(np.clip(np.argmax(match), 1, 2 * room - 2))
        before, top, after = match[peak - 1 : peak + 2]
        centres.append(start + _WINDOW / 2)
        shifts.append(begin + peak + 0.5 * (before - after) / (before - 2 * top + after) - start)
        weights.append(float(np.sum(piece.astype(float) ** 2)))
    good = np.array(weights) > 0.05 * np.median(weights)
    shift = np.interp(np.arange(frames), np.array(centres)[good], np.array(shifts)[good])
    return _at(heard, np.arange(frames) + shift), np.array(shifts)[good]


def _at(sound: Sound, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values between the frames, by a windowed sinc."""
    whole = np.floor(places).astype(int)
    part = places - whole
    result = np.zeros((sound.shape[0], len(places)))
    padded = np.pad(sound, ((0, 0), (_HALF, _HALF + 1)))
    for k in range(1 - _HALF, _HALF + 1):
        distance = k - part
        weight = np.sinc(distance) * np.i0(9.0 * np.sqrt(np.maximum(1 - (distance / _HALF) ** 2, 0))) / np.i0(9.0)
        result += weight * padded[:, np.clip(whole + k + _HALF, 0, padded.shape[1] - 1)]
    return result
