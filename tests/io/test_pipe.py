"""Pipes: WAV and raw in and out, in pieces of any size, and ends that go away."""

from __future__ import annotations

import io
import os
import threading
import time

import numpy as np
import pytest
import soundfile

from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError, UsageError
from rtsep.io.pipe import PipeSink, PipeSource


def sound(frames: int = 20000, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.9, 0.9, (frames, channels)).astype(np.float32)


def wav(x: np.ndarray, subtype: str, samplerate: int = 44100) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, x, samplerate, subtype, format="WAV")
    return file.getvalue()


def through(data: bytes, text: str = "", samplerate: int = 44100, channels: int = 2, piece: int = 997) -> np.ndarray:
    """What a source gives for `data`, written into its pipe in pieces."""
    reading, writing = os.pipe()

    def write() -> None:
        for start in range(0, len(data), piece):
            os.write(writing, data[start : start + piece])
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    source, ring, parts = PipeSource(text, reading), Ring(2048, channels), []
    try:
        source.open()
        source.start(ring, samplerate)
        block = np.zeros((256, channels), np.float32)
        while not (source.finished and ring.fill == 0):
            if count := ring.read(block):
                parts.append(block[:count].copy())
            else:
                time.sleep(0.0005)
    finally:
        source.stop()
        while os.read(reading, 1 << 16):
            pass
        writer.join()
        os.close(reading)
    if source.error:
        raise source.error
    return np.concatenate(parts)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_in_any_encoding(subtype: str, channels: int) -> None:
    data = wav(sound(channels=channels), subtype)
    wanted = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(through(data, channels=channels), wanted)


def test_wav_of_unknown_length_and_what_follows_the_sound() -> None:
    data = wav(sound(), "FLOAT")
    place = data.index(b"data") + 4
    endless = data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]
    np.testing.assert_array_equal(through(endless + b"abc"), sound())  # an incomplete frame is dropped
    np.testing.assert_array_equal(through(data + b"LIST\x04\x00\x00\x00abcd"), sound())


def test_raw() -> None:
    np.testing.assert_array_equal(through(sound().tobytes(), "float32:44100:2"), sound())
    ints = np.rint(sound(channels=1) * 32767).astype("<i2")
    np.testing.assert_array_equal(through(ints.tobytes(), "int16:44100:1", channels=1), ints.astype(np.float32) / 32768)


def test_rate_is_converted() -> None:
    got = through(wav(sound(), "FLOAT", 22050), samplerate=44100)
    assert abs(len(got) - 40000) <= 2


@pytest.mark.parametrize(
    ("data", "text", "message"),
    [
        (b"", "", "ends within its WAV header, after 0 bytes"),
        (b"hello, this is text" * 20, "", "is not WAV: it begins with .*-:float32:48000:2"),
        (wav(sound(channels=8), "PCM_16"), "", "has 8 channels"),
        (wav(sound(), "PCM_16")[:30], "", "ends within its WAV header"),
        (wav(sound(), "PCM_16")[:40044], "", "is truncated: 0.45 s are promised, 0.23 s came"),
        (np.full(4000, np.nan, np.float32).tobytes(), "float32:44100:2", "NaN or Inf"),
    ],
)
def test_bad_input(data: bytes, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        through(data, text)


@pytest.mark.parametrize("text", ["flat32", "float32:fast", "float32:48000:2:1", "float32:48000:9", "int16:100"])
def test_bad_raw_format(text: str) -> None:
    with pytest.raises(UsageError):
        PipeSource(text)


def test_a_pipe_goes_on_in_another_ring() -> None:
    reading, writing = os.pipe()
    source, first, second = PipeSource("float32:44100:2", reading), Ring(8192, 2), Ring(8192, 2)
    source.open()
    source.start(first, 44100)
    whole = sound(4000)

    def write() -> None:
        time.sleep(0.2)  # the source is amid its wait for the writer
        os.write(writing, whole.tobytes())
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    source.start(second, 44100)
    while not source.finished:
        time.sleep(0.001)
    source.stop()
    writer.join()
    os.close(reading)
    got = np.zeros((second.fill, 2), np.float32)
    second.read(got)
    np.testing.assert_array_equal(got, whole)


def test_stop_does_not_wait_for_a_silent_writer() -> None:
    reading, writing = os.pipe()
    source = PipeSource("float32", reading)
    source.open()
    source.start(Ring(1024, 2), 48000)
    began = time.monotonic()
    source.stop()
    source.stop()
    assert source.finished and time.monotonic() - began < 1.5
    os.close(reading)
    os.close(writing)


def sent(text: str) -> bytes:
    reading, writing = os.pipe()
    parts: list[bytes] = []

    def read() -> None:
        while part := os.read(reading, 5000):
            parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    sink, ring = PipeSink(text, writing), Ring(4096, 2)
    sink.open(44100, 2)
    sink.start(ring)
    done = 0
    while done < len(sound()):
        done += ring.write(sound()[done : done + 500])
    sink.stop()
    os.close(writing)
    reader.join()
    os.close(reading)
    assert sink.error is None
    return b"".join(parts)


def test_output_is_wav_or_raw() -> None:
    data, samplerate = soundfile.read(io.BytesIO(sent("")), dtype="float32")
    np.testing.assert_array_equal(data, sound())
    assert samplerate == 44100
    assert sent("float32") == sent("float32:44100:2") == sound().tobytes()
    np.testing.assert_allclose(np.frombuffer(sent("int16"), "<i2").reshape(-1, 2) / 32768, sound(), atol=1 / 65000)


@pytest.mark.parametrize("text", ["int16:48000", "float32:44100:1"])
def test_output_of_another_format_than_the_stream_is_refused(text: str) -> None:
    reading, writing = os.pipe()
    sink = PipeSink(text, writing)
    with pytest.raises(UsageError, match=f"-:{text} asks for .*, the stream has 44100 Hz and 2"):
        sink.open(44100, 2)
    os.close(reading)
    os.close(writing)


def test_a_reader_that_sleeps_does_not_hold_up_the_end() -> None:
    reading, writing = os.pipe()
    sink, ring = PipeSink("", writing), Ring(1 << 16, 2)
    sink.open(44100, 2)
    sink.start(ring)
    ring.write(sound())
    began = time.monotonic()
    sink.stop()
    assert time.monotonic() - began < 5 and "not read any more" in str(sink.error)
    os.close(reading)
    os.close(writing)


def test_a_reader_that_goes_away() -> None:
    reading, writing = os.pipe()
    sink, ring = PipeSink("", writing), Ring(4096, 2)
    sink.open(44100, 2)
    sink.start(ring)
    os.close(reading)
    deadline = time.monotonic() + 20
    done = 0
    while done < 50000 and time.monotonic() < deadline:  # the ring is drained all the same
        done += ring.write(sound()[:1000])
    sink.stop()
    os.close(writing)
    assert done >= 50000
    assert isinstance(sink.error, RtsepError) and "was closed by the program that read it" in str(sink.error)
