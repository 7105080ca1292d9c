"""The voice is what is left when a known instrumental is taken away, wherever and however fast it plays."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtsep.dsp.align import P00, PLACE, SPEED, begin, delay_of, find, follow, interpolation_table, render, whiten
from rtsep.dsp.denormals import flush_denormals
from rtsep.dsp.stft import Stft, aligned, analyse, forward, plans, shift_in, synthesise
from rtsep.errors import UsageError
from rtsep.separators.base import Mask, Param, Separator, Spectrum
from rtsep.separators.kernels import LOUDEST_BIN, part_of
from rtsep.spec import StreamSpec

#: Length of the piece that is searched for, and the bins that count.
PIECE_S = 0.19
FIND_LOW_HZ, FIND_HIGH_HZ = 60.0, 6000.0
#: The best places of all, or those so far once one is above the first height, are looked at more closely where they are
#: above the second, in root mean squares: the next piece has to be so many frames near to where it should be.
CANDIDATES, SURE, LIKELY, NEAR = 8, 25.0, 6.0, 100
#: Shortest instrumental that can be found, two pieces and some room; level that it has to reach.
LEAST_S, SILENCE = 0.5, 1e-4
#: Time of the engine per block of places.
BLOCK_MS = 2.9
#: The delay is measured so often; time of sound without one after which the search begins again.
MEASURE_MS, LOST_S = 46.0, 1.5
#: Correlation above which a delay is believed: another sound reaches 0.1, the instrumental under a voice as loud more
#: than 0.7.
BELIEVE = 0.3
#: Delay in frames that is looked for either way: once settled, while the square of the place's error is below the third
#: number, and else.
NEAR_REACH, FAR_REACH, WELL_KNOWN = 4, 64, 0.5
#: Measurements before the gain is taken, and time that the gain's average covers.
SETTLING, GAIN_MS = 4, 3000.0
#: Time in which the instrumental is faded in once found.
FADE_MS = 60.0

# Words: hops heard since the search began, whether it is followed, what is being done (below), first frame of the next
# block, hops since the piece was taken, candidate that is looked at, measurements, hops in this one, misses, number of
# candidates, hops of this measurement in which both sounded, frame of the recording at the last measurement that was
# believed (0: there was none), hops since, whether the search is around that frame.
HEARD, LOCKED, DOING, BLOCK, AGE, CANDIDATE, MEASURED, SINCE, MISSED, CANDIDATES_FOUND = range(10)
SOUNDED, LAST, GONE, AROUND = range(10, 14)
# What is done while not following: waiting for sound, looking for the piece, waiting for another piece, looking whether
# that one is where it should be.
WAIT, SEARCH, WAIT_AGAIN, CHECK = range(4)
# Levels: blocks due, fade, then for each channel the gain and its two sums.
DUE, FADE, GAIN = 0, 1, 2


class Memory(NamedTuple):
    """Everything that a hop touches."""

    recording: NDArray[np.float32]  # (channels, frames) at the stream's rate
    table: NDArray[np.float32]
    follow: NDArray[np.float64]
    words: NDArray[np.int64]
    levels: NDArray[np.float64]
    forward_plan: int  # of the window
    inverse_plan: int
    analysis_window: NDArray[np.float32]
    synthesis_window: NDArray[np.float32]
    frame: NDArray[np.float32]
    bins: NDArray[np.complex64]
    tail: NDArray[np.float32]  # (1, hop)
    sound: NDArray[np.float32]  # (1, hop), the mixture's middle one hop ago
    middle: NDArray[np.complex64]  # (1, bins)
    heard: NDArray[np.float32]  # (1, frames) of a piece
    find_forward_plan: int
    find_inverse_plan: int
    find_frame: NDArray[np.float32]
    find_bins: NDArray[np.complex64]
    piece: NDArray[np.complex64]
    places: NDArray[np.int64]  # of the candidates
    heights: NDArray[np.float64]
    played: NDArray[np.float32]  # (channels, window), the instrumental beside the stream's window
    known: NDArray[np.complex64]  # (channels, bins)
    cross: NDArray[np.complex64]  # (bins,)
    quiet: float  # mean square of the bins below which it is silence


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _power(spectrum):
    """Mean square of the bins."""
    total = 0.0
    for c in range(spectrum.shape[0]):
        for k in range(spectrum.shape[1]):
            z = spectrum[c, k]
            total += float(z.real) ** 2 + float(z.imag) ** 2
    return total / spectrum.size


@njit(nogil=True, cache=True)
def _listen(m, spectrum, sane):
    """Recover the sound of the hop before from the spectrum, and keep the last of it; silence where it is none."""
    last = spectrum.shape[0] - 1
    for k in range(spectrum.shape[1]):
        m.middle[0, k] = np.float32(0.5) * (spectrum[0, k] + spectrum[last, k])
    if not sane:
        m.middle[:] = 0.0
    synthesise(m.inverse_plan, m.synthesis_window, m.middle, m.frame, m.bins, m.tail, m.sound)
    shift_in(m.heard, m.sound)
    m.words[HEARD] += 1


@njit(nogil=True, cache=True)
def _take_piece(m, low, high):
    """Make what was heard last the piece to look for; False if there was not sound all the time."""
    frames, hop = m.heard.shape[1], m.sound.shape[1]
    if m.words[HEARD] < frames // hop + 2:
        return False
    quarter = frames // 4
    for part in range(4):
        power = 0.0
        for i in range(part * quarter, (part + 1) * quarter):
            power += m.heard[0, i] * m.heard[0, i]
        if power < 1e-8 * quarter:
            return False
    m.find_frame[:frames] = m.heard[0]
    m.find_frame[frames:] = 0.0
    forward(m.find_forward_plan, m.find_frame, m.piece)
    whiten(m.piece, low, high)
    m.words[AGE] = 0
    return True


@njit(nogil=True, cache=True)
def _begin_search(m, reach):
    """Look for the piece from now on: in the first `reach` frames, by turns with around where it was last."""
    words = m.words
    words[AROUND] = 1 - words[AROUND] if words[LAST] > 0 else 0
    first = max(words[LAST] - reach, 0) if words[AROUND] != 0 else 0
    words[BLOCK] = first - m.heard.shape[1] // 2
    words[DOING], words[CANDIDATE] = SEARCH, 0
    m.heights[:] = 0.0


@njit(nogil=True, cache=True)
def _search(m, low, high, reach):
    """Look at one block of places; True where the instrumental was found."""
    words = m.words
    frames, hop = m.heard.shape[1], m.sound.shape[1]
    checking = words[DOING] == CHECK
    wanted = m.places[words[CANDIDATE]]
    start = wanted - frames // 2 if checking else words[BLOCK]
    place, height = find(
        m.find_forward_plan, m.find_inverse_plan, m.recording, start, m.piece, low, high, m.find_frame, m.find_bins
    )
    if checking:
        if abs(place - wanted) <= NEAR and height > LIKELY:
            # from the piece's first frame to the newest of the stream: the piece, the hop on its way, what came since
            begin(m.follow, place + frames - 1 + (1 + words[AGE]) * hop)
            return True
        words[CANDIDATE] += 1
        if words[CANDIDATE] == words[CANDIDATES_FOUND]:
            _begin_search(m, reach)
        return False
    at = CANDIDATES
    while at > 0 and height > m.heights[at - 1]:
        at -= 1
        if at + 1 < CANDIDATES:
            m.heights[at + 1], m.places[at + 1] = m.heights[at], m.places[at]
    if at < CANDIDATES:
        m.heights[at], m.places[at] = height, place
    words[BLOCK] += frames
    # it may have gone on meanwhile, or have been halted
    end = words[LAST] + words[GONE] * hop + reach if words[AROUND] != 0 else reach
    ended = words[BLOCK] >= min(end, m.recording.shape[1])
    if m.heights[0] > (LIKELY if ended else SURE):
        words[DOING] = WAIT_AGAIN
    elif ended:
        words[DOING] = words[HEARD] = 0
    return False


@njit(nogil=True, cache=True)
def _look(m, spectrum, sane, low, high, reach, budget):
    """One hop of looking for the instrumental; True where it was found."""
    words, levels = m.words, m.levels
    frames, hop = m.heard.shape[1], m.sound.shape[1]
    _listen(m, spectrum, sane)
    words[AGE] += 1
    if words[DOING] == WAIT and _take_piece(m, low, high):
        _begin_search(m, reach)
    elif words[DOING] == WAIT_AGAIN and words[AGE] * hop >= frames:
        age = words[AGE]
        if _take_piece(m, low, high):
            words[DOING], words[CANDIDATE] = CHECK, 0
            count = 0
            while count < CANDIDATES and m.heights[count] > LIKELY:
                count += 1
            words[CANDIDATES_FOUND] = count
            m.places[:count].sort()  # of what repeats to the sample, the first is as good as any
            m.places[:] += age * hop
        else:
            words[DOING] = words[HEARD] = 0
    levels[DUE] = min(levels[DUE], 1.0) + budget
    while levels[DUE] >= 1.0 and (words[DOING] == SEARCH or words[DOING] == CHECK):
        levels[DUE] -= 1.0
        if _search(m, low, high, reach):
            words[DOING] = words[MEASURED] = words[SINCE] = words[SOUNDED] = words[MISSED] = 0
            words[LOCKED] = 1
            levels[FADE:] = 0.0
            m.cross[:] = 0.0
            return True
    return False


@njit(nogil=True, cache=True)
def _compare(m, spectrum, keep):
    """Add to the cross-spectrum and to the gain's sums, bins that fit counting most."""
    words, levels = m.words, m.levels
    for c in range(spectrum.shape[0]):
        at = GAIN + 3 * c
        gain = levels[at]
        floor = 1e-30
        for k in range(spectrum.shape[1]):
            x = spectrum[c, k]
            floor += 1e-4 * (float(x.real) ** 2 + float(x.imag) ** 2) / spectrum.shape[1]
        fit = power = 0.0
        for k in range(1, spectrum.shape[1]):
            x, i = complex(spectrum[c, k]), complex(m.known[c, k])
            product = x * i.conjugate()
            own = i.real**2 + i.imag**2
            # by magnitude alone: weights that know the phase would prefer the bins that fit the delay as it is
            apart = math.sqrt(x.real**2 + x.imag**2) - abs(gain) * math.sqrt(own)
            weight = 1.0 / (apart * apart + 0.05 * gain * gain * own + floor)
            m.cross[k] += (weight if gain == 0.0 else weight * gain) * product
            rest = x - gain * i
            weight = 1.0 / (rest.real**2 + rest.imag**2 + 0.3 * gain * gain * own + floor)
            fit += weight * product.real
            power += weight * own
        if words[MEASURED] >= SETTLING:
            levels[at + 1] = keep * levels[at + 1] + fit
            levels[at + 2] = keep * levels[at + 2] + power


