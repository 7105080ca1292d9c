"""The demo songs: half a minute of band and singer each, made by the program, the same in every run.

Drums, bass, a plucked arpeggio and pads, and a formant-synthesized voice, so that a fresh installation has something
to separate whose parts are known. All pieces share one tune; key, tempo, band and singer differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.ring import Ring
from rtsep.errors import UsageError, nearest
from rtsep.io.demo_voice import Syllable, sing
from rtsep.io.feed import BLOCK_FRAMES, FeedSource
from rtsep.io.synth import add_note, add_reverb

Sound = NDArray[np.float32]

_BAR_BEATS = 4.0
_TAIL_S = 2.0
#: Root of the bass and notes of the chord, MIDI, per bar.
_CHORDS: list[tuple[int, tuple[int, ...]]] = [
    (36, (60, 64, 67, 74)),  # C
    (36, (60, 64, 67, 72)),  # C
    (35, (59, 62, 67, 74)),  # G/B
    (33, (57, 60, 64, 72)),  # Am
    (41, (57, 60, 65, 69)),  # F
    (33, (57, 60, 64, 69)),  # Am
    (41, (57, 60, 65, 72)),  # F
    (40, (60, 64, 67, 72)),  # C/E
    (43, (59, 62, 67, 74)),  # G
    (36, (60, 64, 67, 72)),  # C
]
_FIRST_BAR, _FILLS, _LAST = 1, (4, 8), len(_CHORDS) - 1
#: The melody from `_FIRST_BAR` on: pitch, beats, syllable; "-" is a rest.
_MELODY = """
E4 1 la   G4 .5 ni   G4 .5 na   A4 1 so   G4 1 me
E4 .5 ta  D4 1.5 lo  B3 .5 na   D4 1 sha  - .5 -
C4 1 me   E4 .5 la   E4 .5 ti   A4 1 do   G4 .5 na  E4 .5 le
F4 1.5 sa E4 .5 yo   C4 1.25 lu - .75 -
A4 1 ha   C5 1 li    B4 .5 no   A4 1 ma   G4 .5 ke
A4 2 sho  F4 .5 na   G4 .5 di   A4 .75 ya - .25 -
G4 1.5 fo E4 .5 la   G4 1 tu    C5 1 na
B4 1 se   A4 .5 lo   B4 .5 ma   D5 1.25 la - .25 - B4 .5 ni
C5 3.5 ya
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """One of the songs.

    Parameters
    ----------
    tempo : float
        Beats a minute.
    shift : int
        Semitones above C major.
    throat : float
        Factor on the singer's resonances: below 1 a larger head, a lower voice.
    octave : int
        Semitones that the singer sings above the shifted tune.
    kicks : tuple of tuple of float
        Beats of the bass drum in even and in odd bars; none at all: no drums.
    pads, pluck, voice : float
        Levels of pads, arpeggio and voice.
    """

    tempo: float = 96.0
    shift: int = 0
    throat: float = 1.0
    octave: int = 0
    kicks: tuple[tuple[float, ...], ...] = ((0, 2, 2.5), (0, 1.5, 2))
    pads: float = 1.0
    pluck: float = 1.0
    voice: float = 0.85

    @property
    def beat_s(self) -> float:
        """Length of a beat in seconds."""
        return 60.0 / self.tempo


#: The songs by name: an alto with a band; a man with pads and arpeggio; a soprano, quieter, over a dance beat.
PIECES = {
    "song": Piece(),
    "ballad": Piece(72.0, -2, 0.85, -12, (), pads=1.6, voice=1.1),
    "dance": Piece(124.0, 4, 1.12, 0, ((0, 1, 2, 3), (0, 1, 2, 3)), pads=0.6, pluck=1.5, voice=0.6),
}


def find_piece(name: str) -> Piece:
    """The piece of a name, the first one for none; `UsageError` with the names if there is none such."""
    if (name or "song") not in PIECES:
        raise UsageError(f"no demo song '{name}': {nearest(name, PIECES)}")
    return PIECES[name or "song"]


