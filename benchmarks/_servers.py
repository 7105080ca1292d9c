"""Audio servers for the benchmarks: those of the end-to-end tests, which only a clone has."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rtsep.errors import DeviceError, RtsepError, UsageError

if TYPE_CHECKING:
    from tests.e2e.servers import JackServer


def require_clone() -> None:
    """Make the tests importable; `UsageError` where there are none."""
    root = Path(__file__).resolve().parent.parent
    if (root / "tests" / "e2e" / "servers.py").is_file() and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        import tests.e2e.jack_probe
        import tests.e2e.servers  # noqa: F401
    except ImportError as error:
        raise UsageError(f"this benchmark needs a clone of the project with its tests installed ({error})") from None


@contextlib.contextmanager
def jack(rate: int, block: int) -> Iterator[JackServer]:
    """A JACK server on the dummy driver, which this process finds by itself; `DeviceError` where it cannot be had."""
    import pytest

    from tests.e2e import servers

    try:
        opened = servers.jack_server(rate, block)
        server = opened.__enter__()
    except (pytest.skip.Exception, pytest.fail.Exception, servers.ServerError) as error:
        raise DeviceError(f"no JACK server: {error}") from None
    try:
        with servers.environment(server.env):
            yield server
    finally:
        opened.__exit__(None, None, None)


@contextlib.contextmanager
def jack_plug_in(server: JackServer) -> Iterator[str]:
    """Name of a device through which PortAudio reaches the server's ports: ALSA's jack plug-in."""
    from rtsep.io import portaudio_library
    from tests.e2e.servers import environment

    play, capture = (" ".join(f"{i} system:{side}_{i + 1}" for i in range(2)) for side in ("playback", "capture"))
    path = server.folder / "asound.conf"
    path.write_text(
        "</usr/share/alsa/alsa.conf>\n"
        f"pcm.jackplug {{ type jack playback_ports {{ {play} }} capture_ports {{ {capture} }} }}\n"
        "pcm.!default { type plug slave.pcm jackplug }\n"
    )
    # PortAudio is kept from JACK servers, of which it would make its own device; here one stands behind ALSA's.
    hidden = dict(portaudio_library._NO_JACK)
    portaudio_library._NO_JACK.clear()
    try:
        with environment({"ALSA_CONFIG_PATH": str(path)}):
            yield "jackplug"
    finally:
        portaudio_library.release_portaudio()
        portaudio_library._NO_JACK.update(hidden)


@contextlib.contextmanager
def reported(notes: list[str], what: str) -> Iterator[None]:
    """Turn a failure into a note: what cannot be measured here, and why."""
    try:
        yield
    except RtsepError as error:
        notes.append(f"{what}: not measured, {error}")
