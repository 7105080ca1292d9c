"""Sound devices: listed over all backends, found by number, name or part of a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rtsep.errors import DeviceError

#: ALSA names that are no hardware, whatever the list says about their channels.
_NO_HARDWARE = re.compile(r"\bnull\b|dummy|loopback", re.IGNORECASE)
_CARD = re.compile(r"\(hw:(\d+),\d+\)")
_DEFAULTS = {"input": "mic", "output": "speakers"}

#: What a number stood for when it was first used: numbers shift when a device is unplugged, names stay.
_numbers: dict[tuple[int, str], str] = {}


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device, server sink or JACK client.

    Parameters
    ----------
    index : int, optional
        Number of a PortAudio device; others have none.
    backend : str
        ``portaudio``, ``jack`` or ``pulse``.
    name : str
        What `--input` and `--output` take.
    host : str
        Interface of the system behind it, such as ``ALSA``; a description where the backend has one.
    inputs, outputs : int
        Channels that can be recorded and played. A sink of PulseAudio can be recorded: what it plays.
    samplerate : float
        Default rate in Hz.
    default_in, default_out : bool
        Whether ``mic`` or ``speakers`` mean it.
    live : bool
        False for what has no microphone or loudspeaker behind it: null sinks, dummy cards, a JACK dummy driver.
    """

    index: int | None
    backend: str
    name: str
    host: str
    inputs: int
    outputs: int
    samplerate: float
    default_in: bool = False
    default_out: bool = False
    live: bool = True

    @property
    def label(self) -> str:
        """Name and host, as a list of candidates shows it."""
        return f"{self.name}, {self.host}"


def list_devices() -> list[DeviceInfo]:
    """All devices: PortAudio's with their numbers, then those of a JACK and of a PulseAudio server [main thread].

    A library or server that is missing contributes nothing; `rtsep doctor` says why.
    """
    from rtsep.io.portaudio_library import release_portaudio

    pulse, jack = _pulse_devices(), _jack_devices()
    try:
        found = portaudio_devices(pulse)
    except DeviceError:
        found = []
    release_portaudio()
    return found + jack + pulse


def find(name: str, kind: str) -> DeviceInfo:
    """PortAudio device that a user means.

    Parameters
    ----------
    name : str
        Number, exact name, or parts of name and host, separated by blanks (case does not count); empty, ``default``,
        ``mic``, ``speakers``: the default device.
    kind : str
        ``input`` or ``output``.

    Raises
    ------
    DeviceError
        If none or several match, with the candidates; or without PortAudio.
    """
    return choose(portaudio_devices(), name, kind)


def choose(devices: list[DeviceInfo], name: str, kind: str) -> DeviceInfo:
    """`find` among `devices`."""
    able = [device for device in devices if (device.inputs if kind == "input" else device.outputs)]
    there = "; ".join(f"{device.index} {device.label}" for device in able) or "none"
    if name in ("", "default", _DEFAULTS[kind]):
        defaults = [device for device in able if (device.default_in if kind == "input" else device.default_out)]
        if not defaults:
            raise DeviceError(f"there is no default {kind} device ({kind} devices: {there}); see: rtsep devices")
        return defaults[0]
    if name.isdecimal():
        return _by_number(devices, able, int(name), kind, there)
    folded = name.casefold()
    exact = [device for device in able if folded in (device.name.casefold(), device.label.casefold())]
    parts = [device for device in able if all(part in device.label.casefold() for part in folded.split())]
    found = exact if len(exact) == 1 else parts
    if len(found) == 1:
        return found[0]
    if found:
        candidates = "; ".join(f"{device.index} {device.label}" for device in found)
        raise DeviceError(f"'{name}' matches several {kind} devices: {candidates} (name one by its number)")
    raise DeviceError(f"no {kind} device matches '{name}' (there are: {there})")


def _by_number(devices: list[DeviceInfo], able: list[DeviceInfo], number: int, kind: str, there: str) -> DeviceInfo:
    label = _numbers.get((number, kind))
    found = [device for device in able if (device.index == number if label is None else device.label == label)]
    if found:
        _numbers[number, kind] = found[0].label
        return found[0]
    for device in devices:
        if device.index == number and label is None:
            raise DeviceError(f"device {number} ({device.label}) has no {kind} ({kind} devices: {there})")
    gone = f" ({label})" if label else ""
    raise DeviceError(f"there is no {kind} device {number}{gone} ({kind} devices: {there})")


