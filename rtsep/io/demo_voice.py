"""The singer of the demo song: notes and syllables become the control table of `synth.sing`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtsep.io import synth

# First five resonances in Hz: an alto's, after G. Peterson and H. Barney, "Control methods used in a study of the
# vowels", JASA 24 (1952).
_VOWELS: dict[str, tuple[float, ...]] = {
    "a": (800, 1250, 2750, 3700, 4900),
    "e": (560, 1950, 2700, 3700, 4900),
    "i": (340, 2350, 3050, 3800, 4900),
    "o": (520, 950, 2650, 3600, 4800),
    "u": (380, 950, 2600, 3500, 4800),
}
_WIDTHS = (90.0, 110.0, 150.0, 220.0, 300.0, 450.0, 700.0, 1000.0, 1300.0)
#: Those above are the same for all sounds; without them a row of resonators falls off too steeply.
_UPPER = (6100.0, 7600.0, 9300.0, 11300.0)


@dataclass(frozen=True)
class _Consonant:
    """Before the vowel: length in seconds, levels of voice and noise, noise centre and width in Hz, resonances."""

    seconds: float
    voicing: float = 0.0
    friction: float = 0.0
    hz: float = 4000.0
    width: float = 1500.0
    formants: tuple[float, ...] | None = None
    burst_s: float = 0.0


_CONSONANTS: dict[str, _Consonant] = {
    "": _Consonant(0.0),
    "s": _Consonant(0.12, friction=1.1, hz=7200, width=2200),
    "sh": _Consonant(0.11, friction=0.6, hz=3400, width=1300),
    "f": _Consonant(0.09, friction=0.4, hz=6500, width=6000),
    "h": _Consonant(0.07, friction=0.15, hz=1500, width=2500),
    "t": _Consonant(0.07, friction=1.5, hz=4600, width=2500, burst_s=0.022),
    "k": _Consonant(0.07, friction=1.2, hz=2000, width=900, burst_s=0.026),
    "d": _Consonant(0.06, voicing=0.12, friction=0.5, hz=4200, width=2500, burst_s=0.014),
    "l": _Consonant(0.07, voicing=0.5, formants=(370, 1150, 2800, 3600, 4800)),
    "n": _Consonant(0.08, voicing=0.4, formants=(270, 1650, 2500, 3500, 4800)),
    "m": _Consonant(0.08, voicing=0.4, formants=(260, 1050, 2300, 3400, 4700)),
    "y": _Consonant(0.07, voicing=0.7, formants=_VOWELS["i"]),
}


@dataclass(frozen=True)
class Syllable:
    """One sung note.

    Parameters
    ----------
    start_s, end_s : float
        From the onset of the vowel to the end of the note.
    midi : float
        Pitch, 69 = 440 Hz.
    text : str
        Consonant (or none) and vowel, such as ``la`` or ``sho``.
    rest_before_s : float
        Silence since the last note; from 0.2 s on the singer takes a breath.
    """

    start_s: float
    end_s: float
    midi: float
    text: str
    rest_before_s: float


def sing(song: list[Syllable], frames: int, samplerate: int, throat: float = 1.0) -> NDArray[np.float32]:
    """Dry mono voice, shape (frames,); `throat` is a factor on its resonances."""
    out = np.zeros(frames, np.float32)
    synth.sing(_control(song, frames, samplerate, throat), float(samplerate), out)
    return out


def _control(song: list[Syllable], frames: int, samplerate: int, throat: float) -> NDArray[np.float64]:
    rows = frames // synth.CONTROL_FRAMES + 3
    rate = samplerate / synth.CONTROL_FRAMES
    time = np.arange(rows) / rate
    table = np.zeros((rows, synth.CONTROL_COLUMNS))
    pitch, shake = np.full(rows, float(song[0].midi)), np.zeros(rows)
    friction, voicing, breath = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    formants = np.tile(_VOWELS["a"], (rows, 1)).astype(np.float64)
    table[:, synth.FRICTION_HZ], table[:, synth.FRICTION_WIDTH] = 4000.0, 2000.0
    for note in song:
        consonant, vowel = _CONSONANTS[note.text[:-1]], _VOWELS[note.text[-1]]
        begin, onset, end = (
            np.searchsorted(time, t) for t in (note.start_s - consonant.seconds, note.start_s, note.end_s)
        )
        since = time[onset:] - note.start_s
        pitch[begin:] = note.midi
        shake[onset:] = np.clip((since - 0.25) / 0.45, 0.0, 1.0)
        formants[begin:] = consonant.formants or vowel
        formants[onset:] = vowel
        voicing[begin:end] = 1.0
        voicing[onset:end] = 1.0 - 0.25 * np.clip((time[onset:end] - note.end_s) / 0.5 + 1.0, 0.0, 1.0)
        voicing[begin:onset] = consonant.voicing
        if consonant.friction:
            noisy = np.searchsorted(time, note.start_s - (consonant.burst_s or consonant.seconds))
            friction[noisy:onset] = consonant.friction
            table[begin:onset, synth.FRICTION_HZ], table[begin:onset, synth.FRICTION_WIDTH] = (
                consonant.hz,
                consonant.width,
            )
        if note.rest_before_s >= 0.2:  # a new phrase: breathe in, then slide up to the first note
            inhale = slice(
                *np.searchsorted(
                    time, (note.start_s - consonant.seconds - 0.32, note.start_s - consonant.seconds - 0.06)
                )
            )
            breath[inhale] = 0.05 * np.hanning(inhale.stop - inhale.start)
            pitch[begin:] -= 1.2 * np.exp(-np.maximum(0.0, time[begin:] - note.start_s) / 0.05)
    drift = 0.07 * _smooth(np.random.default_rng(5).standard_normal(rows), 0.35 * rate) * np.sqrt(0.35 * rate)
    vibrato = 0.38 * shake * np.sin(2 * np.pi * np.cumsum(5.6 + 0.3 * np.sin(1.3 * time)) / rate)
    table[:, synth.PITCH] = 440.0 * 2.0 ** ((_smooth(pitch, 0.09 * rate) + drift + vibrato - 69.0) / 12.0)
    table[:, synth.VOICING] = _smooth(voicing, 0.04 * rate) * (1.0 + 0.06 * vibrato)
    table[:, synth.BREATH] = breath + 0.012 * table[:, synth.VOICING]
    table[:, synth.FRICTION] = _smooth(friction, 0.012 * rate)
    for k in range(synth.FORMANTS):
        table[:, synth.FORMANT + 2 * k] = throat * (_smooth(formants[:, k], 0.05 * rate) if k < 5 else _UPPER[k - 5])
        table[:, synth.FORMANT + 2 * k + 1] = _WIDTHS[k]
    # A singer opens the mouth until the first resonance is not below the note.
    table[:, synth.FORMANT] = np.maximum(table[:, synth.FORMANT], 1.05 * table[:, synth.PITCH])
    return table


def _smooth(x: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Weighted mean over `width` rows (Hann); the ends are held."""
    half = max(1, round(width / 2))
    window = np.hanning(2 * half + 3)[1:-1]
    padded = np.concatenate([np.full(half, x[0]), x, np.full(half, x[-1])])
    return np.convolve(padded, window / window.sum(), "valid")
