"""PortAudio over ALSA's pulse plug-in: it plays, records, tells what is lost, and says what is wrong."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from rtsep.dsp.ring import Ring
from rtsep.errors import DeviceError
from rtsep.io.clock import Semaphore
from rtsep.io.portaudio import PortAudioDriver, PortAudioSource, same_host
from rtsep.io.portaudio_library import portaudio, refreshed_portaudio, release_portaudio
from rtsep.io.tick import TICKS, StreamContext
from tests.conftest import need
from tests.e2e.servers import PulseServer, environment, jack_server, pulse_server

pytestmark = pytest.mark.realtime

RATE, TONE_HZ = 48000, 1000
CYCLE = RATE // TONE_HZ


def _need_portaudio() -> None:
    try:
        portaudio()
    except DeviceError as error:
        need(False, str(error))
    finally:
        release_portaudio()


def _need_pulse_plugin() -> None:
    found = [*Path("/usr").glob("lib*/*/alsa-lib/*_pcm_pulse.so"), *Path("/usr").glob("lib*/alsa-lib/*_pcm_pulse.so")]
    need(found, "ALSA's pulse plug-in (libasound2-plugins) not installed")


@pytest.fixture
def pulse() -> Iterator[PulseServer]:
    _need_portaudio()
    _need_pulse_plugin()
    with pulse_server(rate=RATE) as server, environment(server.env):
        yield server


def tone(start: int, frames: int) -> np.ndarray:
    """Frames of a sine, left, and of half of it, right; shape (frames, 2)."""
    wave = 0.5 * np.sin(2 * np.pi * TONE_HZ / RATE * np.arange(start, start + frames))
    return np.stack([wave, 0.5 * wave], axis=1).astype(np.float32)


def whole_cycles(sound: np.ndarray) -> int:
    """Longest run of whole cycles of `tone`, at whatever phase, in `sound`, shape (frames, 2)."""
    audible = np.flatnonzero(np.abs(sound[:, 0]) > 0.4)
    best = run = 0
    for begin in range(audible[0] if len(audible) else len(sound), len(sound) - 2 * CYCLE, CYCLE):
        now, then = sound[begin : begin + CYCLE], sound[begin + CYCLE : begin + 2 * CYCLE]
        good = (
            np.ptp(now[:, 0]) > 0.9
            and np.abs(now - then).max() < 1e-3
            and np.abs(now[:, 0] - 2 * now[:, 1]).max() < 1e-3
        )
        run = run + 1 if good else 0
        best = max(best, run)
    return best


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.01)
    return bool(condition())


class Player:
    """Keeps an output ring filled with `tone`."""

    def __init__(self) -> None:
        self._inputs, self._outputs = Ring(1 << 16, 2), Ring(1 << 14, 2)
        self.context = StreamContext(2, self._inputs, self._outputs, Semaphore())
        self._running = True
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()
        self.context.open()

    def _fill(self) -> None:
        position = 0
        while self._running:
            position += self._outputs.write(tone(position, self._outputs.space))
            self._inputs.skip(self._inputs.fill)
            time.sleep(0.005)

    def end(self) -> None:
        self.context.close()
        self._running = False
        self._thread.join()


def recorded(server: PulseServer, source: str, seconds: float) -> np.ndarray:
    """What a source gives while the sound goes on; shape (frames, 2)."""
    command = [
        "parec",
        "-d",
        source,
        "--format=float32le",
        f"--rate={RATE}",
        "--channels=2",
        "--raw",
        "--latency-msec=50",
    ]
    size = int(seconds * RATE) * 8
    with subprocess.Popen(command, env=server.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        data = process.stdout.read(size)
        process.terminate()
    return np.frombuffer(data, np.float32).reshape(-1, 2)


@pytest.mark.parametrize("blocksize", [None, 0, 700])
def test_plays_through_the_pulse_plug_in(pulse: PulseServer, blocksize: int | None) -> None:
    driver, player = PortAudioDriver(None, "sink_a", RATE, blocksize, latency="high"), Player()
    try:
        driver.open()
        assert (driver.samplerate, driver.inputs, driver.outputs) == (RATE, 0, 2)
        assert driver.blocksize >= (blocksize or 1)
        assert driver.variable or driver.blocksize == (blocksize or 512)
        assert driver.output_latency_frames > 0
        driver.start(player.context.address)
        sound = recorded(pulse, "a.monitor", 3.0)
        assert driver.lost == ""
    finally:
        player.end()
        driver.stop()
    assert whole_cycles(sound) > 200
    driver.stop()


def feed(pipe: IO[bytes]) -> None:
    """Eight seconds of `tone`, unless the reader ends before."""
    with contextlib.suppress(BrokenPipeError):
        pipe.write(tone(0, 8 * RATE).tobytes())


@pytest.mark.parametrize("channels", [1, 2])
def test_records_through_the_pulse_plug_in(pulse: PulseServer, channels: int) -> None:
    ring, source = Ring(1 << 19, channels), PortAudioSource("monitor_b", RATE, 512, "high")
    command = ["pacat", "-p", "-d", "b", "--format=float32le", f"--rate={RATE}", "--channels=2", "--raw"]
    with subprocess.Popen(command, env=pulse.env, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        feeder = threading.Thread(target=feed, args=(process.stdin,), daemon=True)
        feeder.start()
        source.open()
        try:
            assert (source.samplerate, source.channels, source.own_clock) == (RATE, 2, True)
            source.start(ring, RATE)
            assert wait_for(lambda: ring.fill >= 3 * RATE)
            assert source.lost == ""
        finally:
            source.stop()
            process.terminate()
            feeder.join()
    sound = np.zeros((ring.fill, channels), np.float32)
    ring.read(sound)
    if channels == 1:
        sound = np.concatenate([sound / 0.75, sound / 1.5], axis=1)
    assert whole_cycles(sound) > 200


def test_one_stream_records_and_plays(pulse: PulseServer) -> None:
    assert same_host("default", "default")
    assert not same_host("monitor_b", "sink_a")
    driver, player = PortAudioDriver("monitor_b", "sink_a", RATE, 512, "high"), Player()
    try:
        driver.open()
        assert (driver.inputs, driver.outputs) == (2, 2)
        assert driver.input_latency_frames > 0
        driver.start(player.context.address)
        assert wait_for(lambda: player.context.words[TICKS] > 20)
    finally:
        player.end()
        driver.stop()


def test_a_server_that_dies_is_told_and_found_again(pulse: PulseServer) -> None:
    driver, player = PortAudioDriver(None, "sink_a", RATE), Player()
    try:
        driver.open()
        driver.start(player.context.address)
        assert wait_for(lambda: player.context.words[TICKS] > 5)
        pulse.kill()
        assert wait_for(lambda: driver.lost)
        driver.stop()
        with pytest.raises(DeviceError):
            driver.open()
        pulse.launch()
        driver.open()
        before = player.context.words[TICKS]
        driver.start(player.context.address)
        assert wait_for(lambda: player.context.words[TICKS] > before + 5)
        assert driver.lost == ""
    finally:
        player.end()
        driver.stop()


def test_a_wrong_rate_lists_the_possible_ones(pulse: PulseServer) -> None:
    with pytest.raises(DeviceError, match="sink_a, ALSA has not got 500000 Hz .possible: 8000, .* 192000 Hz"):
        PortAudioDriver(None, "sink_a", 500000).open()


def test_portaudio_leaves_jack_alone() -> None:
    _need_portaudio()
    with jack_server(48000, 256) as server, environment(server.env):
        hosts = [host["name"] for host in refreshed_portaudio().query_hostapis()]
        release_portaudio()
    assert not any("JACK" in host for host in hosts)


def test_unknown_device(pulse: PulseServer) -> None:
    with pytest.raises(DeviceError, match="no output device matches 'trumpet' .*sink_a"):
        PortAudioDriver(None, "trumpet").open()


@pytest.mark.parametrize(
    ("failure", "told"), [("OSError", "libportaudio2"), ("ImportError", "pip install sounddevice")]
)
def test_without_the_library_only_opening_fails(tmp_path: Path, failure: str, told: str) -> None:
    (tmp_path / "sounddevice.py").write_text(f"raise {failure}('PortAudio library not found')\n")
    program = (
        "from rtsep.errors import DeviceError\n"
        "from rtsep.io.devices import list_devices\n"
        "from rtsep.io.portaudio import PortAudioDriver, PortAudioSource\n"
        "assert not [device for device in list_devices() if device.backend == 'portaudio']\n"
        "for thing in PortAudioDriver(None), PortAudioSource():\n"
        "    try:\n"
        "        thing.open()\n"
        "    except DeviceError as error:\n"
        "        print(error)\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.count(told) == 2
