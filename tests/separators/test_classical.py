"""The separators without a net: where a sound stands in the stereo field decides."""

from __future__ import annotations

import numpy as np
import pytest

from rtsep.separators import registry
from rtsep.separators.base import Separator
from rtsep.separators.kernels import MOST_GAIN
from rtsep.spec import StreamSpec

SPEC = StreamSpec(44100, 2)


def prepared(name: str, spec: StreamSpec = SPEC, **values: float | str) -> Separator:
    separator = registry.create(name)
    for key, value in values.items():
        separator.params.set(key, value)
    separator.prepare(spec)
    return separator


def mask_of(separator: Separator, spectrum: np.ndarray, rows: int = 0) -> np.ndarray:
    mask = np.full((rows or len(spectrum), spectrum.shape[1]), np.nan, np.float32)
    separator.process(np.ascontiguousarray(spectrum, dtype=np.complex64), mask)
    return mask


def tone(channels: int = 2) -> np.ndarray:
    draw = np.random.default_rng(2)
    one = draw.standard_normal(SPEC.bins) + 1j * draw.standard_normal(SPEC.bins)
    return np.repeat(one[None], channels, axis=0)


def hz(frequency: float) -> int:
    return round(frequency / SPEC.bin_hz)


@pytest.mark.parametrize("name", ["midside", "adress"])
def test_the_middle_is_voice_and_the_sides_are_music(name: str) -> None:
    separator = prepared(name)
    inside = slice(hz(200), hz(15000))
    for left, right, voice in ((1, 1, 1), (1, 0, 0), (0, 1, 0), (1, -1, 0), (1, 0.1, 0)):
        mask = mask_of(separator, tone() * np.array([[left], [right]]))
        np.testing.assert_allclose(mask[:, inside], voice, atol=1e-6, err_msg=f"left {left} right {right}")


@pytest.mark.parametrize("name", ["midside", "adress"])
def test_guards_keep_both_ends_in_the_music(name: str) -> None:
    mask = mask_of(prepared(name, bass=300, treble=6000), tone())[0]
    assert (mask[: hz(300 / 1.5)] == 0).all()
    assert (mask[hz(310) : hz(5900)] == 1).all()
    assert (mask[hz(6000 * 1.5) + 1 :] == 0).all()
    assert np.abs(np.diff(mask)).max() < 0.5
    open_mask = mask_of(prepared(name, bass=0, treble=24000), tone())
    assert (open_mask == 1).all()


@pytest.mark.parametrize("name", ["midside", "adress"])
@pytest.mark.parametrize("channels", [1, 2])
def test_mono_sound_and_silence_stand_in_the_middle(name: str, channels: int) -> None:
    separator = prepared(name, StreamSpec(44100, channels), bass=0, treble=24000)
    assert (mask_of(separator, tone(channels)) == 1).all()
    assert (mask_of(separator, 0 * tone(channels)) == 1).all()


def test_midside_width_lets_more_in() -> None:
    spectrum = tone() * np.array([[1.0], [0.5]])
    shares = [
        mask_of(prepared("midside", width=width, softness=0.3), spectrum)[0, hz(1000)] for width in (0, 0.1, 0.3, 0.5)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert shares[-1] == 1


@pytest.mark.parametrize(("gain", "position"), [(1.0, 0.0), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0)])
def test_adress_finds_the_azimuth_of_the_grid_search(gain: float, position: float) -> None:
    """The gain at which one channel cancels the other, as in the paper, but exact."""
    spectrum = tone() * np.array([[gain], [1.0]])
    for swapped, place in ((spectrum, position), (spectrum[::-1], -position)):
        for offset, voice in ((0.0, 1.0), (0.3, 0.0), (-0.3, 0.0)):
            if abs(place + offset) > 1:
                continue
            separator = prepared("adress", position=place + offset, width=0.1, binary="on")
            assert mask_of(separator, swapped)[0, hz(1000)] == voice


def test_adress_shares_a_bin_by_what_the_null_leaves() -> None:
    spectrum = tone() * np.array([[1.0], [np.exp(0.3j)]])
    separator = prepared("adress", width=0.5)
    np.testing.assert_allclose(mask_of(separator, spectrum)[:, hz(1000)], np.cos(0.3) ** 2, atol=1e-6)


def test_any_spectrum_gives_a_mask() -> None:
    draw = np.random.default_rng(3)
    for scale in (1e-38, 1e-20, 1e-6, 1.0, 1e6, 1e18):
        spectrum = scale * (draw.standard_normal((2, SPEC.bins)) + 1j * draw.standard_normal((2, SPEC.bins)))
        spectrum[draw.random(spectrum.shape) < 0.3] = 0
        for name in ("midside", "adress", "repet", "pitch-rules"):
            mask = mask_of(prepared(name), spectrum)
            assert ((mask >= 0) & (mask <= 1)).all(), f"{name} at {scale}"
        mask = mask_of(prepared("ica"), spectrum, rows=4)
        assert (np.abs(mask) <= MOST_GAIN).all(), f"ica at {scale}"
