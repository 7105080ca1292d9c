"""Scores of a net on songs, by a short offline form of the stream's own transform."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rtsep.dsp.windows import asymmetric_pair
from rtsep.evaluation.scores import frame_accuracy, sdr, sdr_gain
from rtsep.training.data.augment import BINS, HOP, VAD_RANGE_DB, WINDOW, hold
from rtsep.training.data.songs import Song

Infer = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Magnitudes (T, 513) of a whole stream to mask (T, 513) and voice probability (T,)."""


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one song, dB, and the share of frames on which the detector is right."""

    name: str
    kind: str
    mixture: float
    vocals_gain: float
    accompaniment_gain: float
    binary_gain: float
    gated_gain: float
    vad: float
    voiced: float


def spectra(sound: NDArray[np.float32], hop: int = HOP) -> NDArray[np.complex64]:
    """Spectra (T, 1025) of mono sound (frames,); frame k ends at sample ``(k + 1) * hop``, silence before the start."""
    window = asymmetric_pair(WINDOW, hop)[0].astype(np.float32)
    hops = -(-len(sound) // hop) + 1
    padded = np.zeros(WINDOW + (hops - 1) * hop, np.float32)
    padded[WINDOW - hop : WINDOW - hop + len(sound)] = sound
    return fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop] * window, axis=-1)


def resynthesize(spectrum: NDArray[np.complex64], frames: int, hop: int = HOP) -> NDArray[np.float32]:
    """Overlap-add of masked `spectra` back to `frames` samples."""
    window = asymmetric_pair(WINDOW, hop)[1].astype(np.float32)
    blocks = (fft.irfft(spectrum, WINDOW, axis=-1) * window)[:, WINDOW - 2 * hop :]
    out = np.zeros((len(blocks) + 1) * hop, np.float32)
    for half in (0, 1):  # block k covers the hops k - 1 and k of the padded time line
        out[half * hop : (half + len(blocks)) * hop] += blocks[:, half * hop : (half + 1) * hop].reshape(-1)
    return out[hop : hop + frames]


def widen(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mask (T, bins) to all 1025 bins: above the last one its mask goes on."""
    top = mask[:, -1:]
    return np.concatenate([mask, np.repeat(top, WINDOW // 2 + 1 - mask.shape[1], axis=1)], axis=1)


def separate(
    infer: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    sound: NDArray[np.float32],
    bins: int,
    lookahead: int = 0,
) -> NDArray[np.float32]:
    """Vocals (channels, frames) by one mask for all channels, aligned with the sound: what the stream does, offline.

    `infer` takes magnitudes (T, bins) of the mean of the channels to masks (T, bins), for the frames `lookahead` hops
    ago.
    """
    padded = np.pad(sound, ((0, 0), (0, lookahead * HOP)))
    channels = [spectra(channel) for channel in padded]
    mask = widen(infer(np.abs(0.5 * (channels[0] + channels[-1])[:, :bins]))[lookahead:])
    return np.stack([resynthesize(x[: len(mask)] * mask, sound.shape[1]) for x in channels])


def gate_of(vad: NDArray[np.float32], attack: float = 0.7, release: float = 0.15) -> NDArray[np.float32]:
    """A plain gate over the voice probability: opens at 0.5 in about one frame, closes over about ten."""
    gain, out = 0.0, np.empty_like(vad)
    for i, p in enumerate(vad):
        target = 1.0 if p > 0.5 else 0.0
        gain += (target - gain) * (attack if target > gain else release)
        out[i] = gain
    return out


def vad_truth(vocals: NDArray[np.float32], loud: float) -> NDArray[np.bool_]:
    """Frames that hold voice: at most 30 dB under the loud frames of the recording, each held for 93 ms."""
    energy = (np.abs(spectra(vocals)[:, :BINS]) ** 2).sum(-1)
    return hold((energy > loud**2 * WINDOW**2 / 4 * 10 ** (VAD_RANGE_DB / 10)) & (energy > 0))


def score(song: Song, infer: Infer, lookahead: int = 0, threshold: float = 0.5) -> Score:
    """Scores of one song. `lookahead` hops of delay of the mask are undone first."""
    mixture = song.vocals + song.accompaniment
    x = spectra(mixture[0])
    mask, vad = infer(np.abs(x[:, :BINS]))
    if lookahead:
        x = x[:-lookahead]
        mask, vad = mask[lookahead:], vad[lookahead:]
    n = mixture.shape[1] - lookahead * HOP
    mixture, reference, music = mixture[:, :n], song.vocals[:, :n], song.accompaniment[:, :n]
    truth = vad_truth(song.vocals[0], song.loud)[: len(vad)]
    vocals = resynthesize(x * widen(mask), n)[None]
    binary = resynthesize(x * widen((mask > threshold).astype(np.float32)), n)[None]
    gated = resynthesize(x * widen(mask * gate_of(vad)[:, None]), n)[None]
    return Score(
        song.name,
        song.kind,
        sdr(reference, mixture),
        sdr_gain(reference, vocals, mixture),
        sdr_gain(music, mixture - vocals, mixture),
        sdr_gain(reference, binary, mixture),
        sdr_gain(reference, gated, mixture),
        frame_accuracy(truth, vad > 0.5),
        float(truth.mean()),
    )


def summarize(scores: Iterable[Score]) -> dict[str, dict[str, float]]:
    """Means over the songs of each kind."""
    rows = list(scores)
    kinds = sorted({row.kind for row in rows})
    fields = ("mixture", "vocals_gain", "accompaniment_gain", "binary_gain", "gated_gain", "vad", "voiced")
    return {
        kind: {field: float(np.mean([getattr(row, field) for row in rows if row.kind == kind])) for field in fields}
        for kind in kinds
    }