def demo_stems(samplerate: int, name: str = "song") -> tuple[Sound, Sound]:
    """Synthesize a song [any thread; takes some 0.3 s].

    Parameters
    ----------
    samplerate : int
        44100 or 48000 Hz.
    name : str
        One of `PIECES`.

    Returns
    -------
    vocals, accompaniment : ndarray of float32, shape (2, frames)
        Their sum is the mixture, below 0 dBFS.
    """
    piece = find_piece(name)
    frames = round((len(_CHORDS) * _BAR_BEATS * piece.beat_s + _TAIL_S) * samplerate)
    dry = sing(_song(piece), frames, samplerate, piece.throat)
    vocals = np.repeat(dry[None], 2, axis=0)
    add_reverb(dry, samplerate, 1.3, 0.055, vocals)
    accompaniment = _accompaniment(piece, frames, samplerate)
    vocals *= piece.voice * _loudness(accompaniment) / _loudness(vocals)
    ending = np.linspace(1.0, 0.0, samplerate // 2, dtype=np.float32)
    for stem in (vocals, accompaniment):
        stem[:, -len(ending) :] *= ending
    scale = np.float32(0.89) / np.abs(vocals + accompaniment).max()
    return vocals * scale, accompaniment * scale


def _loudness(x: Sound) -> float:
    return float(np.sqrt(np.mean(x * x)))


def _song(piece: Piece) -> list[Syllable]:
    names = {
        name: index for index, name in enumerate(("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"))
    }
    words, song, beat, rest = _MELODY.split(), [], _FIRST_BAR * _BAR_BEATS, 1.0
    for pitch, beats, text in zip(words[::3], words[1::3], words[2::3], strict=True):
        start, beat = beat, beat + float(beats)
        if pitch == "-":
            rest += float(beats) * piece.beat_s
            continue
        midi = names[pitch[:-1]] + 12 * (int(pitch[-1]) + 1) + piece.shift + piece.octave
        song.append(Syllable(start * piece.beat_s, (beat - 0.04) * piece.beat_s, midi, text, rest))
        rest = 0.0
    return song


def _table(*levels: float) -> Sound:
    """One period of sines with the given levels."""
    phase = 2 * np.pi * np.arange(2049) / 2048
    return sum(level * np.sin((k + 1) * phase) for k, level in enumerate(levels)).astype(np.float32)  # type: ignore[union-attr]


def _accompaniment(piece: Piece, frames: int, samplerate: int) -> Sound:
    wet = np.zeros((2, frames), np.float32)
    dry = np.zeros((2, frames), np.float32)
    beat = piece.beat_s * samplerate
    pluck, pad = _table(1, 0.5, 0.35, 0.1, 0.12, 0.05, 0.04, 0.03), _table(*(1 / k for k in range(1, 15)))
    bass = _table(1, 0.6, 0.35, 0.2, 0.12, 0.08, 0.05, 0.03)

    def note(
        out: Sound,
        at: float,
        beats: float,
        midi: float,
        table: Sound,
        gain: float,
        pan: float,
        shape: tuple[float, ...],
    ) -> None:
        """`shape`: attack, decay, release in seconds, low-pass coefficient at first and later; `pan` -1..1."""
        step = 440.0 * 2.0 ** ((midi + piece.shift - 69) / 12) / samplerate
        attack, decay, release = (seconds * samplerate for seconds in shape[:3])
        sides = gain * np.sqrt(0.5 - 0.5 * pan), gain * np.sqrt(0.5 + 0.5 * pan)
        add_note(
            out, int(at * beat), int(beats * beat), step, table, attack, decay, release, shape[3], shape[4], *sides
        )

    for bar, (root, chord) in enumerate(_CHORDS):
        first, last = bar * _BAR_BEATS, bar == _LAST
        for k, midi in enumerate(chord):
            for detune, pan in ((-0.06, -0.8), (0.06, 0.8)):
                note(
                    wet,
                    first,
                    6.5 if last else 4.2,
                    midi - 12 * (k > 2) + detune,
                    pad,
                    0.035 * piece.pads,
                    pan,
                    (0.25, 4.0, 0.3, 0.12, 0.05),
                )
        for k, index in enumerate((0, 2, 1, 3, 2, 1, 3, 2)[: 1 if last else 8]):
            shape = (0.003, 0.28, 0.05, 0.6, 0.15)
            note(wet, first + k / 2, 1.6, chord[index] + 12, pluck, 0.10 * piece.pluck, 0.6 * (-1) ** k, shape)
        if bar >= _FIRST_BAR:
            for at, beats, up in (
                ((0, 5.0, 0),) if last else ((0, 1.4, 0), (1.5, 0.45, 0), (2, 0.95, 0), (3, 0.45, 7), (3.5, 0.45, 12))
            ):
                note(dry, first + at, beats, root + up, bass, 0.3, 0.0, (0.005, 1.2, 0.04, 0.35, 0.08))
    if piece.kicks:
        _drums(piece, dry, wet, samplerate)
    add_reverb(wet.mean(axis=0), samplerate, 1.6, 0.12, dry)
    return dry + wet


def _drums(piece: Piece, dry: Sound, wet: Sound, samplerate: int) -> None:
    random = np.random.default_rng(11)
    time = np.arange(int(2.5 * samplerate)) / samplerate
    noise = random.standard_normal(len(time) + 2)
    sharp = np.diff(noise, 2) * 0.4
    pitch = np.cumsum(46.0 + 120.0 * np.exp(-time / 0.03)) / samplerate
    kick = np.sin(2 * np.pi * pitch) * np.exp(-time / 0.13) + 0.1 * sharp * np.exp(-time / 0.002)
    tone = np.sin(2 * np.pi * 187 * time) + 0.6 * np.sin(2 * np.pi * 331 * time)
    snare = 0.5 * tone * np.exp(-time / 0.06) + 0.28 * np.diff(noise[1:]) * np.exp(-time / 0.09)
    hat, crash = 0.2 * sharp * np.exp(-time / 0.025), 0.2 * sharp * np.exp(-time / 0.5)
    beat = piece.beat_s * samplerate

    def hit(out: Sound, at: float, sound: NDArray[np.float64], gain: float, pan: float = 0.0) -> None:
        start = int(at * beat)
        part = sound[: out.shape[1] - start]
        out[0, start : start + len(part)] += (gain * (1 - pan) * part).astype(np.float32)
        out[1, start : start + len(part)] += (gain * (1 + pan) * part).astype(np.float32)

    for bar in range(_LAST):
        first = bar * _BAR_BEATS
        for k in range(8):
            hit(dry, first + k / 2, hat, 0.5 + 0.3 * (k % 2 == 0) + 0.1 * random.random(), 0.3)
        if bar < _FIRST_BAR:
            continue
        for at in piece.kicks[bar % 2]:
            hit(dry, first + at, kick, 0.5)
        for at in (1, 3, *((3.25, 3.5, 3.75) if bar in _FILLS else ())):
            hit(wet, first + at, snare, 0.32 if at in (1, 3) else 0.22)
    for bar in (_FIRST_BAR, _FILLS[0] + 1, _LAST):
        hit(wet, bar * _BAR_BEATS, crash, 0.45, -0.3)
    hit(dry, _LAST * _BAR_BEATS, kick, 0.5)


class DemoSource(FeedSource):
    """A demo song as a source, stereo.

    Parameters
    ----------
    name : str
        One of `PIECES`; empty: the first. `UsageError` if it is none.
    duration_s : float, optional
        How long to play; beyond the song's length it begins again. Missing: once.
    """

    channels = 2

    def __init__(self, name: str = "", duration_s: float | None = None) -> None:
        super().__init__()
        find_piece(name)
        self._name = name or "song"
        self._duration_s = duration_s
        self._mixture = np.zeros((0, 2), np.float32)
        self._frames = 0
        self.samplerate = 48000

    def open(self) -> None:
        """Nothing to check."""

    def start(self, ring: Ring, samplerate: int) -> None:
        """Synthesize, then see `Source.start` [main thread]."""
        self.samplerate = samplerate if samplerate in (44100, 48000) else 48000
        vocals, accompaniment = demo_stems(self.samplerate, self._name)
        self._mixture = np.ascontiguousarray((vocals + accompaniment).T)
        seconds = self._duration_s if self._duration_s is not None else len(self._mixture) / self.samplerate
        self._frames = round(seconds * samplerate)
        super().start(ring, samplerate)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Blocks of the song, again and again if asked."""
        left = round(self._frames_native())
        while left > 0:
            for start in range(0, min(left, len(self._mixture)), BLOCK_FRAMES):
                yield self._mixture[start : min(start + BLOCK_FRAMES, left, len(self._mixture))]
            left -= len(self._mixture)

    def _frames_native(self) -> float:
        return len(self._mixture) if self._duration_s is None else self._duration_s * self.samplerate

    @property
    def total_frames(self) -> int:
        """Length at the rate given to `start` [any thread]."""
        return self._frames
