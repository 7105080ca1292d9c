"""Sources and sinks of a PulseAudio server (or PipeWire's): listed and found by name."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from rtsep.errors import DeviceError

_CONNECT_S = 3.0
_HARDWARE = 0x0004  # PA_SINK_HARDWARE and PA_SOURCE_HARDWARE
_PACKAGE = "libpulse0 (Debian, Ubuntu), libpulse (Arch, Fedora: pulseaudio-libs)"


@dataclass(frozen=True, slots=True)
class PulseDevice:
    """A source or sink.

    Parameters
    ----------
    name : str
        What the server calls it.
    description : str
        What people call it.
    samplerate, channels : int
        Of the server's side.
    monitor_of : str
        Name of the sink that a monitor source listens to; empty otherwise.
    default : bool
        Whether the server takes it when none is named.
    hardware : bool
        False for null sinks and the like, behind which nothing sounds.
    """

    name: str
    description: str
    samplerate: int
    channels: int
    monitor_of: str = ""
    default: bool = False
    hardware: bool = False


def list_pulse() -> tuple[list[PulseDevice], list[PulseDevice]]:
    """Sources (monitors too) and sinks of the server [main thread].

    Raises
    ------
    DeviceError
        If libpulse is missing, or no server answers.
    """
    try:
        import pulsectl
    except (ImportError, OSError) as error:
        raise DeviceError(f"PulseAudio's client library cannot be loaded ({error}): install {_PACKAGE}") from error
    answer: list[tuple[list[PulseDevice], list[PulseDevice]]] = []
    why = f"nothing came within {_CONNECT_S:.0f} s"

    def ask() -> None:
        nonlocal why
        try:
            with pulsectl.Pulse("rtsep") as pulse:
                info = pulse.server_info()
                sources = [_device(x, info.default_source_name, x.monitor_of_sink_name) for x in pulse.source_list()]
                answer.append((sources, [_device(x, info.default_sink_name) for x in pulse.sink_list()]))
        except pulsectl.PulseError as error:
            why = str(error).lower()

    # In a thread, because a server that hangs would keep the caller for ever.
    thread = threading.Thread(target=ask, name="rtsep-pulse-list", daemon=True)
    thread.start()
    thread.join(_CONNECT_S)
    if not answer:
        raise DeviceError(f"no PulseAudio server answers ({why}): start PipeWire with pipewire-pulse, or pulseaudio")
    return answer[0]


def _device(item: Any, default: str, monitor_of: str | None = None) -> PulseDevice:
    spec, default_one, hardware = item.sample_spec, item.name == default, bool(item.flags & _HARDWARE)
    return PulseDevice(item.name, item.description, spec.rate, spec.channels, monitor_of or "", default_one, hardware)


def find_source(name: str) -> PulseDevice:
    """Source to record from.

    Parameters
    ----------
    name : str
        A source, or a sink (then what it plays: its monitor): name, or any part of name or description. Empty or
        ``monitor``: what the default sink plays. ``default``: the default source.

    Raises
    ------
    DeviceError
        If none or several match, with their names.
    """
    sources, sinks = list_pulse()
    monitors = {source.monitor_of: source for source in sources if source.monitor_of}
    if name in ("", "monitor"):
        found = [monitors[sink.name] for sink in sinks if sink.default and sink.name in monitors]
        return _only(found, "the default sink's monitor", sources)
    if name == "default":
        return _only([source for source in sources if source.default], "the default source", sources)
    exact = [source for source in sources if name in (source.name, source.monitor_of)]
    parts = [source for source in sources if _matches(name, source)]
    parts += [monitors[sink.name] for sink in sinks if _matches(name, sink) and sink.name in monitors]
    return _only(exact or list(dict.fromkeys(parts)), f"'{name}'", sources)


def find_sink(name: str) -> PulseDevice:
    """Sink to play to: name, or any part of name or description; empty or ``default``: the default sink.

    Raises
    ------
    DeviceError
        If none or several match, with their names.
    """
    _, sinks = list_pulse()
    if name in ("", "default"):
        return _only([sink for sink in sinks if sink.default], "the default sink", sinks)
    exact = [sink for sink in sinks if sink.name == name]
    return _only(exact or [sink for sink in sinks if _matches(name, sink)], f"'{name}'", sinks)


def _matches(part: str, device: PulseDevice) -> bool:
    return part.lower() in device.name.lower() or part.lower() in device.description.lower()


def _only(found: list[PulseDevice], wanted: str, there: list[PulseDevice]) -> PulseDevice:
    if len(found) == 1:
        return found[0]
    if found:
        raise DeviceError(f"{wanted} could be {_names(found)} of PulseAudio: name one of them")
    raise DeviceError(f"PulseAudio has not got {wanted}; there are: {_names(there) or 'none'}")


def _names(devices: list[PulseDevice]) -> str:
    return ", ".join(f"{device.name} ({device.description})" for device in devices)
