"""The WORLD vocoder: sound as pitch, spectral envelope and aperiodicity, and back.

After M. Morise, F. Yokomori, K. Ozawa, "WORLD: a vocoder-based high-quality speech synthesis system for real-time
applications", IEICE Trans. Inf. & Syst. E99-D(7), 2016. Needs `pyworld`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import UsageError

PERIOD_MS = 5.0
FRAMES_PER_S = 200
FLOOR_HZ, CEILING_HZ = 71.0, 900.0
FINE_HZ = 5000.0  # the envelope is kept every 47 Hz up to here, every 1.6 % above
SILENCE = -30.0  # natural logarithm of the power of nothing

Floats = NDArray[np.float32]


def module() -> Any:
    """The compiled part of `pyworld`: its `__init__` asks for `pkg_resources`, which setuptools has dropped.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    package = find_spec("pyworld")
    spec = PathFinder.find_spec("pyworld.pyworld", package.submodule_search_locations) if package else None
    if spec is None or spec.loader is None:
        raise UsageError("singing needs pyworld: pip install 'rtsep[train]'")
    world = module_from_spec(spec)
    spec.loader.exec_module(world)
    return world


def grid(rate: int) -> NDArray[np.float64]:
    """Frequencies in Hz at which envelopes are kept."""
    fine = np.arange(0, min(FINE_HZ, rate / 2), 47.0)
    return np.append(fine, np.geomspace(fine[-1] + 47.0, rate / 2, round(np.log(rate / 2 / fine[-1]) / 0.016)))


@dataclass(frozen=True, slots=True)
class Frames:
    """Sound in frames of 5 ms."""

    rate: int
    f0: Floats  # (n,) Hz, 0 where unvoiced
    envelope: Floats  # (n, points of `grid`) natural logarithm of the power
    noise_db: Floats  # (n, bands) aperiodicity in bands of 3 kHz, at most 0

    def save(self, path: Path) -> None:
        """Keep in a file, the envelope at half precision."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, rate=self.rate, f0=self.f0, envelope=self.envelope.astype(np.float16), noise_db=self.noise_db)
        part.replace(path)

    @classmethod
    def open(cls, path: Path) -> Frames:
        """What `save` kept."""
        with np.load(path) as held:
            return cls(int(held["rate"]), held["f0"], held["envelope"].astype(np.float32), held["noise_db"])


def analyse(sound: Floats, rate: int) -> Frames:
    """Frames of mono sound (samples,). The aperiodicity, the dearest part, is found for every other frame."""
    world, x = module(), np.ascontiguousarray(sound, np.float64)
    rough, at = world.dio(x, rate, f0_floor=FLOOR_HZ, f0_ceil=CEILING_HZ, frame_period=PERIOD_MS)
    f0 = world.stonemask(x, rough, at, rate)
    envelope = np.log(world.cheaptrick(x, f0, at, rate, f0_floor=FLOOR_HZ) + np.exp(SILENCE))
    size = world.get_cheaptrick_fft_size(rate, FLOOR_HZ)
    every = slice(None, None, 2)
    noise = world.d4c(x, np.ascontiguousarray(f0[every]), np.ascontiguousarray(at[every]), rate, fft_size=size)
    noise_db = np.repeat(world.code_aperiodicity(noise, rate), 2, axis=0)[: len(f0)]
    kept = _at(envelope.astype(np.float32), np.arange(size // 2 + 1) * rate / size, grid(rate))
    return Frames(rate, f0.astype(np.float32), kept, noise_db.astype(np.float32))


def synthesize(frames: Frames, formants: float = 1.0) -> Floats:
    """Sound (samples,) of frames, with the formants at `formants` times their frequencies."""
    world = module()
    size = world.get_cheaptrick_fft_size(frames.rate, FLOOR_HZ)
    hz = np.arange(size // 2 + 1) * frames.rate / size
    power = np.exp(_at(frames.envelope, grid(frames.rate), hz / formants).astype(np.float64, order="C"))
    noise = world.decode_aperiodicity(np.ascontiguousarray(frames.noise_db, np.float64), frames.rate, size)
    return world.synthesize(frames.f0.astype(np.float64), power, noise, frames.rate, PERIOD_MS).astype(np.float32)


def _at(rows: Floats, known: NDArray[np.float64], wanted: NDArray[np.float64]) -> Floats:
    """Each row, known at ascending points, interpolated at others; its ends go on."""
    place = np.interp(wanted, known, np.arange(len(known)))
    low = np.minimum(place.astype(int), len(known) - 2)
    share = (place - low).astype(np.float32)
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share