def live_devices(devices: list[DeviceInfo]) -> tuple[bool, bool]:
    """Whether there is a microphone and whether there are loudspeakers that ``mic`` and ``speakers`` would reach."""
    live = [device for device in devices if device.live]
    return any(device.default_in for device in live), any(device.default_out for device in live)


def has_live_devices() -> bool:
    """Whether "mic to speakers" would be heard [main thread]."""
    return all(live_devices(list_devices()))


def share_a_clock(first: DeviceInfo, second: DeviceInfo) -> bool:
    """Whether one stream can record from `first` and play to `second`: the same device, or the same ALSA card."""
    if first.index == second.index:
        return True
    cards = [_CARD.search(device.name) for device in (first, second)]
    return bool(cards[0] and cards[1] and cards[0][1] == cards[1][1])


def portaudio_devices(pulse: list[DeviceInfo] | None = None) -> list[DeviceInfo]:
    """Devices of PortAudio [main thread].

    Parameters
    ----------
    pulse : list of DeviceInfo, optional
        What a PulseAudio server has: tells whether there is anything behind ALSA's plug-in for it.

    Raises
    ------
    DeviceError
        Without the library.
    """
    from rtsep.io.portaudio_library import refreshed_portaudio

    sounddevice = refreshed_portaudio()
    hosts = sounddevice.query_hostapis()
    default_in, default_out = _default_indices(hosts)
    devices = list(sounddevice.query_devices())
    cards = any(_CARD.search(item["name"]) and not _NO_HARDWARE.search(item["name"]) for item in devices)
    behind = cards or any(device.live for device in pulse or [])
    return [
        DeviceInfo(
            index=item["index"],
            backend="portaudio",
            name=item["name"],
            host=hosts[item["hostapi"]]["name"],
            inputs=item["max_input_channels"],
            outputs=item["max_output_channels"],
            samplerate=item["default_samplerate"],
            default_in=item["index"] == default_in,
            default_out=item["index"] == default_out,
            live=_is_live(item["name"], hosts[item["hostapi"]]["name"], behind),
        )
        for item in devices
    ]


def _default_indices(hosts: Any) -> tuple[int, int]:
    """Default input and output of the first host that has one; -1 if none has."""
    inputs = [host["default_input_device"] for host in hosts if host["default_input_device"] >= 0]
    outputs = [host["default_output_device"] for host in hosts if host["default_output_device"] >= 0]
    return (inputs or [-1])[0], (outputs or [-1])[0]


def _is_live(name: str, host: str, behind: bool) -> bool:
    if _NO_HARDWARE.search(name):
        return False
    # ALSA's plug-ins (default, pulse, dmix...) are as live as what lies behind them.
    return host != "ALSA" or _CARD.search(name) is not None or behind


def _pulse_devices() -> list[DeviceInfo]:
    """Sinks (which can be recorded, too) and true sources of a PulseAudio server; empty without one."""
    from rtsep.io.pulse_lookup import list_pulse

    try:
        sources, sinks = list_pulse()
    except DeviceError:
        return []
    found = [(item, item.channels, item.channels) for item in sinks]
    found += [(item, item.channels, 0) for item in sources if not item.monitor_of]
    return [
        DeviceInfo(
            None, "pulse", f"pulse:{item.name}", item.description, inputs, outputs, item.samplerate, live=item.hardware
        )
        for item, inputs, outputs in found
    ]


def _jack_devices() -> list[DeviceInfo]:
    """Clients of a JACK server; empty without one."""
    from rtsep.io.jack_client import connect_client

    try:
        _, client, _ = connect_client("rtsep-list")
    except DeviceError:
        return []
    try:
        clients: dict[str, list[Any]] = {}
        for port in client.get_ports(is_audio=True):
            clients.setdefault(port.name.rpartition(":")[0], []).append(port)
        rate = client.samplerate
        return [
            DeviceInfo(
                None,
                "jack",
                f"jack:{name}",
                "JACK",
                inputs=sum(port.is_output for port in ports),
                outputs=sum(port.is_input for port in ports),
                samplerate=rate,
                live=any(port.is_physical and not "".join(port.aliases).startswith("dummy") for port in ports),
            )
            for name, ports in clients.items()
        ]
    finally:
        client.close()
