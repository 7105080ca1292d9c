"""Where the frames of delay come from: the budget that is printed and kept to the frame.

Stream latency = overlap-add (one hop) + look-ahead + the output ring's fill at start. The fill has to last from the
device period that completes a hop to the period that needs the first frame of it. With periods of B frames and hops
of H the worst case is ``B + H - gcd(B, H)``: one hop where B divides H, so that the whole is two hops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Delays of a stream in frames of the device.

    Parameters
    ----------
    overlap_frames : int
        One hop of overlap-add.
    lookahead_frames : int
        What the separator waits for.
    output_frames : int
        Fill of the output ring at start.
    resampler_frames : int
        Group delay of the conversion between device and engine rate, both ways.
    clock_frames : int
        Fill held in the capture ring where input and output have clocks of their own.
    """

    overlap_frames: int
    lookahead_frames: int
    output_frames: int
    resampler_frames: int = 0
    clock_frames: int = 0

    @property
    def total_frames(self) -> int:
        """Output stream against input stream, device buffers excluded."""
        return (
            self.overlap_frames + self.lookahead_frames + self.output_frames + self.resampler_frames + self.clock_frames
        )


def output_fill(blocksize: int, hop: int, samplerate: int, work_ms: float, variable: bool = False) -> int:
    """Frames of silence that the output ring starts with.

    Parameters
    ----------
    blocksize : int
        Largest device period in frames.
    hop : int
        Hop in frames of the device.
    samplerate : int
        Of the device, in Hz.
    work_ms : float
        Least time that the worker shall get between the period that completes a hop and the one that needs it.
    variable : bool
        Periods may have any length up to `blocksize`.

    Returns
    -------
    int
        Such that the worker has a whole period for a hop, and as many more as `work_ms` takes.
    """
    common = 1 if variable else math.gcd(blocksize, hop)
    least = math.ceil(work_ms * samplerate / 1000.0)
    # A multiple of the period where it must be lengthened: the slack then really lies between two periods.
    extra = 0 if blocksize >= least else math.ceil((least - blocksize) / blocksize) * blocksize
    return blocksize + hop - common + extra
