"""One absurd sample leaves no trace once it is out of a separator's own memory, and never a mask that is no number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.dsp.stft import Stft
from rtsep.separators.base import Separator
from rtsep.separators.registry import create
from rtsep.spec import StreamSpec
from tests.separators.test_invert import notes

RATE = 16000
SPEC = StreamSpec(RATE, 2, 256)
#: Separators that remember, with a short memory where it can be set.
SETTINGS: dict[str, dict[str, float]] = {
    "repet": {"memory_s": 1.0, "apart_s": 0.1},
    "ica": {"memory_s": 0.5},
    "pitch-rules": {},
    "invert": {},
}


def masks_of(separator: Separator, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spectra (hops, 2, bins) of a sound and the masks (hops, rows, bins) of all of them."""
    stft, hops = Stft(SPEC), sound.shape[1] // SPEC.hop
    separator.prepare(SPEC)
    spectra = np.zeros((hops, 2, SPEC.bins), np.complex64)
    masks = np.full((hops, separator.mask_rows(2), SPEC.bins), np.nan, np.float32)
    for hop, (spectrum, mask) in enumerate(zip(spectra, masks, strict=True)):
        stft.analyse(np.ascontiguousarray(sound[:, hop * SPEC.hop : (hop + 1) * SPEC.hop]), spectrum)
        separator.process(spectrum, mask)
    return spectra, masks


@pytest.mark.parametrize("bad", [1e20, 1e30, np.nan, -np.inf])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_sample_that_overflows_is_forgotten(tmp_path: Path, name: str, bad: float) -> None:
    voice, music = notes(9, RATE, 11, 0.2), notes(9, RATE, 12, 0.2)
    sound = np.concatenate([0.6 * voice + 0.5 * music, 0.5 * voice + music])
    soundfile.write(tmp_path / "band.wav", music[0], RATE, subtype="FLOAT")
    damaged = sound.copy()
    damaged[1, 2 * RATE] = bad
    found = []
    for heard in (sound, damaged):
        separator = create(f"invert:{tmp_path / 'band.wav'}" if name == "invert" else name)
        for param, value in SETTINGS[name].items():
            separator.params.set(param, value)
        found.append(masks_of(separator, heard))
    (spectra, wanted), (_, masks) = found
    assert np.isfinite(masks).all()
    late = slice(int(6.5 * RATE) // SPEC.hop, None)
    level = np.tile(np.abs(spectra), (1, masks.shape[1] // 2, 1))[late]
    assert np.square(level * (masks - wanted)[late]).sum() < 1e-4 * np.square(level).sum()
