"""Long mixtures to train the detector's memory on: rests as songs have them, songs that nobody sings to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtsep.training.augment import Floats, Mixer


class LongMixer(Mixer):
    """`Mixer` with short and long rests, voices down to 18 dB under the music, and pairs at their own balance."""

    def _rests(self, rng: np.random.Generator, voice: Floats) -> Floats:
        kind = rng.random()
        if kind < 0.2:
            return voice * self._gaps(rng)
        if kind < 0.45:
            return voice * self._gaps(rng, (2.0, 12.0), (3.0, 12.0))
        return voice * np.float32(kind < 0.92)

    def _balance(self, rng: np.random.Generator, native: NDArray[Any], own: NDArray[Any], roll: int) -> NDArray[Any]:
        drawn = np.where(
            rng.random(len(native)) < 0.7, rng.normal(-3, 4, len(native)), rng.uniform(-18, 0, len(native))
        )
        return np.where(own, native + rng.normal(0, 2.0, len(native)), np.clip(drawn, -18, 8))
