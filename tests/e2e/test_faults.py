"""What goes wrong around a session: nets, disks, signals, servers. The sound goes on, and the state says what it is."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.engine import session as sessions
from rtsep.engine.session import Session, SessionOptions
from rtsep.errors import OverloadError
from tests.e2e.programs import ROOT, running, wait_for
from tests.e2e.servers import Server, environment, pulse_server
from tests.faults import Faulty

pytestmark = pytest.mark.realtime

LIVE = ("--input", "test:noise", "--output", "null", "--separator", "midside")
STEMS = ("mixture", "vocals", "accompaniment")


@pytest.fixture
def with_separator(monkeypatch: pytest.MonkeyPatch):
    """Sessions whose separator is the one given."""

    def make(separator: Faulty, **more) -> Session:  # type: ignore[no-untyped-def]
        monkeypatch.setattr(sessions, "create", lambda *_, **__: separator)
        return Session(SessionOptions(input="test:noise", output="null", **more))

    return make


def test_a_net_that_stalls(with_separator) -> None:
    with with_separator(Faulty("stall", first=100, seconds=0.2)) as session:
        wait_for(lambda: session.snapshot().late >= 20, "the stall is not counted")
        wait_for(lambda: session.snapshot().hops > 300, "the sound stands still")
        now = session.snapshot()
        assert now.state == "playing"
        assert now.xruns_in == 0
    assert session.error is None
    assert session.snapshot().state == "ended"


@pytest.mark.parametrize(("fault", "told"), [("nan", "its mask is not finite"), ("raise", "the net broke on purpose")])
def test_a_net_that_fails_is_bypassed_for_a_while_and_the_state_says_why(with_separator, fault: str, told: str) -> None:
    with with_separator(Faulty(fault, first=100)) as session:
        wait_for(lambda: session.snapshot().state.startswith("bypassed: "), "the fault is not told")
        assert told in session.snapshot().state
        assert session.snapshot().peak_out_db[0] > -20  # the delayed input
        wait_for(lambda: session.snapshot().state == "playing", "no second try")
        hops = session.snapshot().hops
        wait_for(lambda: session.snapshot().hops > hops + 20, "the sound stands still")
    assert session.error is None


def test_a_net_that_never_works_again(with_separator) -> None:
    with with_separator(Faulty("crash", first=50, count=10**9)) as session:
        wait_for(lambda: session.snapshot().state.startswith("bypassed: "), "the fault is not told")
        time.sleep(1.0)
        now = session.snapshot()
        assert now.state.startswith("bypassed: ")
        session.set("bypass", True)
        session.set("vocals_db", "-inf")
        wait_for(lambda: session.snapshot().hops > now.hops + 100, "the sound stands still")
    assert session.error is None


def test_a_net_that_is_always_too_slow_is_an_error_at_the_end(with_separator) -> None:
    with with_separator(Faulty("stall", first=0, count=10**9, seconds=0.02)) as session:
        wait_for(lambda: session.snapshot().hops > 700, "the sound stands still")
        assert session.snapshot().state == "playing"
    assert isinstance(session.error, OverloadError)
    assert session.error.exit_code == 6
    assert "too slow for separator faulty" in str(session.error)


def limited(*arguments: str | Path, most_bytes: int) -> subprocess.Popen[bytes]:
    """The command on a disk that takes no file longer than `most_bytes`."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    # What is compiled must not be written to the same small disk.
    command = [sys.executable, "-m", "rtsep", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limit)


