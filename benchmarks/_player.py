"""A JACK client that plays a sound over and over, with a compiled callback: what the separators work on under load."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, cfunc, types
from numpy.typing import NDArray

from rtsep.io.jack_callbacks import port_buffer
from rtsep.io.jack_client import connect_client
from rtsep.native import float_pointer, int_pointer
from tests.e2e.jack_probe import _address, _function, _install

_GET_BUFFER, _LEFT, _RIGHT, _SOUND, _LENGTH, _AT, _WORDS = range(7)


@cfunc(types.int32(types.uint32, types.intp), cache=True)
def _play(frames, arg):
    state = carray(int_pointer(arg), _WORDS)
    count, length = types.int64(frames), state[_LENGTH]
    sound = carray(float_pointer(state[_SOUND]), (2, length))
    for c in range(2):
        out = carray(float_pointer(port_buffer(state[_GET_BUFFER], state[_LEFT + c], count)), count)
        for i in range(count):
            out[i] = sound[c, (state[_AT] + i) % length]
    state[_AT] = (state[_AT] + count) % length
    return 0


class Player:
    """Play `sound`, shape (2, frames), over and over into the two ports `targets`.

    Parameters
    ----------
    sound : ndarray of float32
        What to play.
    targets : list of str
        Full names of input ports.
    server : str
        Name of the JACK server.
    """

    def __init__(self, sound: NDArray[np.float32], targets: list[str], server: str) -> None:
        self._sound = np.ascontiguousarray(sound, np.float32)
        _, client, library = connect_client("loop", server)
        self._client: Any = client
        self._state = np.zeros(_WORDS, np.int64)
        ports = [client.outports.register(f"out_{i + 1}") for i in range(2)]
        self._state[[_LEFT, _RIGHT]] = [_address(port) for port in ports]
        self._state[_GET_BUFFER] = _function(library, "jack_port_get_buffer")
        self._state[[_SOUND, _LENGTH]] = self._sound.ctypes.data, self._sound.shape[1]
        _install(library, "jack_set_process_callback", client, _play, self._state)
        client.activate()
        for port, target in zip(ports, targets, strict=True):
            client.connect(port, target)

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.deactivate()
        self._client.close()
