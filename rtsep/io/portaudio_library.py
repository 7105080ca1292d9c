"""The PortAudio library: loaded when first needed, quiet, and asked anew for its devices while no stream is open."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any

from numba import cfunc, types

from rtsep.errors import DeviceError

_open_streams = 0
#: For JACK2's library and for PipeWire's.
_NO_JACK = {"JACK_DEFAULT_SERVER": "not for PortAudio", "PIPEWIRE_NOJACK": "1"}


@cfunc(types.void(types.intp), cache=True)
def _ignore_message(text):  # type: ignore[no-untyped-def]
    """ALSA prints a line for each device that it cannot open, from whatever thread."""


def portaudio() -> Any:
    """The module ``sounddevice``, or a `DeviceError` that names what to install [main thread]."""
    try:
        if "sounddevice" not in sys.modules:
            _silence_alsa()
        with _without_jack():
            import sounddevice
    except ImportError:
        raise DeviceError("PortAudio: the Python package sounddevice is missing (pip install sounddevice)") from None
    except OSError:
        raise DeviceError("PortAudio: the library is missing (install libportaudio2, on macOS: portaudio)") from None
    except Exception as error:  # sounddevice initializes PortAudio while it is imported
        raise DeviceError(f"PortAudio: it does not start: {error}") from None
    return sounddevice


def refreshed_portaudio() -> Any:
    """Like `portaudio`, with the devices that are there now: it looks for them only as it starts [main thread].

    While a stream is open the list stays as it was, since a restart would end the stream.
    """
    sounddevice = portaudio()
    if _open_streams == 0:
        try:
            release_portaudio()
            with _without_jack():
                sounddevice._initialize()
        except sounddevice.PortAudioError as error:
            raise DeviceError(f"PortAudio: it does not start: {error}") from None
    return sounddevice


@contextlib.contextmanager
def _without_jack() -> Iterator[None]:
    """Keep PortAudio from opening a JACK client of its own.

    JACK has a backend here, and PortAudio ends the whole program when it closes its client after the server has died.
    """
    before = {key: os.environ.get(key) for key in _NO_JACK}
    os.environ.update(_NO_JACK)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def release_portaudio() -> None:
    """Forget the devices; harmless while a stream is open [main thread]."""
    sounddevice = sys.modules.get("sounddevice")
    while sounddevice is not None and _open_streams == 0 and sounddevice._initialized:
        sounddevice._terminate()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the library prints about a failed call off the terminal; its error says the same [main thread]."""
    try:
        kept = os.dup(2)
    except OSError:  # a program without stderr
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def count_stream(change: int) -> None:
    """Note that a stream was opened (+1) or closed (-1) [main thread]."""
    global _open_streams
    _open_streams += change


def _silence_alsa() -> None:
    if not sys.platform.startswith("linux"):
        return
    try:
        alsa = ctypes.CDLL("libasound.so.2")
    except OSError:
        return
    alsa.snd_lib_error_set_handler(ctypes.c_void_p(_ignore_message.address))
