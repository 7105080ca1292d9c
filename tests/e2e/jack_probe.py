"""JACK clients for the tests, with compiled callbacks: a probe plays and records in step, an empty one counts losses.

`Probe` is two clients in one graph, a player before and a recorder behind the client under test; no connection goes
backwards, so JACK adds no period. Frame n of the recording is what came out in the cycle (and at the place in it) in
which frame n of the signal went in: the distance between a click in both is the latency, to the frame.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from rtsep.io.jack_callbacks import port_buffer
from rtsep.io.jack_client import connect_client
from rtsep.native import float_pointer, int_pointer, load_acquire, store_release

# Words shared by the callbacks: four ports each at PLAY and RECORD, then where the player stands.
GET_BUFFER, PLAY, RECORD, CHANNELS_OUT, CHANNELS_IN = 0, 4, 8, 12, 13
SIGNAL, SOUND, LENGTH, RUN, START, COUNT, SEQUENCE, SEEN, SKIPPED, DONE = range(16, 26)
WORDS = 32
# Words of the empty client.
GET_TIME, CLIENT, CYCLES, XRUNS, LAST, FRAMES, GAPS = range(7)


@intrinsic
def last_frame_time(typingctx, function, client):
    """``jack_last_frame_time`` by its address."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        target = builder.inttoptr(args[0], ir.FunctionType(ir.IntType(32), [word]).as_pointer())
        return builder.zext(builder.call(target, [args[1]]), word)

    return types.int64(types.intp, types.intp), codegen


@cfunc(types.int32(types.uint32, types.intp), cache=True)
def _play(frames, arg):
    state = carray(int_pointer(arg), WORDS)
    count = types.int64(frames)
    running = load_acquire(state, RUN)
    start = state[START] + state[COUNT] if running != 0 else 0
    channels = state[CHANNELS_OUT]
    signal = carray(float_pointer(state[SIGNAL]), (channels, state[LENGTH]))
    for c in range(channels):
        out = carray(float_pointer(port_buffer(state[GET_BUFFER], state[PLAY + c], count)), count)
        for i in range(count):
            out[i] = signal[c, start + i] if running != 0 and start + i < state[LENGTH] else 0.0
    if running != 0:
        state[START] = start
        state[COUNT] = count
        store_release(state, SEQUENCE, state[SEQUENCE] + 1)
    return 0


@cfunc(types.int32(types.uint32, types.intp), cache=True)
def _record(frames, arg):
    state = carray(int_pointer(arg), WORDS)
    sequence = load_acquire(state, SEQUENCE)
    if sequence == state[SEEN]:
        return 0
    state[SKIPPED] += sequence - state[SEEN] - 1
    state[SEEN] = sequence
    count, start, channels = types.int64(frames), state[START], state[CHANNELS_IN]
    sound = carray(float_pointer(state[SOUND]), (channels, state[LENGTH]))
    for c in range(channels):
        ours = carray(float_pointer(port_buffer(state[GET_BUFFER], state[RECORD + c], count)), count)
        for i in range(min(count, state[LENGTH] - start)):
            sound[c, start + i] = ours[i]
    if start + count >= state[LENGTH]:
        store_release(state, DONE, types.int64(1))
    return 0


@cfunc(types.int32(types.uint32, types.intp), cache=True)
def _empty(frames, arg):
    state = carray(int_pointer(arg), WORDS)
    now = last_frame_time(state[GET_TIME], state[CLIENT])
    if state[CYCLES] > 0 and (now - state[LAST]) & 0xFFFFFFFF != state[FRAMES]:
        state[GAPS] += 1
    state[LAST] = now
    state[FRAMES] = frames
    store_release(state, CYCLES, state[CYCLES] + 1)
    return 0


@cfunc(types.int32(types.intp), cache=True)
def _count_xrun(arg):
    state = carray(int_pointer(arg), WORDS)
    store_release(state, XRUNS, state[XRUNS] + 1)
    return 0


def _address(thing) -> int:
    import jack

    return int(jack._ffi.cast("intptr_t", thing._ptr))


