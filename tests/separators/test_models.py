"""The models that are shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtsep.separators import registry
from rtsep.separators.onnx import OnnxSeparator
from rtsep.spec import StreamSpec
from tests.conftest import need

MODELS = Path(__file__).parents[2] / "models"
NAMES = sorted(folder.name for folder in MODELS.iterdir() if folder.is_dir()) if MODELS.is_dir() else []


@pytest.mark.parametrize("name", NAMES)
def test_model_is_whole_and_runs(name: str) -> None:
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        need(False, f"{error.name} is not installed")
    entry = next(entry for entry in registry.names() if entry.name == name)
    assert (entry.kind, entry.fault) == ("model", "")
    assert (MODELS / name / "CARD.md").is_file()
    draw = np.random.default_rng(5)
    separator = registry.create(str(MODELS / name), device="cpu")
    assert isinstance(separator, OnnxSeparator)
    assert separator.name == name
    for rate in separator.supported_samplerates():
        for channels in (1, 2):
            hop = separator.required_hop(rate)
            assert hop is not None
            spec = StreamSpec(rate, channels, hop)
            separator.prepare(spec)
            shape = (40, channels, spec.bins)
            rows = separator.mask_rows(channels)
            spectra = (draw.standard_normal(shape) + 1j * draw.standard_normal(shape)).astype(np.complex64)
            spectra[10:15] = 0
            passes = []
            for _ in range(2):
                masks = np.full((40, rows, spec.bins), np.nan, np.float32)
                for spectrum, mask in zip(spectra, masks, strict=True):
                    separator.process(spectrum, mask)
                assert ((masks >= 0) & (masks <= 1)).all()
                assert (masks.reshape(40, -1, channels, spec.bins).sum(1) <= 1.00001).all()
                passes.append(masks)
                separator.reset()
            np.testing.assert_array_equal(*passes)
