"""Steering by measured delays: what could not be measured steers nowhere."""

import numpy as np
import pytest

from rtsep.dsp.align import P00, PLACE, SPEED, begin, follow


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_a_delay_that_is_no_number_is_a_miss(nothing: float) -> None:
    state = np.zeros(7)
    begin(state, 1000)
    before = state[P00]
    for _ in range(3):
        assert not follow(state, nothing, 2048.0)
    assert np.isfinite(state).all()
    assert (state[PLACE], state[SPEED]) == (1000.0, 1.0)
    assert state[P00] > before
    assert follow(state, 2.0, 2048.0)
    assert 997 < state[PLACE] < 999
