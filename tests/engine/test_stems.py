"""Stems of the music: exact sums, known masks, faders as plain arithmetic, recording, refusals, failures."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.cli import main
from rtsep.engine import worker
from rtsep.engine.chain import Chain
from rtsep.engine.offline import separate_file, split, split_stems
from rtsep.engine.options import SessionOptions
from rtsep.engine.session import Session
from rtsep.engine.stream import Controls, Stream
from rtsep.errors import UsageError
from rtsep.io.null import NullDriver
from rtsep.io.signals import SignalSource
from rtsep.separators.base import Mask, Separator, Spectrum
from rtsep.separators.registry import create
from rtsep.spec import StreamSpec
from tests.engine.bands import Bands
from tests.engine.hosts import ArrayDriver, run
from tests.engine.test_stream import noise, snr_db
from tests.faults import Faulty, FaultyInC

pytestmark = pytest.mark.realtime

INF = float("inf")
KINDS = pytest.mark.parametrize("mask_kind", ["channels", "mid_side", "complex"])


class Wild(Bands):
    """Masks of noise from -1 to 2, other ones at each hop."""

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        self.draw = getattr(self, "draw", None) or np.random.default_rng(0)
        mask[:] = self.draw.uniform(-1, 2, mask.shape)


@pytest.fixture
def bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every separator is `Bands`."""
    monkeypatch.setattr("rtsep.engine.session.create", lambda name, device: Bands())
    monkeypatch.setattr("rtsep.engine.offline.create", lambda name, device: Bands())


@KINDS
@pytest.mark.parametrize("channels", [1, 2])
def test_each_stem_is_what_its_mask_takes(mask_kind: str, channels: int) -> None:
    """The oracle is a separator that takes the same mask for its vocals."""
    sound = np.ascontiguousarray(noise(20000, channels).T)
    parts = split_stems(Bands(mask_kind=mask_kind), sound, 48000)
    for name in ("vocals", "drums", "bass"):
        alone, _ = split(Bands(name, (), mask_kind), sound, 48000)
        assert np.array_equal(parts[name], alone)
        assert alone.std() > 0.02
    assert parts["other"].std() > 0.02
    assert snr_db(sound, sum(parts.values())) > 120


@pytest.mark.parametrize("channels", [1, 2])
def test_parts_sum_to_the_delayed_input_at_any_mask(channels: int) -> None:
    sound = noise(12800, channels)
    chain, summed = Chain(Wild(), StreamSpec(48000, channels, 256)), []
    for i in range(0, len(sound), 256):
        vocals, music = chain.process(np.ascontiguousarray(sound[i : i + 256].T))
        drums, bass = chain.memory.stems
        summed.append((vocals + drums + bass + (music - drums - bass)).T)
    delay = chain.latency
    assert snr_db(sound[:-delay], np.concatenate(summed)[delay:]) > 100


@pytest.mark.parametrize("blocksize", [64, 256, 480])
def test_each_stem_live_is_the_one_offline(blocksize: int) -> None:
    sound = noise(20000, 2)
    parts = split_stems(Bands(), np.ascontiguousarray(sound.T), 48000)
    for name in ("drums", "bass", "other"):
        levels = {part: 0.0 if part == name else -INF for part in ("drums", "bass", "other")}
        out, stream = run(sound, Bands(), blocksize=blocksize, controls=Controls(vocals_db=-INF, parts_db=levels))
        delay = stream.budget.total_frames
        assert np.abs(out[delay:] - parts[name].T[:-delay]).max() < 1e-6


@pytest.mark.parametrize(
    ("vocals", "music", "drums", "bass", "other"),
    [
        (0, 0, -INF, 0, 0),
        (0, 0, 0, -INF, -INF),
        (-INF, 3, -3, -6, 0),
        (-6, -6, 6, 6, 6),
        (0, -INF, 12, 12, 12),
        (-20, -20, 12, -INF, 1),
    ],
)
def test_faders_are_gains_on_parts_that_add_up(
    vocals: float, music: float, drums: float, bass: float, other: float
) -> None:
    sound = 0.3 * noise(12000, 2)
    parts = split_stems(Bands(), np.ascontiguousarray(sound.T), 48000)
    levels = {"drums": drums, "bass": bass, "other": other}
    out, stream = run(sound, Bands(), controls=Controls(vocals, music, parts_db=levels))
    gain = {name: 10 ** (level / 20) for name, level in {**levels, "vocals": vocals, "music": music}.items()}
    band = sum(gain[name] * parts[name] for name in levels)
    wanted, delay = gain["vocals"] * parts["vocals"] + gain["music"] * band, stream.budget.total_frames
    assert np.abs(wanted).max() < 0.95, "the limiter rests"
    assert np.abs(out[delay:] - wanted.T[:-delay]).max() < 2e-6


def test_without_the_drums_exactly_the_drums_are_missing() -> None:
    sound = 0.5 * noise(12000, 2)
    drums = split_stems(Bands(), np.ascontiguousarray(sound.T), 48000)["drums"]
    out, stream = run(sound, Bands(), controls=Controls(parts_db={"drums": -INF}))
    delay = stream.budget.total_frames
    assert snr_db((sound - drums.T)[:-delay], out[delay:]) > 120