def test_a_full_disk_stops_the_recording_and_not_the_music(tmp_path: Path) -> None:
    import json

    folder = tmp_path / "take"
    with limited(*LIVE, "--json", "--duration", "5", "--record", folder, most_bytes=500_000) as process:
        out, errors = process.communicate(timeout=50)
    lines = [json.loads(line) for line in out.splitlines()]
    assert (process.returncode, errors) == (0, b"")
    full = [line["messages"] for line in lines if line["messages"]]
    assert any("the recording stopped" in text and "File too large" in text for text in full[-1]), lines[-1]
    assert [text for text in full[-1] if text.startswith("the recording stopped")] == lines[-1]["losses"]
    after = [line for line in lines if line["messages"] and line["state"] == "playing"]
    assert after and all(line["recording"] == "" for line in after)
    assert lines[-1]["hops"] * lines[-1]["hop_frames"] >= 5 * lines[-1]["samplerate"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{stem}.wav.part" for stem in STEMS)
    kept, rate = soundfile.read(folder / "vocals.wav.part")
    assert 0.5 < len(kept) / rate < 1.5


def test_a_full_disk_under_the_output_file_ends_the_run(tmp_path: Path) -> None:
    target = tmp_path / "out.wav"
    arguments = ("--input", "test:noise", "--output", target, "--separator", "midside", "--duration", "60", "--quiet")
    with limited(*arguments, most_bytes=500_000) as process:
        out, errors = process.communicate(timeout=50)
    assert (process.returncode, out) == (1, b"")
    assert errors.decode().count("\n") == 1
    assert "out.wav cannot be written on after" in errors.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav.part"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_a_signal_ends_with_whole_files(tmp_path: Path, number: int, code: int) -> None:
    with running(*LIVE, "--record", tmp_path / "take", "--stats", tmp_path / "stats.json") as program:
        program.plays()
        program.until(lambda line: line["position_s"] > 1.0, "no second line")
        assert program.end(number) == code
    assert program.errors == b""
    assert (tmp_path / "stats.json").exists()
    sounds = {stem: soundfile.read(tmp_path / "take" / f"{stem}.wav", dtype="float32")[0] for stem in STEMS}
    assert len({len(sound) for sound in sounds.values()}) == 1
    assert len(sounds["mixture"]) > 48000
    assert np.abs(sounds["vocals"] + sounds["accompaniment"] - sounds["mixture"]).max() < 1e-6
    assert sounds["mixture"][-4800:].std() > 0.05  # recorded to the end; only what is heard is faded


def test_an_interrupt_while_the_sound_is_being_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C before the first sound: nothing is left, neither a thread nor a file."""
    from rtsep.cli import main
    from rtsep.engine.stream import Stream

    def interrupted(_: Stream) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stream, "start", interrupted)
    before = set(threading.enumerate())
    assert main.main([*LIVE, "--record", str(tmp_path / "take"), "--quiet"]) == 130
    assert capsys.readouterr() == ("", "")
    wait_for(lambda: set(threading.enumerate()) <= before, "a thread is left")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def pulse() -> Iterator[Server]:
    with pulse_server() as server, environment(server.env):
        yield server


def test_a_pulse_server_that_dies_and_returns(pulse: Server) -> None:
    arguments = ("--input", "pulse:a", "--output", "pulse:b", "--separator", "midside")
    with running(*arguments, env=pulse.env) as program:
        program.plays()
        command = pulse.processes["pulseaudio"].args
        assert isinstance(command, list)
        pulse.end("pulseaudio", signal.SIGKILL)
        program.until(lambda line: line["state"].startswith("reconnecting: "), "the loss goes unnoticed")
        (Path(pulse.env["XDG_RUNTIME_DIR"]) / "pulse" / "pid").unlink(missing_ok=True)
        pulse.start(command, lambda: pulse.succeeds("pactl", "info"))
        began = time.monotonic()
        program.until(lambda line: line["state"] == "playing" and line["reconnections"] == 1, "no sound again")
        took = time.monotonic() - began
        hops = program.now["hops"]
        program.until(lambda line: line["hops"] > hops + 50, "the sound stands still")
        assert program.end() == 0
    assert took <= 5.0
    assert program.errors == b""


def test_a_reader_of_the_output_that_goes_away(tmp_path: Path) -> None:
    """As in `rtsep -o - | head`: an end, no traceback."""
    command = [sys.executable, "-m", "rtsep", "-i", "test:noise", "-o", "-", "-s", "midside", "-q"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(4096)
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(30) == 1
    assert errors == "rtsep: standard output was closed by the program that read it\n"
