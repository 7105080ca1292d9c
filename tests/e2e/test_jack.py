"""The program over JACK: latency to the frame, exactness in freewheel, ports by name, servers that change or die."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.engine.session import Session, SessionOptions
from tests.e2e.jack_probe import Probe
from tests.e2e.programs import running, wait_for
from tests.e2e.servers import JackServer, environment, jack_server
from tests.e2e.sound import Sound, sdr_db, song

pytestmark = pytest.mark.realtime

INS, OUTS = ["rtsep:in_1", "rtsep:in_2"], ["rtsep:out_1", "rtsep:out_2"]


@pytest.fixture(scope="module")
def module_server_44k() -> Iterator[JackServer]:
    with jack_server(44100, 256) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def module_server_48k() -> Iterator[JackServer]:
    with jack_server(48000, 1024) as running_server:
        yield running_server


@pytest.fixture
def server_44k(module_server_44k: JackServer) -> Iterator[JackServer]:
    with environment(module_server_44k.revive().env):
        yield module_server_44k


@pytest.fixture
def server_48k(module_server_48k: JackServer) -> Iterator[JackServer]:
    with environment(module_server_48k.revive().env):
        yield module_server_48k


@contextlib.contextmanager
def with_block(server: JackServer, block: int) -> Iterator[None]:
    """The running server at another block size."""
    from rtsep.io.jack_client import connect_client

    _, client, _ = connect_client("setter", server.name)
    try:
        client.blocksize = block
        yield
    finally:
        client.close()


def session(separator: str, **more) -> Session:  # type: ignore[no-untyped-def]
    return Session(SessionOptions(input="jack", output="jack", separator=separator, **more))


def clicks(samplerate: int, apart: int) -> Sound:
    sound = np.zeros((2, samplerate // 2), np.float32)
    sound[:, 1000::apart] = 0.5
    return sound


def distances(heard: Sound, sent: Sound, apart: int) -> list[int]:
    """Frames from each click in to the loudest frame until the next; 0 where nothing came."""
    return [int(np.argmax(np.abs(heard[0, at : at + apart]))) for at in np.flatnonzero(sent[0])[:-1]]


def measured(server: JackServer, rate: int, apart: int = 3001) -> int:
    """Distance in frames from a click in to the click out, through rtsep's ports, in real time.

    A machine that stops for some milliseconds swallows a click or delays it: such a take is made anew, 24 times at
    most. In a whole take all clicks are as far from each other as they were.
    """
    sound, told = clicks(rate, apart), []
    for _ in range(24):
        with Probe(sound, 2, server.name) as probe:
            probe.connect(INS, OUTS)
            told.append(set(distances(probe.run(), sound, apart)))
        if len(told[-1]) == 1 and 0 not in told[-1]:
            return told[-1].pop()
    raise AssertionError(f"no take is whole: {told}")


def without_clock(server: JackServer, running_session: Session, rate: int, apart: int = 3001) -> set[int]:
    """The distances of all clicks in freewheel mode, where nothing comes late."""
    sound = clicks(rate, apart)
    with Probe(sound, 2, server.name) as probe:
        probe.connect(INS, OUTS)
        with freewheel(running_session, probe):
            return set(distances(probe.run(), sound, apart))


@contextlib.contextmanager
def freewheel(running_session: Session, probe: Probe, silence: int = 100) -> Iterator[None]:
    """Freewheel mode, from `silence` hops on."""
    driver = running_session._stream.driver  # type: ignore[union-attr]
    probe.freewheel(True)
    try:
        wait_for(lambda: driver.freewheeling, "no freewheel")
        hops = running_session.snapshot().hops
        wait_for(lambda: running_session.snapshot().hops > hops + silence, "freewheel stands still")
        yield
    finally:
        probe.freewheel(False)
        wait_for(lambda: not driver.freewheeling, "freewheel goes on")


@pytest.mark.parametrize("block", [64, 128, 256, 1024])
@pytest.mark.parametrize(("profile", "hop"), [("live", 256), ("monitor", 128)])
def test_a_click_comes_after_the_printed_latency(server_44k: JackServer, block: int, profile: str, hop: int) -> None:
    with with_block(server_44k, block), session("midside", profile=profile) as running_session:
        told = running_session.snapshot()
        assert told.samplerate == server_44k.rate
        assert measured(server_44k, server_44k.rate) == told.latency_frames
        assert without_clock(server_44k, running_session, server_44k.rate) == {told.latency_frames}
    assert told.latency_ms == pytest.approx(1000 * told.latency_frames / server_44k.rate)
    if block <= 128 or (block, profile) == (256, "live"):
        assert told.latency_frames == 2 * hop
    assert told.latency_frames <= 2 * hop + max(0, block - hop)


@pytest.mark.parametrize("block", [64, 128, 256, 1024])
@pytest.mark.parametrize(("net", "hop"), [("koretzky", 512), ("live", 256), ("monitor", 128)])
def test_latency_of_the_nets(server_48k: JackServer, net: str, hop: int, block: int) -> None:
    with with_block(server_48k, block), session(net) as running_session:
        told = running_session.snapshot().latency_frames
        assert measured(server_48k, server_48k.rate) == told
        assert without_clock(server_48k, running_session, server_48k.rate) == {told}
    # A net gets 2.5 ms (120 frames) for a hop: shorter periods are made up to that.
    assert told == 2 * hop + max(0, block - hop) + (64 if block == 64 else 0)


def test_latency_of_a_net_that_looks_ahead(server_48k: JackServer) -> None:
    with with_block(server_48k, 1024), session("karaoke") as running_session:
        told = running_session.snapshot().latency_frames
        assert measured(server_48k, server_48k.rate, 5003) == told
        assert without_clock(server_48k, running_session, server_48k.rate, 5003) == {told}
    assert told == 2 * 512 + 6 * 512 + (1024 - 512)


def test_latency_printed_by_the_command(server_44k: JackServer) -> None:
    arguments = ("--input", "jack", "--output", "jack", "--separator", "passthrough")
    with with_block(server_44k, 128), running(*arguments, env=server_44k.env) as program:
        program.plays()
        assert measured(server_44k, server_44k.rate) == program.now["latency_frames"] == 512
        assert program.end() == 0


def through_freewheel(server: JackServer, sound: Sound, silence: int = 100, **options) -> Sound:  # type: ignore[no-untyped-def]
    """`sound`, after `silence` hops of silence, through a fresh session in freewheel mode."""
    with session(**options) as running_session, Probe(sound, 2, server.name) as probe:
        probe.connect(INS, OUTS)
        with freewheel(running_session, probe, silence):
            heard = probe.run()
            assert probe.skipped == 0
            now = running_session.snapshot()
            assert (now.xruns_in, now.state) == (0, "playing")
    return heard


def test_freewheel_repeats_to_the_bit_and_the_parts_add_up(server_48k: JackServer) -> None:
    sound = np.ascontiguousarray(sum(song(3.0)))
    vocals, again = (through_freewheel(server_48k, sound, separator="midside", music_db=-np.inf) for _ in range(2))
    music = through_freewheel(server_48k, sound, separator="midside", vocals_db=-np.inf)
    np.testing.assert_array_equal(vocals, again)
    assert np.abs(vocals).max() > 0.01
    delay = 512 + 1024 - 256  # two hops, and the period of 1024
    assert sdr_db(sound[:, :-delay], (vocals + music)[:, delay:]) >= 100


def test_freewheel_repeats_koretzky_to_the_bit(server_48k: JackServer) -> None:
    # Its running level forgets what was before only in so many hops; where the probe begins is left to chance.
    sound = np.ascontiguousarray(sum(song(2.0)))
    vocals, again = (
        through_freewheel(server_48k, sound, 3000, separator="koretzky", music_db=-np.inf) for _ in range(2)
    )
    np.testing.assert_array_equal(vocals, again)
    assert np.abs(vocals).max() > 0.01


def test_recording_in_freewheel_is_whole(server_48k: JackServer, tmp_path: Path) -> None:
    sound = np.ascontiguousarray(sum(song(3.0)))
    heard = through_freewheel(server_48k, sound, separator="koretzky", vocals_db=-np.inf, record=tmp_path / "take")
    mixture, vocals, music = (
        soundfile.read(tmp_path / "take" / f"{stem}.wav", dtype="float32")[0].T
        for stem in ("mixture", "vocals", "accompaniment")
    )
    first = int(np.flatnonzero(mixture.any(axis=0))[0]) - int(np.flatnonzero(sound.any(axis=0))[0])
    frames = sound.shape[1] - 2048
    np.testing.assert_array_equal(mixture[:, first : first + frames], sound[:, :frames])
    assert np.abs(vocals + music - mixture).max() < 1e-6
    at = int(np.flatnonzero(heard.any(axis=0))[0])
    begin = int(np.flatnonzero(music.any(axis=0))[0])
    np.testing.assert_array_equal(heard[:, at : at + frames], music[:, begin : begin + frames])


def test_ports_by_name(server_48k: JackServer) -> None:
    """From one port of a client to one port of another, and nowhere else."""
    sound = clicks(48000, 3001)
    with Probe(sound, 2, server_48k.name) as probe:
        arguments = ("--input", "jack:player:out_2", "--output", "jack:recorder:in_1", "--separator", "passthrough")
        with running(*arguments, env=server_48k.env) as program:
            program.plays()
            links = {
                port: [other.name for other in probe.player.get_all_connections(port)]
                for port in ("player:out_1", "player:out_2", "recorder:in_1", "recorder:in_2")
            }
            assert links == {
                "player:out_1": [],
                "player:out_2": ["rtsep:in_1"],
                "recorder:in_1": ["rtsep:out_1"],
                "recorder:in_2": [],
            }
            heard = probe.run()
            assert program.end() == 0
    assert np.abs(heard[0]).max() > 0.4
    assert not heard[1].any()


def test_a_file_is_played_over_jack(server_48k: JackServer, tmp_path: Path) -> None:
    """A source without a clock beside a driver: all of it, once, and then the program ends by itself."""
    mixture = sum(song(2.0, 44100))
    soundfile.write(tmp_path / "song.wav", mixture.T, 44100, subtype="FLOAT")
    arguments = ("--input", tmp_path / "song.wav", "--output", "jack", "--separator", "passthrough")
    with running(*arguments, env=server_48k.env) as program:
        assert program.wait() == 0, program.errors
    last = program.now
    assert (last["event"], last["state"], last["samplerate"]) == ("summary", "ended", 48000)
    assert last["xruns_in"] == 0
    assert 2.0 <= last["position_s"] < 2.6


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_with_a_fade(server_48k: JackServer, number: int, code: int) -> None:
    arguments = ("--input", "test:sine:100", "--output", "jack", "--separator", "passthrough")
    for take in range(8):
        with (
            running(*arguments, env=server_48k.env) as program,
            Probe(np.zeros((1, 72000)), 1, server_48k.name) as probe,
        ):
            program.plays()
            probe.connect([], ["rtsep:out_1"])
            ending = threading.Timer(0.5, program.process.send_signal, [number])
            ending.start()
            heard = probe.run()[0]
            assert program.wait() == code
        try:
            is_faded(heard)
        except AssertionError:  # a machine that stops for some milliseconds swallows a period of the fade: anew
            if take == 7:
                raise
        else:
            break


def is_faded(heard: np.ndarray) -> None:
    """A sine at -12 dBFS that ends within the recording by a fade of 20 ms without a step."""
    last = int(np.flatnonzero(heard)[-1])
    assert 12000 < last < 72000 - 100
    fade = heard[last - 900 : last + 100]  # before it, the probe may have missed a period
    assert np.abs(np.diff(fade)).max() < 1.2 * 0.25 * 2 * np.pi * 100 / 48000  # nowhere a step
    assert np.abs(fade[:480]).max() > 0.15
    assert np.abs(fade[-124:]).max() < 0.02


def test_a_server_that_dies_and_returns() -> None:
    """Sound again within 5 s of the server's return, at its new rate and block size, without a hand."""
    arguments = ("--input", "jack", "--output", "jack", "--separator", "midside")
    with jack_server(48000, 256) as server, environment(server.env), running(*arguments, env=server.env) as program:
        program.plays()
        server.kill()
        program.until(lambda line: line["state"].startswith("reconnecting: JACK"), "the loss goes unnoticed")
        server.launch(rate=44100, block=512)
        began = time.monotonic()
        program.until(lambda line: line["state"] == "playing" and line["reconnections"] == 1, "no sound again")
        took = time.monotonic() - began
        assert measured(server, 44100) == program.now["latency_frames"] == 768
        assert program.end() == 0
    assert took <= 5.0
    last = program.now
    assert (last["samplerate"], last["reconnections"]) == (44100, 1)
    assert any("gone" in line for line in last["messages"])


def test_a_changed_block_size_is_followed(server_48k: JackServer) -> None:
    with with_block(server_48k, 128), session("midside") as running_session:
        assert measured(server_48k, 48000) == 512
        assert without_clock(server_48k, running_session, 48000) == {512}
        before = running_session.snapshot()
        with with_block(server_48k, 1024):
            wait_for(lambda: running_session.snapshot().reconnections == 1, "the change goes unnoticed", 5.0)
            wait_for(lambda: running_session.snapshot().state == "playing", "no sound", 5.0)
            now = running_session.snapshot()
            assert now.latency_frames == 512 + 768
            assert measured(server_48k, 48000) == now.latency_frames
    assert now.hops >= before.hops
    assert any("1024 frames" in line for line in now.messages)
