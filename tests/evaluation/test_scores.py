"""Scores against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from rtsep.evaluation.scores import frame_accuracy, sdr, sdr_gain


def test_sdr():
    s = np.ones((2, 100))
    assert sdr(s, 0.9 * s) == pytest.approx(20.0)
    assert sdr(s, 0 * s) == pytest.approx(0.0)
    assert sdr_gain(s, 0.9 * s, 2 * s) == pytest.approx(20.0)
    assert sdr(s, s) > 100


def test_shapes_are_compared():
    with pytest.raises(ValueError, match="shape"):
        sdr(np.ones((2, 3)), np.ones((3,)))
    with pytest.raises(ValueError, match="shape"):
        frame_accuracy(np.ones(3, bool), np.ones(4, bool))


def test_frame_accuracy():
    assert frame_accuracy(np.array([True, False]), np.array([True, True])) == 0.5
