"""The live stream, ticked by hand: exact delay, exact sums, the same as offline, at any period."""

from pathlib import Path

import numpy as np
import pytest

from rtsep.engine.chain import Chain
from rtsep.engine.stream import Controls, Stream
from rtsep.errors import ModelError
from rtsep.separators.registry import create
from rtsep.spec import StreamSpec
from tests.engine.hosts import run
from tests.separators import tiny


def noise(frames: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


def snr_db(signal: np.ndarray, other: np.ndarray) -> float:
    return float(
        10 * np.log10(np.mean(signal.astype(float) ** 2) / (np.mean((signal.astype(float) - other) ** 2) + 1e-30))
    )


@pytest.mark.parametrize(
    "hop, blocksize", [(64, 64), (128, 128), (256, 256), (256, 64), (256, 1024), (512, 128), (1024, 256), (256, 480)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_passthrough_is_the_delayed_input(hop: int, blocksize: int, channels: int) -> None:
    sound = noise(40 * 1024, channels)
    out, stream = run(sound, create("passthrough"), hop=hop, blocksize=blocksize)
    delay = stream.budget.total_frames
    assert snr_db(np.broadcast_to(sound[:-delay], out[delay:].shape), out[delay:]) > 120
    assert not out[: delay - hop].any()
    assert stream.xruns == (0, 0)


@pytest.mark.parametrize("samplerate", [16000, 44100, 96000])
def test_any_rate(samplerate: int) -> None:
    sound = noise(20000, 2)
    out, stream = run(sound, create("passthrough"), samplerate=samplerate)
    delay = stream.budget.total_frames
    assert snr_db(sound[:-delay], out[delay:]) > 120


@pytest.mark.parametrize("profile_hop, frames", [(256, 512), (128, 256)])
def test_latency_of_the_profiles_is_two_hops(profile_hop: int, frames: int) -> None:
    sound = np.zeros((8192, 2), np.float32)
    sound[1000] = 1.0
    out, stream = run(sound, create("passthrough"), samplerate=44100, hop=profile_hop, blocksize=64)
    assert int(np.argmax(np.abs(out[:, 0]))) - 1000 == stream.budget.total_frames == frames


def test_lookahead_adds_to_the_latency() -> None:
    sound = np.zeros((16384, 2), np.float32)
    sound[1000] = 1.0
    out, stream = run(sound, create("delay:5"), hop=256)
    assert stream.budget.lookahead_frames == 5 * 256
    assert int(np.argmax(np.abs(out[:, 0]))) - 1000 == stream.budget.total_frames == 7 * 256


def test_variable_periods_keep_the_latency() -> None:
    sound = noise(60000, 2)
    out, stream = run(sound, create("passthrough"), blocksize=700, periods=[16, 700, 1, 333, 512, 129])
    delay = stream.budget.total_frames
    assert snr_db(sound[:-delay], out[delay:]) > 120
    assert stream.xruns == (0, 0)


def test_live_equals_offline_and_repeats_to_the_bit() -> None:
    sound = noise(30000, 2)
    sound[:, 1] = 0.5 * sound[:, 0] + 0.5 * sound[:, 1]
    controls = Controls(vocals_db=-np.inf)
    out, stream = run(sound, create("midside"), hop=256, controls=controls)
    again, _ = run(sound, create("midside"), hop=256, blocksize=64, controls=controls)
    chain = Chain(create("midside"), StreamSpec(48000, 2, 256))
    music = np.concatenate(
        [chain.process(np.ascontiguousarray(sound[i : i + 256].T))[1].T.copy() for i in range(0, 29952, 256)]
    )
    delay = stream.budget.total_frames
    shift = delay - chain.latency
    assert np.array_equal(out[shift : shift + 29000], music[:29000])
    assert np.array_equal(out, again)


@pytest.mark.parametrize("vocals_db, music_db", [(0.0, 0.0), (-np.inf, 0.0), (0.0, -np.inf), (-6.0, 3.0)])
def test_faders_are_gains_on_two_parts_that_add_up(vocals_db: float, music_db: float) -> None:
    sound = noise(20000, 2)
    both, stream = run(sound, create("midside"), controls=Controls())
    vocals, _ = run(sound, create("midside"), controls=Controls(music_db=-np.inf))
    music, _ = run(sound, create("midside"), controls=Controls(vocals_db=-np.inf))
    mixed, _ = run(sound, create("midside"), controls=Controls(vocals_db=vocals_db, music_db=music_db))
    delay = stream.budget.total_frames
    assert snr_db(sound[:-delay], (vocals + music)[delay:]) > 120
    assert snr_db(sound[:-delay], both[delay:]) > 120
    expected = 10 ** (vocals_db / 20) * vocals + 10 ** (music_db / 20) * music
    assert np.abs(mixed - expected)[delay:].max() < 1e-6 or np.abs(expected).max() > 1.0


def test_bypass_is_the_delayed_input_to_the_bit() -> None:
    sound = noise(20000, 2)
    out, stream = run(sound, create("midside"), controls=Controls(vocals_db=-np.inf, bypass=True))
    delay = stream.budget.total_frames
    assert np.array_equal(out[delay + 1024 :], sound[1024:-delay])


def test_nan_input_becomes_silence_and_is_counted() -> None:
    sound = noise(8192, 2)
    sound[3000:3010] = np.nan
    sound[3010] = np.inf, -1e20
    out, stream = run(sound, create("passthrough"))
    assert np.isfinite(out).all()
    assert stream.context.words[5] == 22


def test_a_separator_that_fails_to_prepare_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    separator = create("passthrough")

    def broken(spec: StreamSpec) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr(separator, "prepare", broken)
    with pytest.raises(ModelError, match="separator passthrough cannot be prepared: ZeroDivisionError: oh no"):
        run(noise(100, 2), separator)


@pytest.mark.parametrize("device_rate", [22050, 96000])
def test_a_separator_of_fixed_rate_runs_on_any_device(device_rate: int) -> None:
    separator = create("passthrough")
    separator.supported_samplerates = lambda: (44100, 48000)  # type: ignore[method-assign]
    t = np.arange(device_rate) / device_rate
    sound = np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 1000 * t)], 1).astype(np.float32) * 0.5
    out, stream = run(sound, separator, samplerate=device_rate, hop=256)
    assert stream.spec.samplerate in (44100, 48000)
    delay = stream.budget.total_frames
    middle = slice(delay + 2000, -2000)
    shifted = np.roll(sound, delay, axis=0)
    assert snr_db(shifted[middle], out[middle]) > 60
    assert stream.xruns == (0, 0)


def test_stop_is_harmless_twice() -> None:
    _, stream = run(noise(1024, 1), create("passthrough"))
    stream.stop()
    assert isinstance(stream, Stream)


def test_a_net_that_looks_ahead_is_late_by_what_is_printed(tmp_path: Path) -> None:
    folder = tiny.build_stereo(tmp_path, mid=1.0, side=0.5)
    for old, new in (
        ("window = 256", "window = 2048"),
        ("hop = 64", "hop = 256"),
        ("synthesis = 128", "synthesis = 512"),
    ):
        tiny.edit(folder, old, new)
    tiny.edit(folder, "lookahead = 0", "lookahead = 12")
    sound = np.zeros((16384, 2), np.float32)
    sound[1000] = 1.0
    out, stream = run(sound, create(str(folder), device="cpu"), samplerate=44100, hop=256, blocksize=256)
    assert stream.budget.lookahead_frames == 12 * 256
    assert int(np.argmax(np.abs(out[:, 0]))) - 1000 == stream.budget.total_frames == 14 * 256
    assert stream.budget.total_frames / 44.1 <= 93
