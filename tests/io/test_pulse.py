"""PulseAudio and PipeWire on null sinks: what a sink plays comes out of its monitor bit for bit; names; faults."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtsep.dsp.ring import Ring
from rtsep.errors import DeviceError
from rtsep.io import tick
from rtsep.io.clock import Semaphore
from tests.conftest import need
from tests.e2e.servers import Server, environment, pipewire_session, pulse_server

pytestmark = pytest.mark.realtime

try:
    import pulsectl
except (ImportError, OSError):
    pulsectl = None

SECONDS = 20.0


@pytest.fixture(scope="module", params=["pulseaudio", "pipewire"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    need(pulsectl, "libpulse is not installed")
    with pulse_server() if request.param == "pulseaudio" else pipewire_session() as running, environment(running.env):
        yield running


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that a test may end."""
    need(pulsectl, "libpulse is not installed")
    with pulse_server() as running, environment(running.env):
        yield running


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (int(48000 * seconds), 2)).astype(np.float32)


def wait_for(condition, what: str) -> None:  # type: ignore[no-untyped-def]
    limit = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.01)


def open_stream(sound: np.ndarray) -> tuple[tick.StreamContext, Ring]:
    output = Ring(len(sound), 2)
    output.write(sound)
    context = tick.StreamContext(2, Ring(1024, 2), output, Semaphore())
    context.open()
    return context, output


def test_what_is_played_is_recorded(server: Server) -> None:
    from rtsep.io.pulse import PulseDriver, PulseSource

    sound = noise(4)
    context, _ = open_stream(sound)
    source, driver = PulseSource("a"), PulseDriver("a", blocksize=1024)
    source.open()
    driver.open()
    assert (source.samplerate, source.channels, driver.samplerate) == (48000, 2, 48000)
    captured = Ring(1 << 19, 2)
    source.start(captured, 44100)  # its own clock: the native rate all the same
    driver.start(context.address)
    wait_for(lambda: context.words[tick.CLOCK] > 3 * 48000, "the driver does not tick")
    wait_for(lambda: captured.fill > 3 * 48000, "the monitor gives nothing")
    assert driver.output_latency_frames > 0 and not driver.lost and not source.lost
    driver.stop()
    source.stop()
    driver.stop()
    got = np.zeros((captured.fill, 2), np.float32)
    captured.read(got)
    start = int(np.flatnonzero(got[:, 0])[0])
    assert start < len(got) - 20000
    # One gap-free second somewhere: the machine that runs the tests may be late, the path itself has to be exact.
    pieces = [slice(k, k + 4800) for k in range(start + 4800, len(got) - 4800, 4800)]
    exact = 0
    for piece in pieces:
        match = np.flatnonzero(sound[:, 0] == got[piece.start, 0])
        if len(match) and match[0] + 4800 <= len(sound):
            exact += np.array_equal(sound[match[0] : match[0] + 4800], got[piece])
    assert exact >= 0.3 * len(pieces)


def test_mono_ring(server: Server) -> None:
    from rtsep.io.pulse import PulseSource

    source, ring = PulseSource("a.monitor"), Ring(1 << 16, 1)
    source.open()
    source.start(ring, 48000)
    wait_for(lambda: ring.fill > 4800, "the monitor gives nothing")
    source.stop()
    source.stop()


def test_names(server: Server) -> None:
    from rtsep.io.pulse_lookup import find_sink, find_source, list_pulse

    sources, sinks = list_pulse()
    assert {"a", "b"} <= {sink.name for sink in sinks} and "b.monitor" in {source.name for source in sources}
    assert not any(device.hardware for device in (*sources, *sinks))  # null sinks
    default = next(sink.name for sink in sinks if sink.default)
    assert find_source("").name == find_source("monitor").name == f"{default}.monitor"
    assert find_source("b").name == find_source("b.monitor").name == find_source("B.MON").name == "b.monitor"
    assert find_sink("").name == find_sink("default").name == default
    assert find_sink("b").name == "b"
    with pytest.raises(DeviceError, match=r"'monitor of' could be a\.monitor \(.*b\.monitor \(.*name one of them"):
        find_source("monitor of")
    with pytest.raises(DeviceError, match=r"has not got 'headset'; there are: .*b"):
        find_sink("headset")


def test_a_server_that_dies_and_comes_back(own_server: Server) -> None:
    from rtsep.io.pulse import PulseDriver, PulseSource

    command = own_server.processes["pulseaudio"].args
    context, _ = open_stream(noise(1))
    source, driver, ring = PulseSource("a"), PulseDriver("b"), Ring(1 << 16, 2)
    source.open()
    driver.open()
    source.start(ring, 48000)
    driver.start(context.address)
    wait_for(lambda: context.words[tick.CLOCK] > 0 and ring.fill > 0, "no sound")
    own_server.end("pulseaudio", signal.SIGKILL)
    wait_for(lambda: source.lost and driver.lost, "the loss goes unnoticed")
    assert "is gone: connection terminated" in source.lost and "PulseAudio's b" in driver.lost
    source.stop()
    driver.stop()
    with pytest.raises(DeviceError, match="no PulseAudio server answers"):
        PulseDriver("b").open()
    (Path(own_server.env["XDG_RUNTIME_DIR"]) / "pulse" / "pid").unlink(missing_ok=True)
    assert isinstance(command, list)
    own_server.start(command, lambda: own_server.succeeds("pactl", "info"))
    again, context = PulseDriver("b"), open_stream(noise(1))[0]
    again.open()
    again.start(context.address)
    wait_for(lambda: context.words[tick.CLOCK] > 4800, "no sound after the return")
    again.stop()


def test_a_server_that_hangs_is_noticed(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtsep.io import pulse

    monkeypatch.setattr(pulse, "_SILENT_S", 0.5)
    source, ring = pulse.PulseSource("a"), Ring(1 << 16, 2)
    source.open()
    source.start(ring, 48000)
    wait_for(lambda: ring.fill > 0, "no sound")
    own_server.processes["pulseaudio"].send_signal(signal.SIGSTOP)
    wait_for(lambda: source.lost, "the standstill goes unnoticed")
    assert "stood still" in source.lost
    began = time.monotonic()
    source.stop()
    assert time.monotonic() - began < 5.0
    own_server.processes["pulseaudio"].send_signal(signal.SIGCONT)


def test_a_sink_that_goes_away(own_server: Server) -> None:
    from rtsep.io.pulse import PulseDriver

    context, _ = open_stream(noise(1))
    driver = PulseDriver("b")
    driver.open()
    driver.start(context.address)
    wait_for(lambda: context.words[tick.CLOCK] > 0, "no sound")
    modules = own_server.run("pactl", "list", "short", "modules").splitlines()
    own_server.run("pactl", "unload-module", next(line.split()[0] for line in modules if "sink_name=b" in line))
    clock = int(context.words[tick.CLOCK])
    # the server either moves the stream to another sink or cuts it off
    wait_for(lambda: driver.lost or context.words[tick.CLOCK] > clock + 48000, "neither sound nor loss")
    driver.stop()


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(pulsectl, "libpulse is not installed")
    from rtsep.io.pulse import PulseSource

    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")
    with pytest.raises(DeviceError, match="no PulseAudio server answers.*pipewire-pulse"):
        PulseSource().open()
