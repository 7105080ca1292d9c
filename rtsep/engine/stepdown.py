"""What plays where the machine has no time left for the net: a fixed mask, for a while, until the net is tried again.

The session's supervisor decides (`StepDown`), the inference thread cross-fades between the masks (`fade`).
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from collections import deque

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from rtsep.spec import StreamSpec

#: Time over which late masks are counted, and the share of them from which the net rests.
WINDOW_S, SHARE = 1.0, 0.1
#: Time for which it rests, doubled at each further step down, up to the last; and time without one that forgives all.
REST_S, REST_MOST_S, FORGIVE_S = 5.0, 80.0, 60.0
#: Share of the cross-fade in one hop.
STEP = 0.1
#: Where the voice is expected: full between the inner edges, nothing beyond the outer ones.
EDGES_HZ = (90.0, 180.0, 8000.0, 14000.0)
#: Of the voice's band, where the stereo picture says nothing.
UNDECIDED = 0.5

_Mask = types.Array(types.float32, 2, "C")


def plain_mask(spec: StreamSpec, mask_kind: str, stems: int = 0) -> NDArray[np.float32]:
    """The mask that costs nothing, shape (rows, bins).

    The voice's band of the middle where the rows are middle and side, as `rtsep.separators.midside` takes it; elsewhere
    half of that band in each channel. Stems get nothing: all music counts as the rest of it.
    """
    hz = np.fft.rfftfreq(spec.window, 1.0 / spec.samplerate)
    band = np.interp(hz, EDGES_HZ, (0.0, 1.0, 1.0, 0.0)).astype(np.float32)
    out = np.zeros(((2 if mask_kind == "complex" else 1) * spec.channels * (1 + stems), spec.bins), np.float32)
    if mask_kind == "mid_side" and spec.channels == 2:
        out[0] = band
    else:
        out[: spec.channels] = np.float32(UNDECIDED) * band
    return out


@njit(types.float64(_Mask, _Mask, _Mask, types.float64, types.boolean), nogil=True, cache=True)
def fade(mask, last, plain, level, rests):  # type: ignore[no-untyped-def]
    """One hop of the cross-fade, in place; the new level of the fixed mask [inference thread].

    Parameters
    ----------
    mask : ndarray of float32
        The separator's; only written where it `rests`.
    last : ndarray of float32
        What was drawn a hop ago.
    plain : ndarray of float32
        See `plain_mask`.
    level : float
        Level of the fixed mask a hop ago, 0 to 1.
    rests : bool
        Whether the separator draws no mask.
    """
    if rests:
        now = min(1.0, level + STEP)
        keep = np.float32((1.0 - now) / (1.0 - level)) if level < 1.0 else np.float32(0.0)
        for c in range(mask.shape[0]):
            for b in range(mask.shape[1]):
                mask[c, b] = plain[c, b] + keep * (last[c, b] - plain[c, b])
    else:
        now = max(0.0, level - STEP)
        share = np.float32(now)
        for c in range(mask.shape[0]):
            for b in range(mask.shape[1]):
                mask[c, b] += share * (plain[c, b] - mask[c, b])
    return now


class StepDown:
    """When the net rests [one thread].

    Attributes
    ----------
    count : int
        How often it was sent to rest.
    resting : bool
        Whether it rests now.
    why : str
        A line for the user about the last change.
    """

    def __init__(self) -> None:
        self.count, self.resting, self.why = 0, False, ""
        self._past: deque[tuple[float, int, int]] = deque()
        self._rest_s = REST_S
        self._until = self._since = 0.0

    def look(self, now: float, hops: int, late: int) -> bool:
        """Take the counters of the time `now` in seconds; True if `resting` has changed."""
        if self.resting:
            if now < self._until:
                return False
            self.resting, self.why = False, "the net is tried again"
            self._past.clear()
            self._since = now
            return True
        self._past.append((now, hops, late))
        while self._past[0][0] < now - WINDOW_S:
            self._past.popleft()
        began, first_hops, first_late = self._past[0]
        made, missed = hops - first_hops, late - first_late
        if now - began < 0.9 * WINDOW_S or missed <= SHARE * made:
            return False
        rest_s = REST_S if not self.count or now - self._since > FORGIVE_S else min(2 * self._rest_s, REST_MOST_S)
        self._rest_s, self._until, self.resting = rest_s, now + rest_s, True
        self.count += 1
        self.why = (
            f"too much load: {missed} of {made} masks were late in a second; for {rest_s:g} s a fixed mask plays "
            "(the middle of the stereo picture)"
        )
        return True
