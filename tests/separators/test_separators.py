"""What holds for every separator."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.errors import UsageError
from rtsep.separators import registry
from rtsep.separators.base import RAMP_MS, Param, Separator
from rtsep.separators.gate import Gate
from rtsep.separators.kernels import MOST_GAIN
from rtsep.spec import StreamSpec
from tests.separators import tiny

NAMES = [*registry.BUILT_IN, "tiny"]


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], tuple[Separator, StreamSpec]]:
    """Factory of the separator, prepared for so many channels."""

    def prepared(channels: int) -> tuple[Separator, StreamSpec]:
        spec = StreamSpec(48000, channels, tiny.HOP, tiny.WINDOW)
        path = request.param
        if path == "tiny":
            path = str(tiny.build(tmp_path / "tiny", vad=True))
        elif path == "invert":
            soundfile.write(tmp_path / "band.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 48000), 48000)
            path = f"invert:{tmp_path / 'band.wav'}"
        separator = registry.create(path, device="cpu")
        separator.prepare(spec)
        return separator, spec

    return prepared


def spectra_of(spec: StreamSpec, hops: int) -> np.ndarray:
    draw = np.random.default_rng(4)
    shape = (hops, spec.channels, spec.bins)
    common = draw.standard_normal((hops, 1, spec.bins))
    return (0.4 * (common + 0.3 * draw.standard_normal(shape) + 1j * common)).astype(np.complex64)


def run(separator: Separator, spectra: np.ndarray) -> np.ndarray:
    """Masks of all hops; (hops, 2 x channels, bins) where they are complex."""
    hops, channels, bins = spectra.shape
    rows = 2 * channels if separator.mask_kind == "complex" else channels
    masks = np.full((hops, rows, bins), np.nan, np.float32)
    for spectrum, mask in zip(spectra, masks, strict=True):
        separator.process(spectrum, mask)
    return masks


@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_bits_every_time_and_masks_of_0_to_1(make: Callable, channels: int) -> None:
    separator, spec = make(channels)
    spectra = spectra_of(spec, 30)
    first = run(separator, spectra)
    if separator.mask_kind == "complex":
        assert (np.hypot(*np.split(first, 2, axis=1)) <= MOST_GAIN * 1.00001).all()
    else:
        assert ((first >= 0) & (first <= 1)).all()
    separator.reset()
    np.testing.assert_array_equal(run(separator, spectra), first)
    other, _ = make(channels)
    np.testing.assert_array_equal(run(other, spectra), first)


def test_a_mask_depends_on_nothing_to_come(make: Callable) -> None:
    separator, spec = make(2)
    spectra = spectra_of(spec, 30)
    first = run(separator, spectra)
    spectra[20:] *= 3
    separator.reset()
    np.testing.assert_array_equal(run(separator, spectra)[:20], first[:20])


def test_process_allocates_nothing_that_stays(make: Callable) -> None:
    separator, spec = make(2)
    spectra = spectra_of(spec, 1)
    mask = run(separator, spectra)[0]
    for _ in range(50):
        separator.process(spectra[0], mask)
    tracemalloc.start()
    try:
        separator.process(spectra[0], mask)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            separator.process(spectra[0], mask)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - before < 200, "grows by a byte per hop"
    assert peak - before < mask.nbytes, "an array was made"


def test_parameters_are_ramped(make: Callable) -> None:
    """From one end of every range to the other takes the ramp's time, and no hop does more than its share."""
    separator, spec = make(2)
    for name, param in separator.params.params.items():
        separator.params.set(name, param.low)
    separator.reset()
    start = separator.params.values.copy()
    for name, param in separator.params.params.items():
        separator.params.set(name, param.high)
    spectra = spectra_of(spec, 1)
    span = np.array([param.high - param.low for param in separator.params.params.values()])
    hops = int(np.ceil(RAMP_MS / spec.hop_ms))
    last = start
    for _ in range(hops):
        run(separator, spectra)
        values = separator.params.values.copy()
        assert (np.abs(values - last) <= span / hops * 1.1).all()
        last = values
    np.testing.assert_allclose(last, start + span, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "param", "low", "high"),
    [
        ("midside", "width", 0.0, 0.5),
        ("midside", "softness", 0.02, 1.0),
        ("midside", "bass", 0.0, 1000.0),
        ("midside", "strength", 0.25, 4.0),
        ("adress", "position", -1.0, 0.0),
        ("adress", "width", 0.0, 1.0),
        ("adress", "binary", 0.0, 1.0),
        ("adress", "treble", 1000.0, 24000.0),
        ("band", "low_hz", 20.0, 2000.0),
        ("band", "slope_db", 3.0, 96.0),
        ("ica", "masked", 0.0, 1.0),
        ("ica", "treble", 1000.0, 24000.0),
        ("tiny", "strength", 0.25, 4.0),
        ("tiny", "binary", 0.0, 1.0),
        ("tiny", "vad_gate", 0.0, 1.0),
    ],
)
def test_a_change_while_playing_does_not_click(tmp_path: Path, name: str, param: str, low: float, high: float) -> None:
    """The mask of a steady sound goes from the old state to the new one in steps much smaller than the way."""
    path = str(tiny.build(tmp_path, vad=True)) if name == "tiny" else name
    spec = StreamSpec(48000, 2, tiny.HOP, tiny.WINDOW)
    separator = registry.create(path, device="cpu")
    if name == "tiny" and param != "vad_gate":
        separator.params.set("vad_gate", "off")
    separator.params.set(param, low)
    separator.prepare(spec)
    spectrum = spectra_of(spec, 1)[0] * 0.5
    steady = np.repeat(spectrum[None], 200, axis=0)
    run(separator, steady)
    separator.params.set(param, high)
    masks = run(separator, steady)
    steps = np.abs(np.diff(masks[:, 0], axis=0))
    way = np.abs(masks[-1] - masks[0]).max()
    assert way > 0.2, "the parameter does something"
    assert steps.mean(axis=1).max() < 0.1, "a hop changes the mask as a whole"


def test_a_choice_is_found_in_capitals_or_not() -> None:
    param = Param("mode", "choice", 0.0, 2.0, 0.0, "", ("Soft", "hard", "HARD"))
    assert [param.parse(word) for word in ("soft", "SOFT", " Soft ", "hard", "HARD", "1")] == [0, 0, 0, 1, 2, 1]
    with pytest.raises(UsageError, match="mode=Hard is not understood: Soft or hard or HARD is"):
        param.parse("Hard")


def test_gate_moves_in_straight_lines() -> None:
    gate = Gate()
    assert [gate.step(0.9, 0.5, 4, 2) for _ in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [gate.step(0.1, 0.5, 4, 2) for _ in range(3)] == [0.5, 0.0, 0.0]
    assert gate.step(0.5, 0.5, 0, 0) == 1.0
    assert np.isnan(gate.step(float("nan"), 0.5, 4, 4))
    assert gate.step(0.1, 0.5, 4, 4) == 0.75
    gate.reset()
    assert gate.gain == 0.0
