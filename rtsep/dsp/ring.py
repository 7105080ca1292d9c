"""Ring buffer between one producer and one consumer, without locks.

The two positions only ever grow; each is written by one side, with release order, and read by the other with acquire
order, so that samples are seen before the position that announces them, on ARM as on x86. They lie 128 bytes apart:
no cache line is shared.

A ring is one int64 array (`Ring.control`), so compiled callbacks can take it by address.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit, types
from numpy.typing import NDArray

from rtsep.native import float_pointer, load_acquire, store_release

# Layout of the control array.
_WRITE, _ARRIVAL, _READ, _DATA, _CAPACITY, _CHANNELS, _SIZE = 0, 1, 16, 32, 33, 34, 40

Control = types.Array(types.int64, 1, "C")
Block = types.Array(types.float32, 2, "C")


@njit(types.int64(Control), nogil=True, cache=True)
def ring_fill(ring):  # type: ignore[no-untyped-def]
    """Frames that can be read [either thread]."""
    return load_acquire(ring, _WRITE) - load_acquire(ring, _READ)


@njit(types.int64(Control), nogil=True, cache=True)
def ring_space(ring):  # type: ignore[no-untyped-def]
    """Frames that can be written [either thread]."""
    return ring[_CAPACITY] - ring_fill(ring)


@njit(types.int64(Control, Block, types.int64), nogil=True, cache=True)
def ring_write(ring, block, frames):  # type: ignore[no-untyped-def]
    """Append the first `frames` of `block` (frames, channels); returns how many found room [producer]."""
    capacity, channels = ring[_CAPACITY], ring[_CHANNELS]
    data = carray(float_pointer(ring[_DATA]), (capacity, channels))
    position = ring[_WRITE]
    count = min(frames, capacity - (position - load_acquire(ring, _READ)))
    start = position & (capacity - 1)
    first = min(count, capacity - start)
    for i in range(first):
        for c in range(channels):
            data[start + i, c] = block[i, c]
    for i in range(first, count):
        for c in range(channels):
            data[i - first, c] = block[i, c]
    store_release(ring, _WRITE, position + count)
    return count


@njit(types.int64(Control, Block, types.int64), nogil=True, cache=True)
def ring_peek(ring, block, frames):  # type: ignore[no-untyped-def]
    """Copy up to `frames` of the oldest frames into `block` without taking them; returns how many there were
    [consumer].
    """
    capacity, channels = ring[_CAPACITY], ring[_CHANNELS]
    data = carray(float_pointer(ring[_DATA]), (capacity, channels))
    position = ring[_READ]
    count = min(frames, load_acquire(ring, _WRITE) - position)
    start = position & (capacity - 1)
    first = min(count, capacity - start)
    for i in range(first):
        for c in range(channels):
            block[i, c] = data[start + i, c]
    for i in range(first, count):
        for c in range(channels):
            block[i, c] = data[i - first, c]
    return count


@njit(types.int64(Control, types.int64), nogil=True, cache=True)
def ring_skip(ring, frames):  # type: ignore[no-untyped-def]
    """Drop up to `frames` of the oldest frames; returns how many [consumer]."""
    position = ring[_READ]
    count = min(frames, load_acquire(ring, _WRITE) - position)
    store_release(ring, _READ, position + count)
    return count


@njit(types.int64(Control, Block, types.int64), nogil=True, cache=True)
def ring_read(ring, block, frames):  # type: ignore[no-untyped-def]
    """Take up to `frames` of the oldest frames into `block` (frames, channels); returns how many there were
    [consumer].
    """
    return ring_skip(ring, ring_peek(ring, block, frames))


@njit(types.void(Control, types.int64), nogil=True, cache=True)
def ring_arrived(ring, nanoseconds):  # type: ignore[no-untyped-def]
    """Note the monotonic time of the newest write, for matching clocks [producer, after `ring_write`]."""
    store_release(ring, _ARRIVAL, nanoseconds)


@njit(types.UniTuple(types.int64, 2)(Control), nogil=True, cache=True)
def ring_distance(ring):  # type: ignore[no-untyped-def]
    """Fill in frames and the time that `ring_arrived` noted with the newest of them [consumer]."""
    while True:
        arrival = load_acquire(ring, _ARRIVAL)
        fill = ring_fill(ring)
        if load_acquire(ring, _ARRIVAL) == arrival:
            return fill, arrival


class Ring:
    """Memory of a ring of `frames` (rounded up to a power of two) by `channels`, float32, interleaved.

    Parameters
    ----------
    frames : int
        Least capacity.
    channels : int
        Samples per frame.

    Attributes
    ----------
    control : ndarray of int64
        What the compiled functions take; its address stays the same for the life of the object.
    """

    def __init__(self, frames: int, channels: int) -> None:
        if frames < 1 or channels < 1:
            raise ValueError(f"a ring needs a frame and a channel, got {frames} frames, {channels} channels")
        self.capacity = 1 << (frames - 1).bit_length()
        self.channels = channels
        self._data = np.zeros((self.capacity, channels), dtype=np.float32)
        self.control = np.zeros(_SIZE, dtype=np.int64)
        self.control[_DATA] = self._data.ctypes.data
        self.control[_CAPACITY] = self.capacity
        self.control[_CHANNELS] = channels

    @property
    def address(self) -> int:
        """Address of `control`, for a callback's context."""
        return self.control.ctypes.data

    @property
    def fill(self) -> int:
        """Frames that can be read [either thread]."""
        return ring_fill(self.control)

    @property
    def space(self) -> int:
        """Frames that can be written [either thread]."""
        return ring_space(self.control)

    def write(self, block: NDArray[np.float32]) -> int:
        """Append `block`, shape (frames, channels); returns how many frames found room [producer]."""
        self._check(block)
        return ring_write(self.control, block, len(block))

    def read(self, block: NDArray[np.float32]) -> int:
        """Fill `block`, shape (frames, channels), from the oldest frames; returns how many there were [consumer]."""
        self._check(block)
        return ring_read(self.control, block, len(block))

    def skip(self, frames: int) -> int:
        """Drop up to `frames` of the oldest frames; returns how many [consumer]."""
        return ring_skip(self.control, frames)

    def _check(self, block: NDArray[np.float32]) -> None:
        if block.ndim != 2 or block.shape[1] != self.channels or block.dtype != np.float32:
            raise ValueError(f"a block of float32 (frames, {self.channels}) is wanted, got {block.dtype} {block.shape}")
