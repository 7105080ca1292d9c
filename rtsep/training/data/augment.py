"""Mash-ups made on the fly: any voice on any accompaniment, and the true pairs, as spectra with their targets.

Everything a batch holds follows from (seed, step), so that an interrupted training goes on with the very same
sound. Resampling, equalizer and reverb are one transform of a whole crop to frequency and back; they wrap around
at its ends, which no net of 300 ms can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rtsep.dsp.windows import asymmetric_pair
from rtsep.training.data.sources import CACHE_RATE, NARROW_HZ, PACKAGED, Clip, Corpus

WINDOW = 2048
HOP = 512
BINS = 513
CONTEXT = 25
STREAM_RATE = 44100.0
VAD_RANGE_DB = -30.0  # a frame holds voice when it is at most this far under the loud frames of its recording
VAD_HOLD = 8  # frames: 93 ms bridge the closure of a plosive

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training step needs; B sequences, T input and T - 24 - lookahead output frames, F = 513 bins."""

    magnitude: Floats  # (B, T, F) of the mixture
    start: Floats  # (B, 2) level and weight at the first frame
    ratio: Floats  # (B, T', F) Re(V conj X) / |X|^2: the best real gain of each cell
    binary: Floats  # (B, T', F) 1 where the vocals prevail
    voice: Floats  # (B, T', F) |V|
    bins: Floats  # (B, F) 1 where the sources have content
    vad: Floats  # (B, T') 1 where there is a voice
    vad_weight: Floats  # (B, T') 0 where a voice is too far under the music to be heard

    def arrays(self) -> dict[str, Floats]:
        """All of them by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def stft(sound: Floats, window: Floats) -> NDArray[np.complex64]:
    """Spectra (frames, 513) of mono sound; frame k ends at sample ``WINDOW + k * HOP``."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    return fft.rfft(frames * window, axis=-1)[:, :BINS]


def hold(active: NDArray[np.bool_], frames: int = VAD_HOLD) -> NDArray[np.bool_]:
    """Each True kept on for `frames` further frames along the last axis."""
    out = active.copy()
    for shift in range(1, frames + 1):
        out[..., shift:] |= active[..., :-shift]
    return out


