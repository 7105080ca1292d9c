"""Compiled instruments of the demo song: a table oscillator, a singing voice, a reverb.

Written loop by loop because a song of half a minute has to be there in a fraction of a second, before the first sound.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

_Row = types.Array(types.float32, 1, "C")
_Stereo = types.Array(types.float32, 2, "C")
_Table = types.Array(types.float64, 2, "C")

#: Frames between two rows of the voice's control table.
CONTROL_FRAMES = 64
# Columns of that table; formants are pairs of frequency and bandwidth in Hz.
PITCH, VOICING, BREATH, FRICTION, FRICTION_HZ, FRICTION_WIDTH, FORMANT = range(7)
FORMANTS = 9
CONTROL_COLUMNS = FORMANT + 2 * FORMANTS

_TAIL_DELAYS = np.array([1117, 1327, 1523, 1733, 1933, 2137, 2339, 2539], np.int64)
_TAIL_MEMORY = 8192


@njit(
    types.void(_Stereo, types.int64, types.int64, types.float64, _Row, *(types.float64,) * 7),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def add_note(out, start, frames, step, table, attack, decay, release, bright, dull, left, right):
    """Add a note to `out`, shape (2, frames).

    Parameters
    ----------
    out : ndarray of float32, shape (2, frames)
        Mix.
    start, frames : int
        Place and length; what lies beyond the end of `out` is left away.
    step : float
        Periods per frame.
    table : ndarray of float32
        One period, its first value repeated at the end.
    attack, decay, release : float
        In frames: time to full level, time constant of the fall, time of the end.
    bright, dull : float
        One-pole low-pass coefficient at the start and where it falls to (with `decay`), 0..1.
    left, right : float
        Gains.
    """
    size = len(table) - 1
    phase, low = 0.0, 0.0
    fall, level = math.exp(-1.0 / decay), 1.0
    for i in range(min(frames, out.shape[1] - start)):
        place = phase * size
        index = int(place)
        x = table[index] + (place - index) * (table[index + 1] - table[index])
        low += (dull + (bright - dull) * level) * (x - low)
        y = low * level * min(1.0, i / attack) * min(1.0, (frames - i) / release)
        out[0, start + i] += left * y
        out[1, start + i] += right * y
        level *= fall
        phase += step
        phase -= math.floor(phase)


@njit(types.void(_Table, types.float64, _Row), nogil=True, cache=True, error_model="numpy")
def sing(control, samplerate, out):
    """Formant synthesis: pulses and breath through resonators in a row, friction noise through one of its own.

    Parameters
    ----------
    control : ndarray of float64, shape (rows, CONTROL_COLUMNS)
        A row each `CONTROL_FRAMES` frames; values are interpolated, resonators retuned at each row.
    samplerate : float
        Of `out`.
    out : ndarray of float32, shape (frames,)
        Is overwritten; needs ``frames <= (rows - 1) * CONTROL_FRAMES``.

    Notes
    -----
    Source: D. H. Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67 (1980), with the band-limited
    pulse train of T. Stilson and J. Smith, "Alias-free digital synthesis of classic analog waveforms" (1996), summed up
    (-6 dB/octave).
    """
    gain = np.zeros(FORMANTS + 1)
    first = np.zeros(FORMANTS + 1)
    second = np.zeros(FORMANTS + 1)
    past = np.zeros((FORMANTS + 1, 2))
    phase, slope, saw, soft, seed = 0.0, 0.0, 0.0, 0.0, np.uint32(1)
    leak = math.exp(-2.0 * math.pi * 60.0 / samplerate)
    softness = 1.0 - math.exp(-2.0 * math.pi * 2800.0 / samplerate)
    for i in range(len(out)):
        row = i // CONTROL_FRAMES
        part = (i % CONTROL_FRAMES) / CONTROL_FRAMES
        if i % CONTROL_FRAMES == 0:
            for k in range(FORMANTS + 1):
                hz = control[row, FRICTION_HZ] if k == FORMANTS else control[row, FORMANT + 2 * k]
                width = control[row, FRICTION_WIDTH] if k == FORMANTS else control[row, FORMANT + 2 * k + 1]
                radius = math.exp(-math.pi * width / samplerate)
                first[k] = 2.0 * radius * math.cos(2.0 * math.pi * hz / samplerate)
                second[k] = -radius * radius
                gain[k] = 1.0 - first[k] - second[k]
            gain[FORMANTS] = 1.0 - math.exp(-math.pi * control[row, FRICTION_WIDTH] / samplerate)
        pitch = control[row, PITCH] + part * (control[row + 1, PITCH] - control[row, PITCH])
        voicing = control[row, VOICING] + part * (control[row + 1, VOICING] - control[row, VOICING])
        breath = control[row, BREATH] + part * (control[row + 1, BREATH] - control[row, BREATH])
        friction = control[row, FRICTION] + part * (control[row + 1, FRICTION] - control[row, FRICTION])
        period = samplerate / pitch
        phase += 1.0 / period
        phase -= math.floor(phase)
        # all harmonics up to half the rate, as a closed sum
        count = 2 * int(0.5 * period) + 1
        below = math.sin(math.pi * phase)
        pulse = count / period if abs(below) < 1e-6 else math.sin(math.pi * count * phase) / (period * below)
        saw = leak * saw + pulse - 1.0 / period
        soft += softness * (saw - soft)
        seed = np.uint32(seed * np.uint32(1664525) + np.uint32(1013904223))
        noise = seed / 2147483648.0 - 1.0
        x = voicing * (0.35 * saw + 0.65 * soft) + breath * noise * (0.6 + 0.4 * math.cos(2.0 * math.pi * phase))
        for k in range(FORMANTS):
            y = gain[k] * x + first[k] * past[k, 0] + second[k] * past[k, 1]
            past[k, 1] = past[k, 0]
            past[k, 0] = y
            x = y
        y = (
            gain[FORMANTS] * friction * (noise - slope)
            + first[FORMANTS] * past[FORMANTS, 0]
            + second[FORMANTS] * past[FORMANTS, 1]
        )
        past[FORMANTS, 1] = past[FORMANTS, 0]
        past[FORMANTS, 0] = y
        slope = noise
        out[i] = x + y


@njit(
    types.void(_Row, types.float64, types.float64, types.float64, _Stereo), nogil=True, cache=True, error_model="numpy"
)
def add_reverb(x, samplerate, seconds, level, out):
    """Add the reverberation of `x`, shape (frames,), to `out`, shape (2, frames); `seconds` until -60 dB.

    Source: J.-M. Jot, "Digital delay networks for designing artificial reverberators" (AES 1991); Hadamard matrix.
    """
    memory = np.zeros((8, _TAIL_MEMORY), np.float32)
    delays = np.zeros(8, np.int64)
    gains = np.zeros(8)
    low = np.zeros(8)
    lines = np.zeros(8)
    for k in range(8):
        delays[k] = min(_TAIL_MEMORY - 1, int(_TAIL_DELAYS[k] * samplerate / 48000.0))
        gains[k] = 10.0 ** (-3.0 * delays[k] / samplerate / seconds) / math.sqrt(8.0)
    damping = 1.0 - math.exp(-2.0 * math.pi * 5000.0 / samplerate)
    for i in range(len(x)):
        place = i & (_TAIL_MEMORY - 1)
        for k in range(8):
            low[k] += damping * (memory[k, (i - delays[k]) & (_TAIL_MEMORY - 1)] - low[k])
            lines[k] = low[k]
        out[0, i] += level * (lines[0] - lines[2] + lines[4] - lines[6])
        out[1, i] += level * (lines[1] - lines[3] + lines[5] - lines[7])
        width = 1
        while width < 8:
            for k in range(8):
                if k & width == 0:
                    a, b = lines[k], lines[k + width]
                    lines[k], lines[k + width] = a + b, a - b
            width *= 2
        for k in range(8):
            memory[k, place] = x[i] + gains[k] * lines[k]
