"""Sessions from the command line: what they print, write and answer to signals."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rtsep.cli import main, run
from rtsep.cli.play import Stop, play
from rtsep.cli.views import JsonLines, Lines, View, view_for
from rtsep.errors import DeviceError

pytestmark = pytest.mark.realtime

#: Sound without a device, and without a net.
QUIET_PLACE = ("--input", "test:sine", "--output", "null", "--separator", "midside")

FIGURES = [
    "samplerate",
    "hop_frames",
    "hops",
    "late",
    "xruns_in",
    "xruns_out",
    "hop_ms_p50",
    "hop_ms_p99",
    "hop_ms_max",
]
FIGURES += ["host_ms_p50", "host_ms_p99", "infer_ms_p50", "infer_ms_p99", "latency_frames", "latency_ms", "rss_mb"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rtsep", *arguments]


def test_json_lines_and_stats_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    assert main.main([*QUIET_PLACE, "--duration", "1.2", "--json", "--stats", str(stats), "--vocals", "-6"]) == 0
    caught = capsys.readouterr()
    lines = [json.loads(line) for line in caught.out.splitlines()]
    assert [line["event"] for line in lines[-2:]] == ["stats", "summary"]
    assert caught.err == ""
    written = json.loads(stats.read_text())
    for name in FIGURES:
        assert name in written
        assert written[name] == lines[-1][name]
    assert written["latency_frames"] == 2 * written["hop_frames"] == 512
    assert written["hops"] * written["hop_frames"] >= 1.2 * written["samplerate"]
    assert written["vocals_db"] == -6.0


def test_lines_tell_what_plays_and_how_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*QUIET_PLACE, "--duration", "0.3"]) == 0
    out = capsys.readouterr().out
    assert "test:sine > midside > null" in out
    assert "hop 256, latency 10.7 ms" in out
    assert "late masks" in out


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*QUIET_PLACE, "--duration", "0.2", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_recording_is_there_and_not_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "takes"
    assert main.main([*QUIET_PLACE, "--duration", "0.3", "--record", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {"mixture.wav", "vocals.wav", "accompaniment.wav"}
    assert f"are in {folder}/" in capsys.readouterr().out
    before = (folder / "vocals.wav").read_bytes()
    assert main.main([*QUIET_PLACE, "--duration", "0.3", "--record", str(folder)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (folder / "vocals.wav").read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signals_end_with_a_summary(number: int, code: int) -> None:
    with subprocess.Popen(command(*QUIET_PLACE, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "stats"
        process.send_signal(number)
        rest = process.stdout.read().splitlines()
        errors = process.stderr.read()
        assert process.wait(30) == code
    assert json.loads(rest[-1])["event"] == "summary"
    assert errors == b""


def test_sound_on_stdout_leaves_it_to_the_sound() -> None:
    done = subprocess.run(
        command("--input", "test:sine", "--output", "-", "--separator", "midside", "--duration", "0.2", "--json"),
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"RIFF")
    assert json.loads(done.stderr.splitlines()[-1])["event"] == "summary"


def test_screen_in_a_terminal_and_its_keys() -> None:
    """A real terminal: the screen comes, arrow and `q` are heard, the terminal is as it was, the summary stays."""
    import termios

    terminal, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    before = termios.tcgetattr(side)
    program = "import os, sys; os.setsid(); import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    program += "from rtsep.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *QUIET_PLACE],
        stdin=side,
        stdout=side,
        stderr=side,
        env={**os.environ, "TERM": "xterm"},
    )
    text, asked = b"", 0
    limit = time.monotonic() + 100
    while time.monotonic() < limit:
        if select.select([terminal], [], [], 0.2)[0]:
            text += os.read(terminal, 65536)
        elif process.poll() is not None:
            break
        if asked == 0 and b"q quit" in text:
            os.write(terminal, b"\x1b[B")
            asked = 1
        if asked == 1 and b"-1.0 dB" in text:
            os.write(terminal, b"q")
            asked = 2
    assert process.wait(10) == 0
    assert termios.tcgetattr(side) == before
    after = text.rpartition(b"\x1b[?1049l")[2].decode()
    assert text.count(b"\x1b[?1049h") == 1
    assert "late masks" in after
    os.close(side)
    os.close(terminal)


def test_view_is_chosen_by_output_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert type(view_for("null", quiet=True, json=False)) is View
    assert type(view_for("null", quiet=False, json=False)) is Lines
    view = view_for("-", quiet=False, json=True)
    assert type(view) is JsonLines and view.stream is sys.stderr


@pytest.mark.parametrize(
    ("there", "wanted", "told"),
    [
        ((True, True), ("mic", "speakers"), "From the microphone to the speakers"),
        ((False, True), ("demo", "speakers"), "No microphone found"),
        ((True, False), ("demo", "null"), "No speakers found"),
        ((False, False), ("demo", "null"), "No sound device found"),
    ],
)
def test_without_devices_the_built_in_song_plays(
    there: tuple[bool, bool], wanted: tuple[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtsep.io import devices

    monkeypatch.setattr(devices, "list_devices", list)
    monkeypatch.setattr(devices, "live_devices", lambda found: there)
    source, sink, note = run.places(None, None)
    assert (source, sink) == wanted
    assert told in note


def test_broken_session_is_raised_after_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    from rtsep.engine import session
    from rtsep.engine.stats import Stats

    told: list[str] = []

    class Broken:
        error = DeviceError("gone")

        def __init__(self, options: object) -> None:
            pass

        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

        def snapshot(self) -> Stats:
            return Stats()

        def wait(self, timeout_s: float) -> bool:
            return True

        def stop(self, fade_ms: float) -> None:
            told.append("stop")

    class Watching(View):
        def end(self, stats: Stats) -> None:
            told.append("summary")

    monkeypatch.setattr(session, "Session", Broken)
    with pytest.raises(DeviceError, match="gone"):
        play(session.SessionOptions(), Watching(sys.stdout), duration=None, stats=None)
    assert told == ["stop", "summary"]
    assert not Stop().wanted


@pytest.mark.parametrize(("asked", "may_rest"), [("auto", True), ("midside", False)])
def test_what_auto_chose_may_rest(asked: str, may_rest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtsep.cli import play as playing
    from rtsep.engine import warm
    from rtsep.engine.session import Session
    from rtsep.engine.stepdown import SHARE
    from rtsep.separators import profiles

    sessions: list[Session] = []
    monkeypatch.setattr(playing, "play", lambda options, *_, **__: sessions.append(Session(options)) or 0)
    monkeypatch.setattr(profiles, "resolve", lambda *_: ("midside", "it was the fastest"))
    monkeypatch.setattr(warm, "ensure", lambda say: None)
    assert main.main(["--input", "test:sine", "--output", "null", "--separator", asked]) == 0
    assert sessions[0].options.separator == "midside"
    step_down = sessions[0]._stepdown
    assert (step_down is not None) == may_rest
    if step_down is not None:
        assert not step_down.look(0.0, 0, 0) and step_down.look(1.0, 100, int(100 * SHARE) + 1)