def loud_level(clip: Clip) -> float:
    """RMS of the loud (95th percentile) frames of a recording."""
    blocks = clip.sound[0, : clip.frames // WINDOW * WINDOW].reshape(-1, WINDOW)[::2].astype(np.float32) / 16384.0
    if not len(blocks):
        return 1e-3
    return float(np.percentile(np.sqrt((blocks**2).mean(-1)), 95)) + 1e-5


class Mixer:
    """Batches of mash-ups addressed by step.

    Parameters
    ----------
    corpus : Corpus
    seed : int
    frames : int
        Output frames of a sequence.
    sources : int
        Voices and accompaniments drawn for a batch.
    rolls : int
        Mixtures made of each source: the batch has ``sources * rolls`` sequences. Roll 0 holds the true pairs.
    lookahead : int
        Hops that the net may look ahead of the frame it masks.
    """

    def __init__(
        self, corpus: Corpus, *, seed: int, frames: int = 256, sources: int = 8, rolls: int = 2, lookahead: int = 0
    ) -> None:
        self.seed, self.frames, self.sources, self.rolls, self.lookahead = seed, frames, sources, rolls, lookahead
        self.total = frames + CONTEXT - 1
        self.length = fft.next_fast_len((self.total - 1) * HOP + WINDOW, real=True)
        self.length += self.length % 2
        self.window = asymmetric_pair(WINDOW, HOP)[0].astype(np.float32)
        sung = [p for p in corpus.pairs if p[0].group == "score"]  # `rtsep.training.data.singing`
        wide = [p for p in corpus.pairs if not p[0].narrow and p[0].group != "score"]
        narrow = [p for p in corpus.pairs if p[0].narrow]
        speech = [v for v in corpus.voices if v.group == "tsp"]
        covers = [v for v in corpus.voices if v.group == "cover"]
        packaged = [v for v in corpus.voices if v.group.startswith(PACKAGED)]  # `rtsep.training.data.speakers`
        known = {"tsp", "cover"} | {v.group for v in packaged}
        banks = [v for v in corpus.voices if v.group not in known]
        # (weight, clips): a share for each kind of source, whatever its length
        shares = (0.3, 0.5, 0.2) if sung else (0.4, 0.6, 0.0)
        self.pairs = [(w, g) for w, g in zip(shares, (wide, narrow, sung), strict=True) if g]
        self.voices = [
            (w, g)
            for w, g in (
                (0.35, [p[0] for p in narrow]),
                (0.2, [p[0] for p in wide]),
                (0.4, banks),
                (0.05, speech),
                (0.3, packaged),
                (0.2, [p[0] for p in sung]),
                (0.35, covers),
            )
            if g
        ]
        self.accompaniments = [
            (w, g)
            for w, g in (
                (0.65, corpus.accompaniments),
                (0.15, [p[1] for p in narrow]),
                (0.2, [p[1] for p in wide]),
                (0.1, [p[1] for p in sung]),
            )
            if g
        ]
        self._levels: dict[int, float] = {}
        self._log_hz = np.log2(np.maximum(np.arange(self.length // 2 + 1) * STREAM_RATE / self.length, 20.0) / 1000.0)

    def batch(self, step: int) -> Batch:
        """The batch of a step: the same for the same seed, corpus and sizes."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [self._source(rng) for _ in range(self.sources)]
        voices = np.stack([stft(d[0], self.window)[: self.total] for d in drawn])
        music = np.stack([stft(d[1], self.window)[: self.total] for d in drawn])
        loud = np.array([d[2] for d in drawn], np.float32)
        cuts = np.array([[d[3], d[4]] for d in drawn])
        paired = np.array([d[5] for d in drawn])
        out = [self._mix(rng, voices, music, loud, cuts, paired & (r == 0), r) for r in range(self.rolls)]
        return Batch(*(np.concatenate([getattr(b, name) for b in out]) for name in Batch.__slots__))

    def _pick(self, rng: np.random.Generator, groups: list) -> Any:
        weights = np.array([w for w, _ in groups])
        clips = groups[rng.choice(len(groups), p=weights / weights.sum())][1]
        return clips[rng.integers(len(clips))]

    def _level(self, clip: Clip) -> float:
        if id(clip) not in self._levels:
            self._levels[id(clip)] = loud_level(clip)
        return self._levels[id(clip)]

    def _stream_rate(self, rng: np.random.Generator) -> float:
        """Rate in Hz of the stream that a sequence is a part of."""
        return STREAM_RATE

    def _crop_frames(self, rng: np.random.Generator, low: float = 0.8, high: float = 1.25) -> int:
        speed = rng.uniform(low, high) * CACHE_RATE / self._stream_rate(rng)
        frames = fft.next_fast_len(int(self.length * speed), real=True)
        return frames + frames % 2

    def _source(self, rng: np.random.Generator) -> tuple[Floats, Floats, float, float, float, bool]:
        """Voice, accompaniment (each (length,)), loud level of the voice, top of the content of each in Hz; a pair?"""
        voice: Clip
        music: Clip
        paired = rng.random() < 0.5
        if paired:
            voice, music = self._pick(rng, self.pairs)
            frames = music_frames = self._crop_frames(rng)
            start = music_start = self._start(rng, voice, frames, 0.8)
        else:
            voice, music = self._pick(rng, self.voices), self._pick(rng, self.accompaniments)
            # Far more than tape speed alone would ask: it makes other singers out of the few that there are.
            frames, music_frames = self._crop_frames(rng, 0.68, 1.4), self._crop_frames(rng, 0.75, 1.3)
            start = self._start(rng, voice, frames, 0.95)
            music_start = self._start(rng, music, music_frames, 1.0)
        side = rng.uniform(-1, 1) if rng.random() < 0.4 else 0.0
        v = voice.read(start, frames, side)
        a = music.read(music_start, music_frames, side)
        v, gain = self._process(rng, v, voice=True)
        a, _ = self._process(rng, a, voice=False)
        v = self._rests(rng, v)
        if rng.random() < 0.05:  # a mixture that was clipped: what clipping adds counts as music
            mix = v + a
            peak = np.abs(mix).max() * rng.uniform(0.3, 0.8)
            a = np.clip(mix, -peak, peak) - v
        top_v = NARROW_HZ * self.length / frames * STREAM_RATE / CACHE_RATE if voice.narrow else 1e9
        top_a = NARROW_HZ * self.length / music_frames * STREAM_RATE / CACHE_RATE if music.narrow else 1e9
        return v, a, self._level(voice) * gain, top_v, top_a, bool(paired)

    def _start(self, rng: np.random.Generator, clip: Clip, frames: int, lively: float) -> int:
        """Where to cut: mostly a place that is not silent."""
        room = max(clip.frames - frames, 1)
        start = int(rng.integers(room))
        if rng.random() < lively:
            for _ in range(6):
                part = clip.sound[0, start : start + frames : 37].astype(np.float32) / 16384.0
                if part.size and np.sqrt((part**2).mean()) > 0.15 * self._level(clip):
                    break
                start = int(rng.integers(room))
        return start

    def _process(self, rng: np.random.Generator, sound: Floats, *, voice: bool) -> tuple[Floats, float]:
        """Resample to `length`, equalize, add reverb and doubles to a voice; also the gain that this made."""
        before = np.sqrt((sound**2).mean()) + 1e-9
        spectrum = fft.rfft(sound)
        bins = self.length // 2 + 1
        keep = min(len(spectrum), bins)
        out = np.zeros(bins, np.complex64)
        out[:keep] = spectrum[:keep] * (self.length / len(sound))
        if rng.random() < 0.85:
            out *= self._equalizer(rng)
        if voice and rng.random() < 0.15:  # a double: the same voice some milliseconds later
            delay = rng.uniform(0.01, 0.04) * STREAM_RATE
            phase = np.exp(-2j * np.pi * delay / self.length * np.arange(bins)).astype(np.complex64)
            out *= 1 + np.float32(rng.uniform(0.3, 0.9)) * phase
        if rng.random() < (0.5 if voice else 0.1):
            out *= fft.rfft(self._room(rng), self.length)
        result = fft.irfft(out, self.length).astype(np.float32)
        after = np.sqrt((result**2).mean()) + 1e-9
        return result, float(after / before)

    def _equalizer(self, rng: np.random.Generator) -> Floats:
        points = np.linspace(-6, 4.5, 43)  # octaves around 1 kHz
        gain_db = rng.normal(0, 1.0) * points
        for _ in range(3):
            gain_db += rng.normal(0, 4) * np.exp(-0.5 * ((points - rng.uniform(-4, 4)) / rng.uniform(0.3, 1.5)) ** 2)
        return (10 ** (np.interp(self._log_hz, points, gain_db) / 20)).astype(np.float32)

    def _room(self, rng: np.random.Generator) -> Floats:
        """Impulse response: the sound itself and a decaying noise after it."""
        seconds = rng.uniform(0.2, 1.8)
        n = int(min(seconds, 1.2) * STREAM_RATE)
        tail = rng.standard_normal(n, np.float32) * np.exp(
            -6.9 * np.arange(n, dtype=np.float32) / (seconds * STREAM_RATE)
        )
        wet = 10 ** (rng.uniform(-22, -2) / 20)
        tail *= np.float32(wet / np.sqrt((tail**2).sum()))
        response = np.zeros(n + 4096, np.float32)
        late = int(rng.uniform(0, 0.04) * STREAM_RATE)
        response[late : late + n] = tail
        response[0] += 1.0
        return response[: self.length]

    def _rests(self, rng: np.random.Generator, voice: Floats) -> Floats:
        """The voice with rests of 0.4 to 2.5 s, or as it was."""
        return voice * self._gaps(rng) if rng.random() < 0.3 else voice

    def _gaps(
        self,
        rng: np.random.Generator,
        sung: tuple[float, float] = (0.4, 2.5),
        rest: tuple[float, float] = (0.4, 2.5),
    ) -> Floats:
        """An envelope of 0 and 1 with fades of 20 ms: rests in the singing, of so many seconds."""
        points, values, at, on = [0.0], [float(rng.random() < 0.6)], 0.0, rng.random() < 0.6
        values = [float(on)]
        while at < self.length:
            at += rng.uniform(*(sung if on else rest)) * STREAM_RATE
            points += [at, at + 0.02 * STREAM_RATE]
            values += [float(on), float(not on)]
            at, on = points[-1], not on
        return np.interp(np.arange(self.length), points, values).astype(np.float32)

    def _balance(self, rng: np.random.Generator, native: NDArray[Any], own: NDArray[Any], roll: int) -> NDArray[Any]:
        """Voice against music in dB; `native` as the parts are, `own` where they are of the same song."""
        balance = np.clip(rng.normal(-1.0, 5.0, len(native)), -15, 12)
        return np.where(np.abs(native) < 9, native + rng.normal(0, 3.0, len(native)), balance) if roll == 0 else balance

    def _mix(self, rng, voices, music, loud, cuts, own, roll: int) -> Batch:  # type: ignore[no-untyped-def]
        """Voice i on accompaniment i + roll at drawn gains; roll 0 keeps the true pairs near their own balance."""
        n = self.sources
        voice_energy = (np.abs(voices) ** 2).mean((1, 2)) + 1e-12
        other = np.roll(np.arange(n), -roll)
        music_energy = (np.abs(music[other]) ** 2).mean((1, 2)) + 1e-12
        native = 10 * np.log10(voice_energy / music_energy)
        balance = self._balance(rng, native, own, roll)
        gain = np.where(voice_energy > 1e-9, 10 ** ((balance - native) / 20), 1.0)
        kind = rng.random(n)
        gain_voice = np.where(kind < 0.07, 0.0, gain).astype(np.float32)
        gain_music = np.where((kind > 0.07) & (kind < 0.1), 0.0, 1.0).astype(np.float32)
        x_level = 10 ** (rng.uniform(-40, 3, n) / 20) * 0.2
        rms = np.sqrt(gain_voice**2 * voice_energy + gain_music**2 * music_energy)
        overall = (x_level / rms * np.sqrt(WINDOW)).astype(np.float32)
        v = voices * (gain_voice * overall)[:, None, None]
        x = v + music[other] * (gain_music * overall)[:, None, None]
        tops = np.minimum(cuts[:, 0], cuts[other, 1])
        hz = np.arange(BINS) * STREAM_RATE / WINDOW
        bins = (hz[None] < (tops * 0.98)[:, None]).astype(np.float32)
        blind = rng.random(n) < 0.6  # else the accompaniment keeps its treble above a narrow voice
        x = x * np.where(blind[:, None], bins, 1.0).astype(np.float32)[:, None]
        v = v * bins[:, None]
        magnitude = np.abs(x)
        cut = slice(CONTEXT - 1 - self.lookahead, self.total - self.lookahead)
        xo, vo = x[:, cut], v[:, cut]
        power = magnitude[:, cut] ** 2
        ratio = (xo.real * vo.real + xo.imag * vo.imag) / (power + 1e-12)
        voice = np.abs(vo)
        binary = (voice > np.abs(xo - vo)).astype(np.float32)
        energy = (np.abs(v) ** 2).sum(-1)
        loud_energy = (loud * gain_voice * overall) ** 2 * (
            WINDOW**2 / 4
        )  # Parseval: the mean square of the window is about 1/2
        active = hold((energy > loud_energy[:, None] * 10 ** (VAD_RANGE_DB / 10)) & (energy > 0))[:, cut]
        under = energy[:, cut] < 0.004 * power.sum(-1)
        level = (magnitude * tilt()).mean(-1).mean(-1)
        warm = (rng.random(n) < 0.7).astype(np.float32)
        start = np.stack([warm * level * 10 ** (rng.normal(0, 4, n) / 20), warm], 1).astype(np.float32)
        return Batch(
            magnitude,
            start,
            ratio.astype(np.float32),
            binary,
            voice,
            bins,
            active.astype(np.float32),
            (~(active & under)).astype(np.float32),
        )


def tilt() -> Floats:
    """The weights of `rtsep.training.nets.koretzky.tilt` for arrays."""
    return (((np.arange(BINS) + 4.0) / 64.0) ** 0.7).astype(np.float32)
