"""What must outlive a device: the file that takes the output, the place in the input, the counters, the recordings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.dsp.ring import Ring
from rtsep.engine import routing, session, stream
from rtsep.engine.options import SessionOptions
from rtsep.engine.session import Session
from rtsep.errors import RtsepError
from rtsep.io.feed import FeedSource
from rtsep.io.file import FileSink, FileSource
from rtsep.io.null import NullDriver

pytestmark = pytest.mark.realtime

RATE = 48000


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


class Flaky(NullDriver):
    """The computer's clock as a device that can be pulled out; `rates` are those of each opening."""

    pulled = False
    rates: list[int] = []

    def __init__(self) -> None:
        super().__init__(self.rates.pop(0) if len(self.rates) > 1 else self.rates[0], 256)
        type(self).pulled = False

    @property
    def lost(self) -> str:
        return "the device is gone" if self.pulled else ""


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flaky]]:
    Flaky.rates = [RATE]
    monkeypatch.setattr(routing, "_clock", lambda *_: Flaky())
    yield Flaky
    Flaky.pulled = False


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    t = np.arange(3 * RATE) / RATE
    soundfile.write(path, np.stack([0.5 * np.sin(2 * np.pi * 300 * t)] * 2, 1), RATE, subtype="FLOAT")
    return path


def options(source: Path, **more: object) -> SessionOptions:
    return SessionOptions(**({"input": str(source), "output": "null", "separator": "passthrough"} | more))  # type: ignore[arg-type]


def pull(playing: Session, device: type[Flaky], times: int = 1) -> None:
    until(lambda: playing.snapshot().position_s > 0.3 * times)
    device.pulled = True
    until(lambda: playing.snapshot().reconnections == times)


def test_the_output_file_goes_on_when_the_device_returns(flaky: type[Flaky], song: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    with Session(options(song, output=str(out))) as playing:
        pull(playing, flaky)
        until(lambda: playing.wait(0.1))
    assert playing.error is None
    sound, _ = soundfile.read(out)
    # All but the latency of the second stream, during which the first one's end is not played.
    assert 2.9 < (np.abs(sound).max(1) > 0).sum() / RATE <= 3.0
    assert list(tmp_path.glob("*.part")) == []


def test_a_device_of_another_rate_ends_the_output_file_and_keeps_it(
    flaky: type[Flaky], song: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.wav"
    flaky.rates = [RATE, 44100]
    with Session(options(song, output=str(out))) as playing:
        until(lambda: playing.snapshot().position_s > 0.3)
        flaky.pulled = True
        until(lambda: playing.wait(0.1))
    assert "out.wav ends here: it has 48000 Hz" in str(playing.error) and "with 44100 Hz" in str(playing.error)
    sound, rate = soundfile.read(out)
    assert rate == RATE and (np.abs(sound) > 0).sum() > 0.2 * RATE


def test_counters_and_place_go_on(flaky: type[Flaky], song: Path) -> None:
    flaky.rates = [RATE, 44100, RATE]
    with Session(options(song)) as playing:
        pull(playing, flaky)
        first = playing.snapshot()
        pull(playing, flaky, times=2)
        until(lambda: playing.wait(0.1))
        last = playing.snapshot()
    assert playing.error is None  # the file was read to its end, once
    assert last.reconnections == 2 and last.hops > first.hops
    assert last.position_s == pytest.approx(3.0, abs=0.25)


def test_a_second_interrupt_finishes_the_recording(
    flaky: type[Flaky], song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.Stream, "fade_out", interrupted)
    folder = tmp_path / "take"
    with pytest.raises(KeyboardInterrupt), Session(options(song, record=folder)) as playing:
        until(lambda: playing.snapshot().position_s > 0.3)
        playing.stop()
    assert sorted(path.name for path in folder.iterdir()) == ["accompaniment.wav", "mixture.wav", "vocals.wav"]
    assert soundfile.info(folder / "mixture.wav").frames > 0.2 * RATE
    assert not playing.running


def test_an_error_of_our_own_ends_the_session_in_good_order(
    flaky: type[Flaky], song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("never")

    folder = tmp_path / "take"
    with Session(options(song, record=folder)) as playing:
        until(lambda: playing.snapshot().position_s > 0.3)
        monkeypatch.setattr(session, "open_route", broken)
        flaky.pulled = True
        until(lambda: playing.wait(0.1))
    assert isinstance(playing.error, RtsepError) and "ZeroDivisionError" in str(playing.error)
    assert (folder / "mixture.wav").exists()


def test_a_device_that_opens_after_the_end_stays_silent(
    flaky: type[Flaky], song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, opened = session.open_route, []

    def late(*arguments: object) -> object:
        time.sleep(1.0)
        opened.append(whole(*arguments))  # type: ignore[arg-type]
        return opened[0]

    monkeypatch.setattr(session, "_PATIENCE_S", 0.1)
    with Session(options(song)) as playing:
        until(lambda: playing.snapshot().position_s > 0.3)
        monkeypatch.setattr(session, "open_route", late)
        flaky.pulled = True
        until(lambda: playing.snapshot().state.startswith("reconnecting"))
        time.sleep(0.4)  # it is about to open
    until(lambda: opened)
    playing._supervisor.join(10.0)
    assert not playing.running and playing._stream is None
    assert playing.snapshot().reconnections == 0


@pytest.mark.parametrize("channels", [1, 2])
def test_a_source_goes_on_at_another_rate(song: Path, channels: int) -> None:
    source = FileSource(song)
    source.open()
    first, second = Ring(4096, 2), Ring(8192, channels)
    source.start(first, RATE)
    played = np.zeros((3000, 2), np.float32)
    until(lambda: first.fill >= len(played))
    first.read(played)
    source.start(second, 24000)
    assert source.total_frames == 3 * 24000
    rest: list[np.ndarray] = []
    block = np.zeros((1024, channels), np.float32)

    def take() -> bool:
        rest.append(block[: second.read(block)].copy())
        return source.finished and second.fill == 0

    until(take)
    sound = np.concatenate(rest)
    source.stop()
    assert source.error is None
    assert len(sound) == pytest.approx((3 * RATE - len(played)) / 2, abs=2)
    t = (len(played) + 2 * np.arange(len(sound))) / RATE
    error = np.abs(sound[:, 0] - 0.5 * np.sin(2 * np.pi * 300 * t))
    assert np.median(error) < 1e-3
    assert (error > 0.02).sum() < 100  # at the seam between what was made for the first ring and the rest


def test_a_source_whose_writer_is_silent_cannot_change_its_rate() -> None:
    class Silent(FeedSource):
        samplerate, channels, prefetch = RATE, 1, False

        def open(self) -> None:
            pass

        def blocks(self) -> Iterator[np.ndarray]:
            time.sleep(4.0)
            yield np.zeros((16, 1), np.float32)

    source = Silent()
    source.start(Ring(64, 1), RATE)
    with pytest.raises(RtsepError, match="cannot go on at another rate"):
        source.start(Ring(64, 1), 44100)
    source.stop()


def test_frames_that_a_slow_disk_has_lost_are_told(
    flaky: type[Flaky], song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FileSink.write

    def slow(sink: FileSink, block: np.ndarray) -> None:
        time.sleep(0.4)
        whole(sink, block)

    monkeypatch.setattr(FileSink, "write", slow)
    monkeypatch.setattr(stream, "_AHEAD_S", 0.1)
    with Session(options(song, output=str(tmp_path / "out.wav"))) as playing:
        until(lambda: playing.snapshot().position_s > 1.0)
        playing.stop()
    assert any("the output lacks" in line for line in playing.snapshot().messages)