@njit(nogil=True, cache=True)
def _measure(m, frames, lost):
    """Steer by the delay that is left; give up where the two no longer belong together.

    Silence of either proves nothing; but after the recording's end there is nothing to wait for.
    """
    words, levels = m.words, m.levels
    settled = words[MEASURED] > 2 * SETTLING and m.follow[P00] < WELL_KNOWN
    reach = min(NEAR_REACH if settled else FAR_REACH, m.frame.shape[0] // 4)
    delay, height = delay_of(m.inverse_plan, m.cross, reach, m.frame, m.bins)
    sounded = 2 * words[SOUNDED] >= words[SINCE]
    m.cross[:] = 0.0
    words[SOUNDED] = 0
    if not (sounded and abs(height) >= BELIEVE):  # nor is NaN believed
        delay = math.nan
    if not follow(m.follow, delay, frames):
        if sounded or m.follow[PLACE] >= m.recording.shape[1]:
            words[MISSED] += 1
        if words[MISSED] >= lost:
            words[LOCKED] = words[HEARD] = words[AROUND] = 0
        return
    words[LAST], words[GONE] = int(m.follow[PLACE]), 0
    words[MISSED] = 0
    words[MEASURED] += 1
    for c in range(m.known.shape[0]):
        at = GAIN + 3 * c
        if levels[at + 2] > 0.0:
            levels[at] = levels[at + 1] / levels[at + 2]
    render(m.recording, m.table, m.follow[PLACE], m.follow[SPEED], m.played, 0)


@njit(nogil=True, cache=True)
def invert_mask(m, spectrum, values, hop_ms, bin_hz, mask):
    """Complex mask that leaves the spectrum less that of the instrumental, or its share of the power."""
    flush_denormals()
    depth, search_s, masked, binary = values
    words, levels = m.words, m.levels
    channels, bins = spectrum.shape
    hop = m.sound.shape[1]
    level = _power(spectrum)
    sane = level < LOUDEST_BIN * LOUDEST_BIN  # neither NaN nor infinite
    sounds = sane and level > m.quiet
    words[GONE] += 1
    if words[LOCKED] == 0:
        scale = m.find_frame.shape[0] / (m.frame.shape[0] * bin_hz)  # bins of a piece per Hz
        low, high = int(FIND_LOW_HZ * scale) + 1, min(int(FIND_HIGH_HZ * scale), m.piece.shape[0])
        reach = int(search_s * 1000.0 * hop / hop_ms)
        if _look(m, spectrum, sane, low, high, reach, hop_ms / BLOCK_MS):
            render(m.recording, m.table, m.follow[PLACE], m.follow[SPEED], m.played, 0)
    else:
        m.follow[PLACE] += hop * m.follow[SPEED]
        for c in range(channels):
            for i in range(m.played.shape[1] - hop):
                m.played[c, i] = m.played[c, i + hop]
        render(m.recording, m.table, m.follow[PLACE], m.follow[SPEED], m.played, m.played.shape[1] - hop)
    if words[LOCKED] != 0:
        analyse(m.forward_plan, m.analysis_window, m.played, m.frame, m.bins, m.known)
        if sounds and _power(m.known) > m.quiet:
            cover_ms = min(GAIN_MS, 200.0 + 0.3 * MEASURE_MS * words[MEASURED])  # what was found early is worth little
            _compare(m, spectrum, math.exp(-hop_ms / cover_ms))
            words[SOUNDED] += 1
        words[SINCE] += 1
        if words[SINCE] * hop_ms >= MEASURE_MS:
            _measure(m, float(words[SINCE] * hop), int(LOST_S * 1000.0 / MEASURE_MS))
            words[SINCE] = 0
            analyse(m.forward_plan, m.analysis_window, m.played, m.frame, m.bins, m.known)
    ready = words[LOCKED] != 0 and words[MEASURED] > SETTLING
    step = hop_ms / FADE_MS
    levels[FADE] = min(levels[FADE] + step, 1.0) if ready else max(levels[FADE] - step, 0.0)
    if not sane:  # all is voice, as where nothing is found
        mask[:channels] = 1.0
        mask[channels:] = 0.0
        return
    for c in range(channels):
        gain = depth * levels[FADE] * levels[GAIN + 3 * c] if sounds else 0.0
        for k in range(bins):
            x = complex(spectrum[c, k])
            music = gain * complex(m.known[c, k])
            voice = x - music
            share = 0.0 + 0.0j
            if masked < 1.0:
                share += (1.0 - masked) * part_of(voice, spectrum[c, k])
            if masked > 0.0:
                power, other = voice.real**2 + voice.imag**2, music.real**2 + music.imag**2
                soft = power / (power + other) if power + other > 0.0 else 0.0
                hard = 1.0 if soft > 0.5 else 0.0
                share += masked * (soft + binary * (hard - soft))
            mask[c, k] = share.real
            mask[channels + c, k] = share.imag


@njit(nogil=True, cache=True)
def _process(spectrum, values, hop_ms, bin_hz, mask, *memory):
    """`invert_mask` with the memory's fields one by one: taking a whole tuple apart, the interpreter would allocate."""
    invert_mask(Memory(*memory), spectrum, values, hop_ms, bin_hz, mask)


class Invert(Separator):
    """Vocals are the mixture less a recording of its instrumental, aligned while it plays.

    Two pieces of the mixture, one after the other, are searched for in the recording. From there on the
    cross-spectrum tells the delay that is left, 20 times a second; a Kalman filter of two states steers place and
    speed, so that clocks up to 1500 ppm apart are followed. Level and polarity are fitted per channel, bins in which
    nothing else sounds counting most. What is taken away is the spectrum itself, so the mask is complex; with `masked`
    it is the share of the power. Until the instrumental is found, and after its end, all is voice. A pause of
    either proves nothing: the place moves on by its speed. Where the two no longer belong together the place is sought
    again, by turns from the start of the file and around where it was last: it may have halted there, or have gone on.

    Sources: the phase inversion of forums; `rtsep.dsp.align` for the alignment.

    Parameters
    ----------
    path : str
        The instrumental, a file of any format and rate that `rtsep.io.reader` reads; ``invert:FILE``. All of it is
        held in memory: 4 bytes a sample.

    Raises
    ------
    UsageError
        In `prepare`, if there is no file, or it cannot be read, is shorter than 0.5 s or silent.
    """

    name = "invert"
    summary = "the voice is what is left of a known instrumental: invert:FILE (no net)"
    mask_kind = "complex"
    PARAMS = (
        Param("depth", "", 0.0, 1.0, 1.0, "share of the instrumental that is taken away"),
        Param(
            "search_s",
            "s",
            1.0,
            3600.0,
            60.0,
            "how far into the file its start may lie, and how far off it is sought once lost; higher takes longer",
        ),
        Param("masked", "switch", 0.0, 1.0, 0.0, "on: bins are shared by power; off: the difference of the two"),
        Param("binary", "switch", 0.0, 1.0, 0.0, "on: with masked, a bin is wholly voice or wholly music"),
    )

    def __init__(self, path: str = "") -> None:
        super().__init__()
        self.path = path

    @property
    def place_s(self) -> float | None:
        """Where in the file the stream is, in seconds; None while it is not known [any thread]."""
        m = self._memory
        return float(m.follow[PLACE]) / self._spec.samplerate if m.words[LOCKED] else None

    def prepare(self, spec: StreamSpec) -> None:
        """Read the file at the rate of `spec` and allocate everything [main thread]."""
        stft = Stft(StreamSpec(spec.samplerate, 1, spec.hop, spec.window))
        half = 1 << round(math.log2(PIECE_S * spec.samplerate))
        self._spec = spec
        self._memory = Memory(
            _recording(self.path, spec), interpolation_table(), np.zeros(7), np.zeros(AROUND + 1, np.int64),
            np.zeros(8), stft.forward_plan, stft.inverse_plan, stft.analysis_window, stft.synthesis_window, stft.frame,
            stft.bins, stft.tail, np.zeros((1, spec.hop), np.float32), np.zeros((1, spec.bins), np.complex64),
            np.zeros((1, half), np.float32), *plans(2 * half), aligned(2 * half, np.float32),
            aligned(half + 1, np.complex64), aligned(half + 1, np.complex64),
            np.zeros(CANDIDATES, np.int64), np.zeros(CANDIDATES),
            np.zeros((spec.channels, spec.window), np.float32), np.zeros((spec.channels, spec.bins), np.complex64),
            np.zeros(spec.bins, np.complex64), SILENCE**2 * float(np.square(stft.analysis_window).sum()),
        )  # fmt: skip
        self.params.prepare(spec.hop_ms)
        silence = np.zeros((spec.channels, spec.bins), np.complex64)
        self.process(silence, np.zeros((2 * spec.channels, spec.bins), np.float32))  # compiled here, not while playing
        self.reset()

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Fill `mask` (2 x channels, bins) for the frame of `spectrum` [inference thread]; both C-contiguous."""
        self.params.ramp()
        _process(spectrum, self.params.values, self._spec.hop_ms, self._spec.bin_hz, mask, *self._memory)

    def reset(self) -> None:
        """Forget the place in the file and jump to the wanted parameters."""
        m = self._memory
        for array in (m.follow, m.words, m.levels, m.tail, m.heard, m.played, m.known, m.cross):
            array.fill(0)
        self.params.settle()


def _recording(path: str, spec: StreamSpec) -> NDArray[np.float32]:
    """The file's sound at the rate of `spec`, shape (channels, frames)."""
    from rtsep.io.reader import read_blocks

    if not path:
        raise UsageError("separator invert needs the instrumental: invert:FILE")
    try:
        with read_blocks(Path(os.path.expanduser(path)), samplerate=spec.samplerate) as reader:
            sound = np.concatenate(list(reader), axis=1)
    except UsageError as error:
        raise UsageError(f"instrumental of separator invert: {error}") from error
    if sound.shape[1] < LEAST_S * spec.samplerate:
        found = f"{sound.shape[1] / spec.samplerate:.2f} s long"
        raise UsageError(f"instrumental of separator invert: {path} is {found}; at least {LEAST_S:g} s are needed")
    if not np.abs(sound).max() > SILENCE:
        raise UsageError(f"instrumental of separator invert: {path} is silent; give the music without the voice")
    if len(sound) == spec.channels:
        return sound
    return sound.mean(axis=0, keepdims=True) if spec.channels == 1 else np.repeat(sound, 2, axis=0)
