"""Mash-ups in stereo for the live nets: what `rtsep.training.data.augment` does, with a place in the stereo field for
every part, at the hop of the net and over a context of seconds.

Everything is kept as middle and side, half the sum and half the difference of left and right. A step's batch follows
from (seed, step).
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import fft

from rtsep.dsp.windows import asymmetric_pair
from rtsep.separators.features import stereo_field
from rtsep.training.data.augment import (
    CACHE_RATE,
    NARROW_HZ,
    STREAM_RATE,
    VAD_RANGE_DB,
    WINDOW,
    Floats,
    Mixer,
    hold,
)
from rtsep.training.data.sources import CACHE_SCALE, PACKAGED, Clip, Corpus
from rtsep.training.evaluate import resynthesize

BINS = 513
RATES = (STREAM_RATE, 48000.0)  # of the streams that the net is for, with the same weights
Complex = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class StereoBatch:
    """What a training step needs: B sequences of T frames; the rows of pairs are middle and side.

    With a context of c and a look-ahead of n frames there are T' = T - c targets, those of the frames from c - n on.
    """

    field: Floats  # (B, T, 4, BINS) of the mixture, as `features.stereo_field`
    sound: Complex  # (B, T', 2, 2, BINS) of mixture and vocals, where there are targets
    cross: Floats  # (B, T', 2, BINS) Re(V conj X)
    voice: Floats  # (B,) energy of the vocals in the bins and frames that count
    bins: Floats  # (B, BINS) 1 where the sources have content
    vad: Floats  # (B, T') 1 where there is a voice, as in `augment.Batch`
    vad_weight: Floats  # (B, T') 0 where a voice is too far under the music to be heard

    def arrays(self) -> dict[str, Floats | Complex]:
        """All of them by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@njit(
    "void(complex64[:, :, ::1], complex64[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1])", cache=True, nogil=True
)
def fields(mixture, vocals, field, cross):
    """Stereo field of spectra (T, 2, BINS), middle and side, and their products with those of the vocals."""
    pair = np.empty((2, mixture.shape[2]), np.complex64)
    for t in range(mixture.shape[0]):
        for k in range(mixture.shape[2]):
            m, s = mixture[t, 0, k], mixture[t, 1, k]
            pair[0, k], pair[1, k] = m + s, m - s
            v, w = vocals[t, 0, k], vocals[t, 1, k]
            cross[t, 0, k] = m.real * v.real + m.imag * v.imag
            cross[t, 1, k] = s.real * w.real + s.imag * w.imag
        stereo_field(pair, field[t])