def test_faders_at_0_db_are_the_same_bits_as_no_stems() -> None:
    sound, controls = noise(12000, 2), Controls(-6.0, -3.0)
    with_stems, _ = run(sound, Bands(), controls=controls)
    without, _ = run(sound, Bands(stems=()), controls=controls)
    assert np.array_equal(with_stems, without)


def test_a_fader_moves_in_a_straight_line() -> None:
    """A low tone, which is all bass: its level falls evenly, and with it nothing clicks."""
    t = np.arange(48000) / 48000
    sound = np.repeat(0.5 * np.sin(2 * np.pi * 100 * t)[:, None], 2, 1).astype(np.float32)
    driver = ArrayDriver(48000, 256)
    stream = Stream(driver, None, Bands(), 256, Controls())
    stream.start()
    try:
        first = driver.play(sound[:24064], [256])
        stream.part_ramps["bass"].set_db(-INF)
        out = np.concatenate([first, driver.play(sound[24064:], [256])])
    finally:
        stream.stop()
    delay = stream.budget.total_frames
    place = np.arange(len(out))
    gain = np.clip(1 - (place - 24064) / 2400, 0, 1)[:, None]
    wanted = np.zeros_like(sound)
    wanted[delay:] = sound[:-delay]
    steady = slice(4096, None)  # once the window is full of the tone
    begun = int(np.flatnonzero(np.abs(out - wanted).max(1)[steady] > 1e-2)[0]) + 4096
    assert abs(begun - 24064) < 1024
    assert np.abs(np.diff(out[steady], axis=0)).max() < 1.2 * 0.5 * 2 * np.pi * 100 / 48000
    assert np.abs(out[24064 + 4096 :]).max() < 2e-3
    assert np.abs(out[24064:26000] - (gain * wanted)[24064:26000]).max() < 0.15


