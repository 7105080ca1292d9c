"""Devices are found by number, exact name or parts of a name; what is ambiguous or missing lists the choices."""

from __future__ import annotations

import dataclasses

import pytest

from rtsep.errors import DeviceError
from rtsep.io import devices
from rtsep.io.devices import DeviceInfo, choose, has_live_devices, list_devices, live_devices, share_a_clock
from tests.e2e.servers import environment, jack_server, pulse_server


def device(index: int, name: str, inputs: int = 0, outputs: int = 0, **more: object) -> DeviceInfo:
    return DeviceInfo(index, "portaudio", name, "ALSA", inputs, outputs, 48000.0, **more)


DEVICES = [
    device(0, "HDA Intel: ALC257 Analog (hw:0,0)", 2, 2),
    device(1, "HDA Intel: HDMI 0 (hw:0,3)", 0, 8),
    device(2, "USB Mic: Audio (hw:1,0)", 1, 0),
    device(3, "USB", 2, 2),
    device(4, "default", 32, 32, default_in=True, default_out=True),
]


@pytest.fixture(autouse=True)
def _forget_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_numbers", {})


@pytest.mark.parametrize(
    ("name", "kind", "index"),
    [
        ("2", "input", 2),
        ("analog", "input", 0),
        ("intel HDMI", "output", 1),
        ("usb mic", "input", 2),
        ("usb", "input", 3),
        ("USB, ALSA", "output", 3),
        ("hw:1,0", "input", 2),
        ("mic", "input", 4),
        ("speakers", "output", 4),
        ("", "output", 4),
        ("default", "input", 4),
    ],
)
def test_finds(name: str, kind: str, index: int) -> None:
    assert choose(DEVICES, name, kind).index == index


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("hda", "output", r"several output devices: 0 HDA .*; 1 HDA .*HDMI"),
        ("trumpet", "input", r"no input device matches 'trumpet' .*0 HDA.*2 USB Mic"),
        ("1", "input", r"device 1 .*HDMI.* has no input"),
        ("9", "output", r"no output device 9"),
    ],
)
def test_says_what_there_is(name: str, kind: str, told: str) -> None:
    with pytest.raises(DeviceError, match=told):
        choose(DEVICES, name, kind)


@pytest.mark.parametrize("kind", ["input", "output"])
def test_no_default_device(kind: str) -> None:
    with pytest.raises(DeviceError, match=f"no default {kind} device .*none"):
        choose([], "", kind)


def test_a_number_keeps_its_meaning_when_devices_move() -> None:
    assert choose(DEVICES, "3", "output").name == "USB"
    moved = [dataclasses.replace(item, index=item.index - 1) for item in DEVICES[1:]]
    assert choose(moved, "3", "output").name == "USB"
    with pytest.raises(DeviceError, match="no output device 3 .USB, ALSA"):
        choose(DEVICES[:3], "3", "output")


def test_one_stream_needs_one_clock() -> None:
    assert share_a_clock(DEVICES[0], DEVICES[1])
    assert share_a_clock(DEVICES[4], DEVICES[4])
    assert not share_a_clock(DEVICES[2], DEVICES[0])
    assert not share_a_clock(DEVICES[4], DEVICES[0])


def test_only_live_defaults_count() -> None:
    assert live_devices(DEVICES) == (True, True)
    dead = [dataclasses.replace(item, live=False) for item in DEVICES]
    assert live_devices(dead) == (False, False)
    assert live_devices([device(0, "speaker", 0, 2, default_out=True)]) == (False, True)


def test_null_sinks_are_listed_but_not_live() -> None:
    with pulse_server() as server, environment(server.env):
        sinks = {item.name: item for item in list_devices() if item.backend == "pulse"}
        assert set(sinks) == {"pulse:a", "pulse:b"}
        assert (sinks["pulse:a"].inputs, sinks["pulse:a"].outputs) == (2, 2)
        assert not has_live_devices()


def test_jack_clients_are_listed_and_a_dummy_driver_is_not_live() -> None:
    with jack_server(44100, 256) as server, environment(server.env):
        system = next(item for item in list_devices() if item.name == "jack:system")
        assert (system.inputs, system.outputs, system.samplerate) == (2, 2, 44100)
        assert not has_live_devices()