def stft(sound: Floats, window: Floats, hop: int, bins: int = BINS) -> Complex:
    """Spectra (frames, channels, bins) of sound (channels, samples); frame k ends at sample ``WINDOW + k * hop``."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW, axis=1)[:, ::hop]
    return np.ascontiguousarray(fft.rfft(frames * window, axis=-1)[..., :bins].transpose(1, 0, 2))


class StereoMixer(Mixer):
    """Batches of stereo mash-ups addressed by step.

    Parameters
    ----------
    corpus, seed, sources, rolls
        As in `rtsep.training.data.augment.Mixer`.
    frames : int
        Of a sequence, those that have no target because of the look-ahead among them.
    hop : int
        Samples from frame to frame.
    lookahead : int
        Frames that the net may look ahead of the one it masks.
    context : int
        First frames of a sequence that have no target.
    window_hop : int, optional
        Hop of the stream, which shapes the analysis window; `hop` if not given.
    soft_voices : float
        Share of the mixtures whose voice lies 8 to 20 dB under the music, beside those that happen to.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        seed: int,
        frames: int = 1034,
        sources: int = 4,
        rolls: int = 1,
        hop: int = 256,
        lookahead: int = 0,
        context: int = 0,
        window_hop: int | None = None,
        soft_voices: float = 0.0,
    ) -> None:
        super().__init__(corpus, seed=seed, frames=frames, sources=sources, rolls=rolls, lookahead=lookahead)
        self.total, self.hop, self.context, self.soft_voices = frames, hop, context, soft_voices
        self.length = fft.next_fast_len((frames - 1) * hop + WINDOW, real=True)
        self.length += self.length % 2
        self.window = asymmetric_pair(WINDOW, window_hop or hop)[0].astype(np.float32)
        scores = [clip for clip in corpus.accompaniments if clip.group == "score"]  # `rtsep.training.data.scores`
        games = [clip for clip in corpus.accompaniments if clip.group.startswith(PACKAGED)]
        real = [c for c in corpus.accompaniments if c.group != "score" and not c.group.startswith(PACKAGED)]
        rest = self.accompaniments[1:] if corpus.accompaniments else self.accompaniments
        self.accompaniments = [(w, g) for w, g in ((0.45, real), (0.25, scores), (0.6, games)) if g] + rest
        self._log_hz = np.log2(np.maximum(np.arange(self.length // 2 + 1) * STREAM_RATE / self.length, 20.0) / 1000.0)

    def batch(self, step: int) -> StereoBatch:  # type: ignore[override]
        """The batch of a step: the same for the same seed, corpus and sizes."""
        rows = [self._targets(*row) for row in self._rows(step)]
        return StereoBatch(*(np.stack(values) for values in zip(*rows, strict=True)))

    def sounds(self, step: int) -> Iterator[tuple[Floats, Floats]]:
        """What the net hears at a step: mixture and vocals of each row, left and right, shape (2, samples)."""
        samples = (self.total - 1) * self.hop
        for x, v, *_ in self._rows(step):
            yield self._sound(x, samples), self._sound(v, samples)

    def _sound(self, spectra: Complex, samples: int) -> Floats:
        """Left and right (2, samples) of spectra (T, 2, BINS), middle and side."""
        whole = np.pad(spectra, ((0, 0), (0, 0), (0, WINDOW // 2 + 1 - BINS)))
        mid, side = (resynthesize(whole[:, i], samples, self.hop) for i in (0, 1))
        return np.stack([mid + side, mid - side])

    def _rows(self, step: int) -> Iterator[tuple[Complex, Complex, Floats, float]]:
        """Spectra (T, 2, BINS) of mixture and vocals of each row, the bins that count, the least RMS of a voice."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [self._draw(rng) for _ in range(self.sources)]
        spectra = [[stft(part, self.window, self.hop)[: self.total] for part in d[:2]] for d in drawn]
        tops = np.array([[d[2], d[3]] for d in drawn])
        for roll in range(self.rolls):
            for i in range(self.sources):
                j = (i + roll) % self.sources
                mixed = self._mixture(rng, spectra[i][0], spectra[j][1], tops[i, 0], tops[j, 1], roll == 0)
                yield *mixed[:3], mixed[3] * drawn[i][4]

    def _draw(self, rng: np.random.Generator) -> tuple[Floats, Floats, float, float, float]:
        """Vocals and accompaniment, (2, length) each, the top of the content of each in Hz, least RMS of a voice."""
        paired = rng.random() < 0.4
        if paired:
            voice, music = self._pick(rng, self.pairs)
            frames = music_frames = self._crop_frames(rng)
            start = music_start = self._start(rng, voice, frames, 0.9)
        else:
            voice, music = self._pick(rng, self.voices), self._pick(rng, self.accompaniments)
            frames = self._crop_frames(rng, 0.68, 1.4)  # other singers than there are
            music_frames = self._crop_frames(rng)
            start = self._start(rng, voice, frames, 0.95)
            music_start = self._start(rng, music, music_frames, 1.0)
        sung = read(voice, start, frames)
        v = self._voice(rng, sung, plain=0.5 if paired else 0.15)
        gain = np.sqrt(((v[0] ** 2).mean() + 1e-12) / ((sung[0] ** 2).mean() + 1e-12))
        least = float(gain * self._level(voice) * 10 ** (VAD_RANGE_DB / 20))
        if rng.random() < 0.12:  # a second singer, elsewhere in the picture
            other = self._crop_frames(rng, 0.68, 1.4)
            second = self._voice(rng, read(voice, self._start(rng, voice, other, 0.9), other), plain=0.0)
            v = v + second * np.float32(rng.uniform(0.2, 0.7))
        narrow = paired and voice.narrow and rng.random() < 0.7  # stays mono, as such songs are
        a = self._music(rng, read(music, music_start, music_frames), narrow)
        if not paired and rng.random() < 0.2:  # two bands at once: more kinds of music than there are recordings
            more = self._pick(rng, self.accompaniments)
            count = self._crop_frames(rng)
            extra = self._music(rng, read(more, self._start(rng, more, count, 1.0), count), False)
            level = np.sqrt((a**2).mean() / ((extra**2).mean() + 1e-9)) * 10 ** (rng.uniform(-12, 0) / 20)
            a = a + extra * np.float32(min(level, 30.0))
        if rng.random() < 0.25:
            v = v * self._gaps(rng)
        if rng.random() < 0.05:  # a mixture that was clipped: what clipping adds counts as music
            left, right = (v[0] + a[0]) + (v[1] + a[1]), (v[0] + a[0]) - (v[1] + a[1])
            peak = max(float(np.abs(left).max()), float(np.abs(right).max())) * rng.uniform(0.3, 0.8)
            left, right = np.clip(left, -peak, peak), np.clip(right, -peak, peak)
            a = np.stack([0.5 * (left + right) - v[0], 0.5 * (left - right) - v[1]])
        top_v, top_a = (
            NARROW_HZ * self.length / count * STREAM_RATE / CACHE_RATE if clip.narrow else 1e9
            for clip, count in ((voice, frames), (music, music_frames))
        )
        return v, a, top_v, top_a, least

    def _stream_rate(self, rng: np.random.Generator) -> float:
        """Half of all sound is placed in the bins as a stream at 48 kHz has it."""
        return float(rng.choice(RATES))

    def _resampled(self, rng: np.random.Generator, sound: Floats) -> Complex:
        """Transform (2, bins) of a crop brought to `length` and equalized."""
        out = np.zeros((2, self.length // 2 + 1), np.complex64)
        rows = 1 if not sound[1].any() else 2
        spectrum = fft.rfft(sound[:rows], axis=-1)
        keep = min(spectrum.shape[1], out.shape[1])
        out[:rows, :keep] = spectrum[:, :keep] * np.float32(self.length / sound.shape[1])
        if rng.random() < 0.85:
            out *= self._equalizer(rng)
        return out

    def _voice(self, rng: np.random.Generator, sound: Floats, plain: float) -> Floats:
        """A voice with its place, doubles, reverb and saturation; `plain`: chance that it is left as it was sung."""
        out = self._resampled(rng, sound)
        kind = rng.random()
        if kind < plain:
            return fft.irfft(out, self.length).astype(np.float32)
        place = rng.random()
        if place < 0.2:
            out[1] += np.float32(rng.uniform(-0.7, 0.7)) * out[0]
        if rng.random() < 0.6:  # a room: its own tail on either side
            mid, side = fft.rfft(self._room(rng), self.length), fft.rfft(self._room(rng), self.length)
            out[1] += np.float32(rng.uniform(0.0, 1.2)) * out[0] * (side - 1)
            out[0] *= mid
        result = fft.irfft(out, self.length).astype(np.float32)
        if 0.2 < place < 0.5:  # doubles left and right, each wandering a little in pitch and time
            left, right = (self._wander(rng, result[0]) * np.float32(rng.uniform(0.2, 0.9)) for _ in range(2))
            result[0] += 0.5 * (left + right)
            result[1] += 0.5 * (left - right)
        if rng.random() < 0.15:
            drive = rng.uniform(0.5, 3.0) / (np.abs(result[0]).max() + 1e-6)
            bent = np.tanh(result[0] * drive) / drive
            result[1] *= bent / (result[0] + np.where(result[0] < 0, -1e-6, 1e-6))
            result[0] = bent
        return result

    def _wander(self, rng: np.random.Generator, sound: Floats) -> Floats:
        """A copy some milliseconds late, by a slowly changing delay."""
        at = np.arange(self.length)
        depth, hz, phase = rng.uniform(0.5, 4.0) * 1e-3, rng.uniform(0.1, 0.8), rng.uniform(0, 2 * np.pi)
        delay = rng.uniform(0.006, 0.04) + depth * np.sin(2 * np.pi * hz / STREAM_RATE * at + phase)
        return np.interp(at - delay * STREAM_RATE, at, sound).astype(np.float32)

    def _music(self, rng: np.random.Generator, sound: Floats, mono: bool) -> Floats:
        """An accompaniment with a width of its own."""
        out = self._resampled(rng, sound)
        stereo = bool(sound[1].any())
        if stereo:
            out[1] *= np.float32(rng.choice([-1, 1]) * rng.uniform(0.2, 1.7))
        elif not mono and rng.random() < 0.5:  # a mono band made wide: the side is a late copy of the middle
            delay = rng.uniform(0.004, 0.03) * STREAM_RATE / self.length
            turn = np.exp(-2j * np.pi * delay * np.arange(out.shape[1])).astype(np.complex64)
            out[1] = np.float32(rng.uniform(0.1, 0.8)) * turn * out[0]
        if rng.random() < 0.1:
            out *= fft.rfft(self._room(rng), self.length)
        if not mono and rng.random() < 0.15:  # leans to one side
            lean = np.float32(rng.uniform(-0.5, 0.5))
            out = np.stack([out[0] + lean * out[1], out[1] + lean * out[0]])
        rows = 2 if out[1].any() else 1
        result = np.zeros((2, self.length), np.float32)
        result[:rows] = fft.irfft(out[:rows], self.length)
        return result

    def _targets(self, x: Complex, v: Complex, bins: Floats, least: float) -> tuple[Floats | Complex | np.float32, ...]:
        """The fields of `StereoBatch` for one row; `least`: RMS from which on the vocals are a voice."""
        field, cross = np.empty((len(x), 4, BINS), np.float32), np.empty((len(x), 2, BINS), np.float32)
        fields(x, v, field, cross)
        cut = slice(self.context - self.lookahead, len(x) - self.lookahead)
        sound = np.stack([x[cut], v[cut]], 1)
        energy, whole = ((np.abs(s) ** 2).sum((1, 2)) for s in (v, x))
        active = hold((energy > least**2 * WINDOW**2 / 4) & (energy > 0))[cut]  # the mean square of the window: 1/2
        weight = ~(active & (energy < 0.004 * whole)[cut])
        sums = np.float32(np.vdot(v[cut], v[cut]).real)
        return field, sound, cross[cut], sums, bins, active.astype(np.float32), weight.astype(np.float32)

    def _mixture(
        self, rng: np.random.Generator, v: Complex, a: Complex, top_v: float, top_a: float, true: bool
    ) -> tuple[Complex, Complex, Floats, float]:
        """Mixture and vocals of one row from spectra (T, 2, BINS), bins that count, gain of the vocals.

        `true`: the pair as drawn.
        """
        energy_v, energy_a = (float(np.vdot(s, s).real) / s.shape[0] + 1e-9 for s in (v, a))
        native = 10 * np.log10(energy_v / energy_a)
        balance = float(np.clip(rng.normal(-2.5, 5.5), -18, 12))
        if true and abs(native) < 9:
            balance = native + rng.normal(0, 3.0)
        if self.soft_voices and rng.random() < self.soft_voices:
            balance = rng.uniform(-20, -8)
        kind, level = rng.random(), 10 ** (rng.uniform(-40, 3) / 20) * 0.2
        gain_v = 0.0 if kind < 0.06 else 10 ** ((balance - native) / 20) if energy_v > 1e-6 else 1.0
        gain_a = 0.0 if 0.06 < kind < 0.09 else 1.0
        rms = np.sqrt(gain_v**2 * energy_v + gain_a**2 * energy_a) / np.sqrt(WINDOW * BINS / 2)
        overall = level / (rms + 1e-9)
        v = v * np.float32(gain_v * overall)
        x = v + a * np.float32(gain_a * overall)
        mono = rng.random() < 0.35
        hz = np.arange(BINS) * STREAM_RATE / WINDOW
        bins = (hz < 0.98 * min(top_v, top_a)).astype(np.float32)
        codec = (hz < rng.uniform(10e3, 16.5e3)).astype(np.float32) if rng.random() < 0.15 else 1.0
        blind = bins if rng.random() < 0.6 else 1.0  # else the accompaniment keeps its treble above a narrow voice
        x *= np.float32(1) * blind * codec
        v *= bins * codec
        if mono:
            x[:, 1] = v[:, 1] = 0
        return x, v, bins, float(gain_v * overall)


def read(clip: Clip, start: int, frames: int) -> Floats:
    """Middle and side of a part of a clip, (2, frames), silence outside of it."""
    out = np.zeros((2, frames), np.float32)
    end = min(start + frames, clip.frames)
    out[: len(clip.sound), : end - start] = clip.sound[:, start:end]
    out /= np.float32(CACHE_SCALE)
    return out