class Asked(Bands):
    """Writes down at which hops its stems were wanted, and leaves them out where they were not."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[bool] = []

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        self.wanted.append(bool(self.stems_wanted[0]))
        mask[:] = self.mask
        if not self.wanted[-1]:
            mask[len(spectrum) :] = 0.0


@pytest.mark.parametrize(("level", "wanted"), [(0.0, False), (-INF, True), (-3.0, True)])
def test_stems_are_asked_for_only_where_their_faders_are_moved(level: float, wanted: bool) -> None:
    sound, asked, controls = noise(12000, 2), Asked(), Controls(-6.0, -3.0, parts_db={"other": level})
    found, _ = run(sound, asked, controls=controls)
    assert set(asked.wanted) == {wanted} and len(asked.wanted) > 40
    always, _ = run(sound, Bands(), controls=controls)
    assert np.array_equal(found, always)


def test_stems_are_asked_for_while_a_fader_moves_or_a_recording_runs() -> None:
    sound, asked = noise(256 * 120, 2), Asked()
    driver = ArrayDriver(48000, 256)
    stream = Stream(driver, None, asked, 256, Controls())
    stream.start()
    changes = {
        10: lambda: stream.part_ramps["bass"].set_db(-INF),
        30: lambda: stream.part_ramps["bass"].set_db(0.0),
        60: lambda: setattr(stream, "recording", True),
        80: lambda: setattr(stream, "recording", False),
    }
    for at in range(120):
        changes.get(at, lambda: None)()
        driver.play(sound[256 * at : 256 * (at + 1)], [256])
        deadline = time.monotonic() + 10
        while stream.words[worker.HOPS] <= at and time.monotonic() < deadline:
            time.sleep(0.001)
    stream.stop()
    faded = asked.wanted.index(False, 30)
    assert faded < 50, "the fader has come back to 0 dB"
    assert asked.wanted[:120] == [10 <= hop < faded or 60 <= hop < 80 for hop in range(120)]


@pytest.mark.usefixtures("bands")
def test_recording_of_stems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "song.wav", rng.uniform(-0.4, 0.4, (20000, 2)).astype(np.float32), 48000, "FLOAT")
    arguments = ["--input", str(tmp_path / "song.wav"), "--output", str(tmp_path / "out.wav"), "--drums", "-inf"]
    assert main.main([*arguments, "--separator", "bands", "--record", str(tmp_path / "take"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["parts_db"] == {"drums": None, "bass": 0.0, "other": 0.0}
    names = ("mixture", "vocals", "accompaniment", "drums", "bass", "other")
    assert {path.name for path in (tmp_path / "take").iterdir()} == {f"{name}.wav" for name in names}
    found = {name: soundfile.read(tmp_path / "take" / f"{name}.wav")[0] for name in names}
    assert snr_db(found["accompaniment"], found["drums"] + found["bass"] + found["other"]) > 120
    assert snr_db(found["mixture"], found["accompaniment"] + found["vocals"]) > 120
    assert min(part.std() for part in found.values()) > 0.01
    out = soundfile.read(tmp_path / "out.wav")[0]
    rest, late = found["mixture"] - found["drums"], 256
    assert snr_db(rest[late : late + len(out)], out) > 100


@pytest.mark.usefixtures("bands")
@pytest.mark.parametrize("samplerate", [48000, 22050])
def test_files_of_stems(tmp_path: Path, samplerate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if samplerate == 22050:  # the stems are converted back together with the vocals
        monkeypatch.setattr(Bands, "supported_samplerates", lambda self: (48000,))
    sound = np.random.default_rng(1).uniform(-0.4, 0.4, (30000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "song.wav", sound, samplerate, "FLOAT")
    paths = separate_file(tmp_path / "song.wav", tmp_path, separator="bands")
    assert [path.stem for path in paths] == ["vocals", "accompaniment", "drums", "bass", "other"]
    vocals, music, *parts = (soundfile.read(path, dtype="float32")[0] for path in paths)
    assert {part.shape for part in (vocals, music, *parts)} == {sound.shape}
    assert snr_db(sound, vocals + music) > 120
    assert snr_db(music, sum(parts)) > 120
    if samplerate == 48000:
        wanted = split_stems(Bands(), np.ascontiguousarray(sound.T), 48000)
        for name, part in zip(("drums", "bass", "other"), parts, strict=True):
            assert np.abs(part - wanted[name].T).max() < 1e-6


@pytest.mark.parametrize("option", ["--drums", "--bass", "--other"])
def test_a_separator_without_stems_refuses_their_faders(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--input", "test:noise", "--output", "null", "--separator", "midside", "--duration", "0.1"]
    assert main.main([*arguments, option, "-6"]) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert f"{option} is not possible: separator midside" in told


@pytest.mark.usefixtures("bands")
def test_faders_of_a_session() -> None:
    session = Session(SessionOptions("demo", "null", parts_db={"drums": -6.0}))
    assert (session.get("drums_db"), session.get("other_db")) == (-6.0, 0.0)
    session.set("bass_db", "-inf")
    assert session.get("bass_db") == -INF
    for name, value, why in (("bass_db", 13, "12 dB"), ("bas_db", 0, "bass_db")):
        with pytest.raises(UsageError, match=why):
            session.set(name, value)
    with pytest.raises(UsageError, match="drums_db = 13"):
        Session(SessionOptions("demo", "null", parts_db={"drums": 13.0}))


def test_configured_faders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text("[mix]\ndrums_db = 13\n")
    assert main.main(["--config", str(tmp_path / "c.toml"), "--input", "test:noise", "--output", "null"]) == 5
    assert "mix.drums_db = 13" in capsys.readouterr().err


class Stems(Faulty):
    """Vocals and each stem get a half of all."""

    stems = ("drums", "bass")


class StemsInC(FaultyInC):
    """The same with a compiled form."""

    stems = ("drums", "bass")


def live(separator: Separator) -> Stream:
    source = SignalSource("noise")
    source.open()
    stream = Stream(NullDriver(48000, 256), source, separator, 256, Controls(parts_db={"drums": -INF}))
    stream.feed()
    stream.start()
    return stream


def until(stream: Stream, condition) -> None:  # type: ignore[no-untyped-def]
    limit = time.monotonic() + 10
    while not condition(stream) and time.monotonic() < limit:
        time.sleep(0.01)
    assert condition(stream)


@pytest.mark.parametrize("kind", [Stems, StemsInC])
def test_a_mask_that_is_not_finite_is_bypassed_and_the_last_one_held(kind: type[Faulty]) -> None:
    stream = live(kind("nan", first=40, count=1))
    try:
        until(stream, lambda s: s.inference.fault)
        until(stream, lambda s: not s.inference.fault and s.words[worker.MASKED] > 300)
        assert stream.chain.memory.masks.shape[1] == 6
        assert (stream.chain.memory.masks == 0.5).all()
        assert stream.inference.faults == 1
    finally:
        stream.stop()


@pytest.mark.parametrize("kind", [Stems, StemsInC])
def test_while_it_rests_no_stem_is_told_apart(kind: type[Faulty]) -> None:
    stream = live(kind("nan", first=10**9))
    try:
        stream.rest(True)
        until(stream, lambda s: not s.chain.memory.masks[:, 2:].any() and s.words[worker.MASKED] > 40)
        assert stream.chain.memory.masks[:, :2].any()
        stream.rest(False)
        until(stream, lambda s: (s.chain.memory.masks == 0.5).all())
    finally:
        stream.stop()


def test_a_late_mask_holds_the_stems_too() -> None:
    stream = live(Stems("stall", first=50, seconds=0.1))
    try:
        until(stream, lambda s: s.words[worker.LATE] >= 5)
        until(stream, lambda s: s.words[worker.MASKED] >= s.words[worker.HOPS] > 200)
        assert (stream.chain.memory.masks == 0.5).all()
        assert not stream.inference.fault
    finally:
        stream.stop()


def test_separators_without_stems_carry_none() -> None:
    chain = Chain(create("midside"), StreamSpec(48000, 2, 256))
    assert chain.memory.stems.shape == (0, 2, 256)
    assert chain.memory.masks.shape[1] == 2
    assert create("midside").parts == ()
    assert all(a.shape == b.shape for a, b in pairwise([chain.memory.vocals, chain.memory.music]))
