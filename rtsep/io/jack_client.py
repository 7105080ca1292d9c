"""How a JACK server is reached without being started, and how its ports are found by name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import DeviceError
from rtsep.io.jack_callbacks import DOWN, ignore_message

_PAUSES_S = (0.02, 0.05, 0.1, 0.2)  # between tries to open a client
_watched: weakref.WeakKeyDictionary[Any, NDArray[np.int64]] = weakref.WeakKeyDictionary()


def libjack() -> tuple[Any, ctypes.CDLL]:
    """The module ``jack`` and its C library, or a `DeviceError` that names what to install [main thread]."""
    try:
        import jack
    except ImportError:
        raise DeviceError("JACK: the Python package JACK-Client is missing (pip install 'rtsep[jack]')") from None
    except OSError:
        raise DeviceError("JACK: libjack is missing (install libjack-jackd2-0, or pipewire-jack)") from None
    library = ctypes.CDLL(jack._libname)
    library.jack_port_by_name.restype = ctypes.c_void_p
    library.jack_set_error_function(ctypes.c_void_p(ignore_message.address))
    library.jack_set_info_function(ctypes.c_void_p(ignore_message.address))
    return jack, library


def connect_client(name: str, server: str | None = None) -> tuple[Any, Any, ctypes.CDLL]:
    """Open a client of a server that runs already; never starts one.

    Parameters
    ----------
    name : str
        Wanted name; JACK appends a number if it is taken.
    server : str, optional
        Name of the server; default: ``JACK_DEFAULT_SERVER`` or "default".

    Returns
    -------
    tuple
        The module ``jack``, a ``jack.Client`` that is not yet active, and the C library.

    Raises
    ------
    DeviceError
        Without libjack, if no server answers, or if it does not take the client.
    """
    jack, library = libjack()
    _bury()
    which = f"server '{server}'" if server else "server"
    for pause in (*_PAUSES_S, None):
        try:
            return jack, jack.Client(name, no_start_server=True, servername=server), library
        except jack.JackOpenError as error:
            # A JACK2 server that is still taking leave of another client refuses a new one, at once and for a moment.
            if not error.status.server_error:
                raise DeviceError(
                    f"JACK: no {which} is running (start one, or use PipeWire's with: pw-jack rtsep ...)"
                ) from None
            if pause is None:
                break
            time.sleep(pause)
    raise DeviceError(f"JACK: the {which} runs but refuses the client {name} (see its own messages)")


def watch(client: Any, state: NDArray[np.int64]) -> None:
    """Have `client` closed before another one opens, once ``state[DOWN]`` says that its server died [main thread]."""
    _watched[client] = state


def _bury() -> None:
    """Close what a dead server has left.

    JACK2's library frees such clients as soon as the process opens a new one; whoever closes one after that crashes.
    """
    for client, state in list(_watched.items()):
        if state[DOWN]:
            client.close()


def select_ports(names: Sequence[str], pattern: str) -> list[str]:
    """Ports of one client that `pattern` means, in the server's order.

    Parameters
    ----------
    names : sequence of str
        Full names ("client:port") to choose from.
    pattern : str
        ``[jack:]CLIENT[:PORT]``: a full port name, a client's name, or any part of a full name (case does not count).

    Raises
    ------
    DeviceError
        If no port or ports of several clients match; lists the choices.
    """
    wanted = pattern.removeprefix("jack:").strip()
    client, _, port = wanted.partition(":")
    whole_word = re.compile(rf"(?<!\w){re.escape(client)}(?!\w)", re.IGNORECASE)
    split = [(name, *name.rsplit(":", 1)) for name in names]
    # PipeWire calls its node `music` "music Audio/Sink sink": hence whole words before parts of words.
    found = (
        [name for name, _, _ in split if name == wanted]
        or [name for name, owner, _ in split if owner == wanted]
        or [name for name, owner, own in split if whole_word.search(owner) and port.lower() in own.lower()]
        or [name for name in names if wanted.lower() in name.lower()]
    )
    if not found:
        raise DeviceError(f"JACK: no port matches '{wanted}' (ports: {', '.join(names) or 'none'})")
    clients = sorted({name.rpartition(":")[0] for name in found})
    if len(clients) > 1:
        raise DeviceError(
            f"JACK: '{wanted}' matches several clients ({', '.join(clients)}); name one of {', '.join(found)}"
        )
    return found


@contextlib.contextmanager
def pipewire_latency(wish: str | None) -> Iterator[None]:
    """PipeWire reads the period that a client would like from the environment, when the client opens."""
    if wish is None or "PIPEWIRE_LATENCY" in os.environ:
        yield
        return
    os.environ["PIPEWIRE_LATENCY"] = wish
    try:
        yield
    finally:
        del os.environ["PIPEWIRE_LATENCY"]