def _function(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def _install(library: ctypes.CDLL, name: str, client, callback, state: NDArray[np.int64]) -> None:
    function = getattr(library, name)
    function(ctypes.c_void_p(_address(client)), ctypes.c_void_p(callback.address), ctypes.c_void_p(state.ctypes.data))


class Probe:
    """Play a signal into ports and record from others.

    Parameters
    ----------
    signal : ndarray of float32, shape (channels, frames)
        What to play; the recording is as long.
    record_channels : int
        Channels to record.
    server : str
        Name of the JACK server.
    """

    def __init__(self, signal: NDArray[np.float32], record_channels: int, server: str | None) -> None:
        self._signal = np.ascontiguousarray(signal, dtype=np.float32)
        self.sound = np.zeros((record_channels, self._signal.shape[1]), dtype=np.float32)
        self._state = np.zeros(WORDS, dtype=np.int64)
        with contextlib.ExitStack() as clients:  # whatever fails: a client left behind may crash its collector
            _, self.player, library = connect_client("player", server)
            clients.callback(self.player.close)
            _, self.recorder, _ = connect_client("recorder", server)
            clients.callback(self.recorder.close)
            self._join(library)
            self._clients = clients.pop_all()

    def _join(self, library: ctypes.CDLL) -> None:
        """Make the ports, hand over the callbacks and begin."""
        state, (channels, frames), record_channels = self._state, self._signal.shape, len(self.sound)
        state[GET_BUFFER] = _function(library, "jack_port_get_buffer")
        state[[CHANNELS_OUT, CHANNELS_IN, LENGTH]] = channels, record_channels, frames
        state[[SIGNAL, SOUND]] = self._signal.ctypes.data, self.sound.ctypes.data
        for i in range(channels):
            state[PLAY + i] = _address(self.player.outports.register(f"out_{i + 1}"))
        for i in range(record_channels):
            state[RECORD + i] = _address(self.recorder.inports.register(f"in_{i + 1}"))
        _install(library, "jack_set_process_callback", self.player, _play, state)
        _install(library, "jack_set_process_callback", self.recorder, _record, state)
        self.player.activate()
        self.recorder.activate()

    def connect(self, play_to: Sequence[str], record_from: Sequence[str]) -> None:
        """Connect by full port names, in the order of the channels."""
        for port, target in zip(self.player.outports, play_to, strict=False):
            self.player.connect(port, target)
        for source, port in zip(record_from, self.recorder.inports, strict=False):
            self.recorder.connect(source, port)

    def freewheel(self, on: bool) -> None:
        """Let the server run as fast as its clients can, or in real time again."""
        self.player.set_freewheel(on)

    def run(self, timeout: float = 60.0) -> NDArray[np.float32]:
        """Play the whole signal once; shape (record_channels, frames) of what came back."""
        self._state[[START, COUNT, DONE]] = 0
        self._state[SEEN] = self._state[SEQUENCE]
        self._state[SKIPPED] = 0
        self.sound[:] = 0
        self._state[RUN] = 1
        limit = time.monotonic() + timeout
        while not self._state[DONE]:
            assert time.monotonic() < limit, f"the recorder is still at frame {self._state[START]} after {timeout} s"
            time.sleep(0.005)
        self._state[RUN] = 0
        return self.sound.copy()

    @property
    def skipped(self) -> int:
        """Cycles that the player had and the recorder had not."""
        return int(self._state[SKIPPED])

    def close(self) -> None:
        """Leave the graph."""
        self._clients.close()

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EmptyClient:
    """A client without ports or work: what it loses, the server or the machine has lost."""

    def __init__(self, server: str | None) -> None:
        _, self._client, library = connect_client("empty", server)
        self._state = np.zeros(WORDS, dtype=np.int64)
        self._state[GET_TIME] = _function(library, "jack_last_frame_time")
        self._state[CLIENT] = _address(self._client)
        _install(library, "jack_set_process_callback", self._client, _empty, self._state)
        _install(library, "jack_set_xrun_callback", self._client, _count_xrun, self._state)
        self._client.activate()

    @property
    def cycles(self) -> int:
        """Cycles that it has run."""
        return int(self._state[CYCLES])

    @property
    def xruns(self) -> int:
        """Xruns that the server has reported."""
        return int(self._state[XRUNS])

    @property
    def gaps(self) -> int:
        """Cycles whose frame time did not follow the one before."""
        return int(self._state[GAPS])

    def close(self) -> None:
        """Leave the graph."""
        self._client.deactivate()
        self._client.close()

    def __enter__(self) -> EmptyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
