"""Covers: a real vocals track as another singer would sing it, with other formants and in another key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rtsep.training.data.sources import CACHE_RATE, NARROW_HZ, Clip, Corpus
from rtsep.training.data.tools import write_opus
from rtsep.training.data.world import Floats, analyse, synthesize

SECONDS = 25.0
SHIFT = 4.0  # semitones
PEAK = 0.8


def liveliest(rng: np.random.Generator, clip: Clip) -> int:
    """Where to cut: of six places the one that holds most sound above a hundredth of the loudest."""
    frames = int(SECONDS * CACHE_RATE)
    starts = rng.integers(0, max(clip.frames - frames, 1), 6)
    coarse = np.abs(clip.sound[0, ::480].astype(np.float32))
    loud = coarse > 0.03 * np.percentile(coarse, 99.5)
    return int(max(starts, key=lambda start: loud[start // 480 : (start + frames) // 480].sum()))


def cover(rng: np.random.Generator, sound: Floats, rate: int) -> Floats:
    """Mono sound (samples,) with formants at 0.85 to 1.2 times their place and at most 4 semitones higher or lower."""
    formants = float(np.exp(rng.uniform(np.log(0.85), np.log(1.2))))
    shift, breathy = rng.uniform(-SHIFT, SHIFT), rng.choice([-3.0, 0.0, 3.0])
    frames = analyse(sound, rate)
    wander = np.interp(np.arange(len(frames.f0)), np.arange(0, len(frames.f0) + 100, 100), _walk(rng, len(frames.f0)))
    f0 = (frames.f0 * 2 ** ((shift + wander) / 12)).astype(np.float32)
    noise_db = np.where(f0[:, None] > 0, np.minimum(frames.noise_db + breathy, 0), frames.noise_db)
    return synthesize(replace(frames, f0=f0, noise_db=noise_db.astype(np.float32)), formants)


def _walk(rng: np.random.Generator, frames: int) -> Floats:
    """A small drift of the pitch in semitones, two values a second."""
    return rng.normal(0, 0.08, len(np.arange(0, frames + 100, 100))).astype(np.float32)


def make_covers(corpus: Corpus, output: Path, count: int, seed: int) -> int:
    """Write covers of the real songs in turn, wide and narrow ones each their share; returns how many."""
    wide = [v for v, _ in corpus.pairs if not v.narrow and v.group != "score"]
    narrow = [v for v, _ in corpus.pairs if v.narrow]
    turns = [(wide, 0.35), (narrow, 0.65)] if wide and narrow else [(wide or narrow, 1.0)]
    made = 0
    for clips, share in turns:
        if not clips:
            continue
        order = np.random.default_rng(seed).permutation(len(clips))
        for number in range(round(share * count)):
            clip = clips[order[number % len(clips)]]
            target = output / ("vocals16k" if clip.narrow else "vocals") / f"cover_{clip.name}_{number:03d}.opus"
            made += 1
            if target.exists():
                continue
            rng = np.random.default_rng([seed, 1, int(clip.narrow), number])
            rate = int(2 * NARROW_HZ) if clip.narrow else CACHE_RATE
            sound = clip.read(liveliest(rng, clip), int(SECONDS * CACHE_RATE))
            if rate != CACHE_RATE:
                from scipy.signal import resample_poly

                sound = resample_poly(sound, 1, CACHE_RATE // rate).astype(np.float32)
            result = cover(rng, sound, rate)
            write_opus(target, PEAK / max(float(np.abs(result).max()), 1e-3) * result, rate)
    return made
