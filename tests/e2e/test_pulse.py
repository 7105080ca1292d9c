"""Over PulseAudio and PipeWire null sinks: another program's music in, out of a second sink as good as from a file."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import need
from tests.e2e.programs import running, wait_for
from tests.e2e.servers import Server, pipewire_session, pulse_server
from tests.e2e.sound import Sound, align, pieces_db, sdr_db, song

pytestmark = pytest.mark.alone

NET = "koretzky"
SECONDS = 7.0
#: Silence that is played first: a player that joins makes a server change its periods.
LEAD_S = 4
#: Steps in which the place of the first hop is looked for, in frames, and hops before the song.
GRID = 128
SILENT_HOPS = 300
TAKES = 8
#: Pieces of the song that are compared, and how like the file a piece must sound to be one that no server has cut.
PIECE, WHOLE_DB = 24000, 15.0


@pytest.fixture(scope="module", params=["pulse", "pipewire"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    need(shutil.which("parecord") and shutil.which("paplay"), "pulseaudio-utils not installed")
    with pulse_server() if request.param == "pulse" else pipewire_session() as running_server:
        yield request.param, running_server


@contextlib.contextmanager
def recording(server: Server, sink: str) -> Iterator[list[Sound]]:
    """What a sink plays meanwhile; filled in at the end."""
    heard: list[Sound] = []
    path = server.folder / "heard.raw"
    command = ["parecord", "-d", f"{sink}.monitor", "--raw", "--format=float32le", "--rate=48000", "--channels=2"]
    process = subprocess.Popen([*command, "--latency-msec=50", str(path)], env=server.env)
    try:
        wait_for(lambda: path.exists() and path.stat().st_size > 0, "the recorder hears nothing")
        yield heard
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
    heard.append(np.fromfile(path, np.float32).reshape(-1, 2).T)


@pytest.fixture(scope="module")
def from_file() -> list[Sound]:
    """Vocals as `rtsep separate` makes them after as long a silence, with the first hop at one place or another.

    Where the live stream's hops begin, and which of the net's turns comes first, is left to chance and worth up to
    0.07 dB: so the same place is compared.
    """
    from rtsep.engine.offline import split
    from rtsep.separators.registry import create

    befores = [SILENT_HOPS * 512 + first for first in range(0, 512, GRID)]
    mixture = sum(song(SECONDS))
    return [split(create(NET), np.pad(mixture, ((0, 0), (n, 0))), 48000)[0][:, n:] for n in befores]


def take(name: str, server: Server, song_file: Path) -> Sound:
    """What sink b plays while another program plays the song to sink a."""
    player = ["paplay", "-d", "a", str(song_file)]
    arguments = ("--input", f"{name}:a", "--output", f"{name}:b", "--acapella", "--separator", NET)
    with running(*arguments, env=server.env) as program:
        program.plays()
        time.sleep(2.0)  # the clocks find together
        with recording(server, "b") as heard:
            subprocess.run(player, env=server.env, check=True, timeout=60)
            time.sleep(0.5)
        assert program.now["state"] == "playing"
        assert program.end() == 0
    assert program.errors == b""
    return heard[0]


def test_what_the_computer_plays_scores_like_the_file(
    server: tuple[str, Server], from_file: list[Sound], tmp_path: Path
) -> None:
    """Null sinks run by the computer's clock: a machine that is busy with other things cuts the sound itself, and the
    pieces in which it does are left out, a quarter of them at most.
    """
    name, running_server = server
    vocals, music = song(SECONDS)
    mixture = vocals + music
    played = np.pad(mixture, ((0, 0), (LEAD_S * 48000, 0)))
    soundfile.write(tmp_path / "song.wav", played.T, 48000, subtype="FLOAT")
    told = []
    for _ in range(TAKES):
        heard = take(name, running_server, tmp_path / "song.wav")
        live, shift = align(heard, from_file[0])
        file = max(from_file, key=lambda other: sdr_db(other, live))
        whole = pieces_db(file, live, PIECE) > WHOLE_DB
        kept = np.repeat(whole, PIECE)
        true, rest, ours, files = (x[:, : len(kept)][:, kept] for x in (vocals, music, live, file))
        scores = [sdr_db(true, ours), sdr_db(true, files)]
        scores += [sdr_db(rest, true + rest - ours), sdr_db(rest, true + rest - files)]
        told.append(
            f"{whole.sum()} of {len(whole)} pieces whole, vocals {scores[0]:.3f} live, {scores[1]:.3f} file, "
            f"shift {np.ptp(shift):.1f} frames"
        )
        if whole.mean() >= 0.75 and abs(scores[0] - scores[1]) <= 0.1 and abs(scores[2] - scores[3]) <= 0.1:
            assert scores[0] > 4.0
            print(f"{name}: {told}, agreement {sdr_db(file, live):.1f} dB")
            return
    pytest.fail(f"{name}: none of {TAKES} takes scores as the file does: {told}")
