"""The JACK driver on a real server: the same bits every run, and servers that change, vanish and return."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from rtsep.dsp.ring import Ring
from rtsep.errors import DeviceError
from rtsep.io import jack_client
from rtsep.io.clock import Semaphore
from rtsep.io.jack import JackDriver, JackSource
from rtsep.io.jack_client import select_ports
from rtsep.io.tick import OVERRUNS, TICKS, UNDERRUNS, StreamContext
from tests.e2e.jack_probe import EmptyClient, Probe
from tests.e2e.servers import JackServer, jack_server, need_libjack

pytestmark = pytest.mark.realtime

PORTS = [
    "system:capture_1",
    "system:capture_2",
    "synth:left",
    "synth:right",
    "synth 2:left",
    "my drums Audio/Sink sink:monitor_FL",
]


@pytest.fixture(scope="module")
def module_server() -> Iterator[JackServer]:
    with jack_server(48000, 128) as running:
        yield running


@pytest.fixture
def server(module_server: JackServer) -> JackServer:
    return module_server.revive()


class Loopback:
    """Stands for the engine: a thread copies the input ring to the output ring, `delay` frames ahead of it."""

    def __init__(self, channels: int, delay: int) -> None:
        self.inputs, self.outputs = Ring(1 << 15, channels), Ring(1 << 15, channels)
        self._semaphore = Semaphore()
        self.context = StreamContext(channels, self.inputs, self.outputs, self._semaphore)
        self.outputs.write(np.zeros((delay, channels), np.float32))
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._running = True
        self._thread.start()

    def _copy(self) -> None:
        block = np.zeros((1024, self.inputs.channels), np.float32)
        while self._running:
            self._semaphore.wait(0.1)
            while (count := self.inputs.read(block)) > 0:
                self.outputs.write(block[:count])

    def end(self) -> None:
        self.context.close()
        self._running = False
        self._thread.join()


@contextmanager
def running(driver: JackDriver, channels: int = 2, delay: int = 128) -> Iterator[Loopback]:
    """The driver, opened and ticking; the stream itself is still closed."""
    driver.open()
    loop = Loopback(channels, delay)
    try:
        driver.start(loop.context.address)
        yield loop
    finally:
        loop.end()
        driver.stop()


def wait_for(condition, seconds: float = 20.0) -> bool:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.01)
    return bool(condition())


def through(server: JackServer, signal: np.ndarray, delay: int, inputs: int = 2, outputs: int = 2) -> np.ndarray:
    """`signal` through driver and loop-back in freewheel mode."""
    driver = JackDriver("rtsep", inputs, outputs, "none", "none", server.name)
    with running(driver, min(inputs, 2), delay) as loop, Probe(signal, outputs, server.name) as probe:
        probe.connect(
            [f"{driver.name}:in_{i + 1}" for i in range(inputs)], [f"{driver.name}:out_{i + 1}" for i in range(outputs)]
        )
        probe.freewheel(True)
        assert wait_for(lambda: driver.freewheeling)
        loop.context.open()
        sound = probe.run()
        # Before the stream is closed: a tick that waits for sound at that moment goes without.
        assert loop.context.words[UNDERRUNS] == 0
        assert loop.context.words[OVERRUNS] == 0
        assert probe.skipped == 0
        loop.context.close()
        probe.freewheel(False)
        assert wait_for(lambda: not driver.freewheeling)
    return sound


@pytest.mark.parametrize("delay", [128, 512])
def test_freewheel_gives_the_same_bits_with_the_known_latency(server: JackServer, delay: int) -> None:
    signal = np.random.default_rng(1).standard_normal((2, 48000)).astype(np.float32)
    # Frames that the stream lets through before the probe plays are silence: they shift nothing.
    first, second = (through(server, signal, delay) for _ in range(2))
    np.testing.assert_array_equal(first[:, delay:], signal[:, :-delay])
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("refusals", "status", "said"), [(2, 0x21, ""), (9, 0x21, "refuses"), (1, 0x11, "no server")])
def test_a_client_that_is_refused_for_a_moment(
    monkeypatch: pytest.MonkeyPatch, refusals: int, status: int, said: str
) -> None:
    """JACK2 refuses a client while another one still leaves: it is asked again; not the same as no server."""
    need_libjack()
    jack, library = jack_client.libjack()
    left = [refusals]

    class Refused:
        def __init__(self, name: str, **_: object) -> None:
            if left[0]:
                left[0] -= 1
                raise jack.JackOpenError(name, jack.Status(status))

    module = SimpleNamespace(Client=Refused, JackOpenError=jack.JackOpenError)
    monkeypatch.setattr(jack_client, "libjack", lambda: (module, library))
    if not said:
        assert isinstance(jack_client.connect_client("rtsep")[1], Refused)
        return
    with pytest.raises(DeviceError, match=said):
        jack_client.connect_client("rtsep")


@pytest.mark.parametrize("channels", [1, 2])
def test_a_source_hears_every_frame(server: JackServer, channels: int) -> None:
    signal = np.random.default_rng(2).uniform(0.1, 1, (2, 24000)).astype(np.float32)
    source = JackSource("none", server.name)
    wanted = signal if channels == 2 else 0.5 * signal.sum(0, keepdims=True)
    for _ in range(8):  # a machine that stops for a while loses cycles
        source.open()
        ring = Ring(1 << 17, channels)
        try:
            source.start(ring, 48000)
            with Probe(signal, 1, server.name) as probe:
                probe.connect([f"{source.name}:in_1", f"{source.name}:in_2"], [])
                probe.run()
        finally:
            source.stop()
        heard = np.zeros((1 << 17, channels), np.float32)
        heard = heard[: ring.read(heard)].T
        first = int(np.flatnonzero(heard[0])[0])
        found = heard[:, first : first + 24000]
        if np.array_equal(found, wanted):
            break
    np.testing.assert_array_equal(found, wanted)
    assert (source.samplerate, source.channels, source.blocksize, source.lost) == (48000, 2, 128, "")
    source.stop()


def test_one_port_in_reaches_both_ports_out(server: JackServer) -> None:
    signal = np.random.default_rng(2).standard_normal((1, 9600)).astype(np.float32)
    sound = through(server, signal, 256, inputs=1)
    np.testing.assert_array_equal(sound[:, 256:], np.repeat(signal[:, :-256], 2, axis=0))


def test_open_tells_rate_period_latency_and_connects_to_the_physical_ports(server: JackServer) -> None:
    driver = JackDriver(server=server.name)
    with running(driver):
        assert (driver.samplerate, driver.blocksize, driver.inputs, driver.outputs) == (48000, 128, 2, 2)
        assert driver.input_latency_frames >= 128
        assert driver.output_latency_frames >= 128
        _, client, _ = jack_client.connect_client("looker", server.name)
        connected = [
            [port.name for port in client.get_all_connections(f"{driver.name}:{own}")] for own in ("in_2", "out_1")
        ]
        client.close()
    assert connected == [["system:capture_2"], ["system:playback_1"]]


@pytest.mark.parametrize(("inputs", "outputs"), [(0, 2), (2, 0), (1, 1)])
def test_any_number_of_ports(server: JackServer, inputs: int, outputs: int) -> None:
    driver = JackDriver("some", inputs, outputs, server=server.name)
    with running(driver) as loop:
        assert (driver.inputs, driver.outputs) == (inputs, outputs)
        loop.context.open()
        assert wait_for(lambda: loop.context.words[TICKS] > 10)


def test_a_single_matching_port_makes_one_port(server: JackServer) -> None:
    driver = JackDriver("mono", connect_in="jack:system:capture_2", connect_out="playback_1", server=server.name)
    with running(driver):
        assert (driver.inputs, driver.outputs) == (1, 1)


def test_a_busy_python_thread_costs_no_cycle(server: JackServer) -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    driver = JackDriver(server=server.name)
    with running(driver) as loop, EmptyClient(server.name) as empty:
        loop.context.open()
        busy = threading.Thread(target=spin, daemon=True)
        busy.start()
        try:
            assert wait_for(lambda: empty.cycles > 10)
            before = loop.context.words[TICKS], empty.cycles
            time.sleep(3.0)
            ours, theirs = loop.context.words[TICKS] - before[0], empty.cycles - before[1]
        finally:
            stop.set()
            busy.join()
    assert theirs > 100
    assert abs(ours - theirs) <= 2 + empty.xruns


def test_a_changed_period_is_told_and_opened_anew(server: JackServer) -> None:
    driver = JackDriver(server=server.name)
    _, client, _ = jack_client.connect_client("changer", server.name)
    try:
        with running(driver) as loop:
            loop.context.open()
            assert driver.lost == ""
            client.blocksize = 512
            assert wait_for(lambda: "512" in driver.lost)
            loop.context.close()
            driver.open()
            assert driver.blocksize == 512
            assert driver.lost == ""
            driver.start(loop.context.address)
            loop.context.open()
            ticks = loop.context.words[TICKS]
            assert wait_for(lambda: loop.context.words[TICKS] > ticks + 5)
    finally:
        client.blocksize = server.block
        client.close()


def test_a_server_that_dies_is_told_and_found_again() -> None:
    with jack_server(48000, 256) as own:
        driver = JackDriver(server=own.name)
        with running(driver) as loop:
            loop.context.open()
            own.kill()
            assert wait_for(lambda: "gone" in driver.lost)
            loop.context.close()
            driver.stop()
            with pytest.raises(DeviceError, match="no server"):
                driver.open()
            own.launch(rate=44100, block=128)
            driver.open()
            assert (driver.samplerate, driver.blocksize, driver.lost) == (44100, 128, "")
            driver.start(loop.context.address)
            loop.context.open()
            ticks = loop.context.words[TICKS]
            assert wait_for(lambda: loop.context.words[TICKS] > ticks + 5)


def test_another_client_may_open_before_the_lost_one_is_closed() -> None:
    with jack_server(48000, 256) as own:
        driver = JackDriver(server=own.name)
        with running(driver) as loop:
            loop.context.open()
            own.kill()
            assert wait_for(lambda: driver.lost)
            own.launch()
            _, other, _ = jack_client.connect_client("other", own.name)
            assert "gone" in driver.lost
            driver.stop()
            other.close()
            driver.open()
            assert driver.lost == ""


def test_a_port_that_goes_is_told_and_waited_for(server: JackServer) -> None:
    _, player, _ = jack_client.connect_client("player", server.name)
    player.outports.register("out")
    player.activate()
    driver = JackDriver(inputs=1, outputs=0, connect_in="player", server=server.name)
    try:
        with running(driver, channels=1):
            assert driver.linked and driver.lost == ""
            player.deactivate()
            player.close()
            assert wait_for(lambda: driver.lost == "the JACK port player:out has gone")
        with pytest.raises(DeviceError, match="player"):
            driver.open()
        assert driver.lost == ""
    finally:
        driver.stop()
    nothing = JackDriver(inputs=0, outputs=0, server=server.name, again=True)
    with pytest.raises(DeviceError, match="no physical JACK ports"):
        nothing.open()
    nothing.stop()


def test_stop_twice_is_harmless(server: JackServer) -> None:
    driver = JackDriver(server=server.name)
    driver.stop()
    driver.open()
    driver.stop()
    driver.stop()
    assert driver.lost == ""


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("jack:synth", ["synth:left", "synth:right"]),
        ("synth:right", ["synth:right"]),
        ("synth 2", ["synth 2:left"]),
        ("drums", ["my drums Audio/Sink sink:monitor_FL"]),
        ("drums:monitor", ["my drums Audio/Sink sink:monitor_FL"]),
        ("CAPTURE_2", ["system:capture_2"]),
        ("sys", ["system:capture_1", "system:capture_2"]),
    ],
)
def test_ports_are_found_by_name(pattern: str, expected: list[str]) -> None:
    assert select_ports(PORTS, pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "told"), [("syn", r"several clients \(synth, synth 2\)"), ("bass", "no port matches 'bass'")]
)
def test_ambiguous_and_unknown_ports_list_the_choices(pattern: str, told: str) -> None:
    with pytest.raises(DeviceError, match=told) as error:
        select_ports(PORTS, pattern)
    assert "synth:right" in str(error.value)


def test_unknown_port_of_a_server(server: JackServer) -> None:
    with pytest.raises(DeviceError, match="no port matches 'nobody' .*system:capture_1"):
        JackDriver(connect_in="nobody", server=server.name).open()
