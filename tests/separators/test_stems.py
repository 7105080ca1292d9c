"""Nets with stems: how the host lays their shares over what the voice leaves, and what manifests may say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtsep.errors import ModelError
from rtsep.separators import manifest, ort
from rtsep.separators.onnx import OnnxSeparator
from rtsep.spec import StreamSpec
from tests.conftest import need
from tests.separators import tiny

SPEC = StreamSpec(48000, 2, tiny.HOP, tiny.WINDOW)


@pytest.fixture(params=["c", "python"])
def separator(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnnxSeparator:
    """A net with known shares: half of x for the drums, a quarter for the bass."""
    if request.param == "python":
        monkeypatch.setattr(ort, "library", lambda: None)
    else:
        need(ort.library() is not None, "onnxruntime is not installed, or without its C library")
    made = OnnxSeparator(tiny.build_stems(tmp_path), device="cpu")
    made.prepare(SPEC)
    return made


def masks_of(separator: OnnxSeparator, levels: list[float]) -> np.ndarray:
    """Masks (hops, rows, bins) of flat spectra of these levels."""
    masks = np.full((len(levels), 6, SPEC.bins), np.nan, np.float32)
    for level, mask in zip(levels, masks, strict=True):
        separator.process(np.full((2, SPEC.bins), level, np.complex64), mask)
    return masks


def test_shares_are_of_what_the_voice_leaves(separator: OnnxSeparator) -> None:
    assert (separator.stems, separator.parts) == (("drums", "bass"), ("drums", "bass", "other"))
    separator.params.set("vad_gate", "off")
    separator.reset()
    for level, mask in zip((0.2, 0.6), masks_of(separator, [0.2, 0.6]), strict=True):
        np.testing.assert_allclose(mask[:2], level, atol=1e-6)
        np.testing.assert_allclose(mask[2:4], (1 - level) * 0.5 * level, atol=1e-6)
        np.testing.assert_allclose(mask[4:], (1 - level) * 0.25, atol=1e-6)


def test_what_the_gate_takes_from_the_voice_the_stems_get(separator: OnnxSeparator) -> None:
    separator.params.set("gate_attack_ms", 0)
    separator.params.set("gate_release_ms", 0)
    separator.reset()
    masks = masks_of(separator, [0.6, 0.4])  # the mean of x is the probability of a voice
    np.testing.assert_allclose(masks[:, 0, 0], [0.6, 0.0], atol=1e-6)
    np.testing.assert_allclose(masks[:, 2, 0], [0.4 * 0.3, 0.2], atol=1e-6)
    np.testing.assert_allclose(masks[:, 4, 0], [0.4 * 0.25, 0.25], atol=1e-6)


def test_protect_smooths_the_shares_as_it_does_the_mask(separator: OnnxSeparator) -> None:
    separator.params.set("vad_gate", "off")
    separator.params.set("protect", 1)
    separator.reset()
    masks, keep, mask, share = masks_of(separator, [0.8] * 20), np.exp(-SPEC.hop_ms / 40), 0.0, 0.0
    for found in masks:
        mask += (1 - keep) * (0.8 - mask)
        share += (1 - keep) * (0.4 - share)
        np.testing.assert_allclose(found[2, 5], share * (1 - (0.03 + 0.97 * mask)), atol=1e-6)
    separator.reset()
    np.testing.assert_array_equal(masks_of(separator, [0.8] * 20), masks)


def test_a_mask_without_rows_for_stems_gets_the_voice_alone(separator: OnnxSeparator) -> None:
    spectrum, small, whole = np.full((2, SPEC.bins), 0.6, np.complex64), *np.zeros((2, 6, SPEC.bins), np.float32)
    separator.process(spectrum, small[:2])
    separator.reset()
    separator.process(spectrum, whole)
    np.testing.assert_array_equal(small[:2], whole[:2])
    assert whole[2:].all() and not small[2:].any()


def test_stems_that_nobody_wants_are_left_out(separator: OnnxSeparator, tmp_path: Path) -> None:
    """The net multiplies its shares by what it is told; without such an input it draws them always."""
    told = OnnxSeparator(tiny.build_stems(tmp_path / "told", wanted=True), device="cpu")
    told.prepare(SPEC)
    for other in (separator, told):
        other.params.set("vad_gate", "off")
        other.reset()
    drawn = masks_of(separator, [0.6])[0]
    assert drawn.all()
    for wanted in (0.0, 1.0, 0.0):
        separator.stems_wanted[0] = told.stems_wanted[0] = wanted
        np.testing.assert_array_equal(masks_of(separator, [0.6])[0], drawn)
        found = masks_of(told, [0.6])[0]
        np.testing.assert_array_equal(found[:2], drawn[:2])
        np.testing.assert_array_equal(found[2:], wanted * drawn[2:])


def test_nan_reaches_every_row_and_does_not_stay(separator: OnnxSeparator) -> None:
    assert np.isnan(masks_of(separator, [np.nan])).all()
    assert np.isfinite(masks_of(separator, [0.5])).all()


@pytest.mark.parametrize(
    ("stems", "why"),
    [
        ('["drums", "drums"]', "holds one twice"),
        ('["drums", "piano"]', "stems"),
        ('["bass"]', "mask"),
        ('"drums"', "stems"),
    ],
)
def test_stems_that_do_not_fit_are_named(tmp_path: Path, stems: str, why: str) -> None:
    folder = tiny.build_stems(tmp_path)
    tiny.edit(folder, '["drums", "bass"]', stems)
    with pytest.raises(ModelError, match=why):
        OnnxSeparator(folder, device="cpu").prepare(SPEC)


def test_an_input_for_stems_needs_stems_and_to_be_there(tmp_path: Path) -> None:
    for name, line, message in (
        ("none", 'stems = ["drums", "bass"]', r"tensors\.stems_wanted 'wanted' is for a net with stems"),
        ("other", 'stems_wanted = "wanted"', "input 'wanted' of model.onnx is not named in the manifest"),
    ):
        folder = tiny.build_stems(tmp_path / name, wanted=True)
        tiny.edit(folder, line, "")
        with pytest.raises(ModelError, match=message):
            OnnxSeparator(folder, device="cpu").prepare(SPEC)
    folder = tiny.build_stems(tmp_path / "missing")
    tiny.edit(folder, 'mask = "mask"', 'mask = "mask"\nstems_wanted = "heard"')
    with pytest.raises(ModelError, match="input 'heard' of the manifest is not in model.onnx"):
        OnnxSeparator(folder, device="cpu").prepare(SPEC)


def test_no_stems_with_several_lookaheads(tmp_path: Path) -> None:
    folder = tiny.build_stems(tmp_path)
    tiny.edit(folder, "lookahead = 0", "lookahead = 0\nlookaheads = 4")
    with pytest.raises(ModelError, match=r"tensors\.stems"):
        manifest.read(folder)
