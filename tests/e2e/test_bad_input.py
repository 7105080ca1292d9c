"""Whatever is wrong with what the user gives: one clear line, the documented exit code, and nothing is left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.cli import main
from tests.conftest import need, need_onnx

RATE = 48000
QUICK = ("--separator", "passthrough", "--quiet")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; what a user has there beforehand is in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/none")
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "none-such")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    write(tmp_path / "song.wav", 0.1 * np.ones((RATE // 4, 2)))
    return tmp_path


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> None:
    soundfile.write(path, sound.astype(np.float32), rate, subtype="FLOAT")


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class Refusal:
    """Runs the command line and checks that it refuses."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._place, self._capsys = place, capsys

    def __call__(self, code: int, *arguments: str | Path, told: tuple[str, ...] = ()) -> str:
        before = entries(self._place)
        assert main.main([*map(str, arguments)]) == code, self._capsys.readouterr()
        caught = self._capsys.readouterr()
        assert caught.out == ""
        assert caught.err.startswith("rtsep: ") and caught.err.count("\n") == 1, caught.err
        assert len(caught.err) < 500
        for word in ("Traceback", "Error:", "None", "0x"):
            assert word not in caught.err
        for word in told:
            assert word in caught.err
        assert entries(self._place) == before
        return caught.err


@pytest.fixture
def refused(place: Path, capsys: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(place, capsys)


def truncated(path: Path) -> None:
    write(path, np.zeros((RATE, 2)))
    path.write_bytes(path.read_bytes()[:100_000])


def header_cut(path: Path) -> None:
    write(path, np.zeros((RATE, 2)))
    path.write_bytes(path.read_bytes()[:30])


def text(path: Path) -> None:
    path.write_text("this is no sound\n" * 100)


def empty(path: Path) -> None:
    path.touch()


def no_frames(path: Path) -> None:
    write(path, np.zeros((0, 2)))


def not_finite(path: Path) -> None:
    sound = np.zeros((RATE, 2))
    sound[RATE // 2, 1] = np.nan
    write(path, sound)


def eight_channels(path: Path) -> None:
    write(path, np.zeros((100, 8)))


def no_channel(path: Path) -> None:
    write(path, np.zeros((100, 1)))
    data = bytearray(path.read_bytes())
    data[22:24] = b"\0\0"
    path.write_bytes(data)


def wrong_rate(path: Path) -> None:
    write(path, np.zeros((100, 2)), 4000)


def folder(path: Path) -> None:
    path.mkdir()


BAD_FILES: list[tuple[Callable[[Path], None], str]] = [
    (truncated, "truncated"),
    (header_cut, "ends within"),
    (text, "text"),
    (empty, "empty"),
    (no_frames, "no sound"),
    (not_finite, "NaN"),
    (eight_channels, "8 channels"),
    (no_channel, "0 channels"),
    (wrong_rate, "4000 Hz"),
    (folder, "folder"),
]


@pytest.mark.parametrize(("make", "told"), BAD_FILES, ids=[make.__name__ for make, _ in BAD_FILES])
@pytest.mark.parametrize("command", ["run", "separate"])
def test_files_that_are_no_songs(place: Path, refused: Refusal, make, told: str, command: str) -> None:
    make(place / "bad.wav")
    if command == "separate":
        told = "no sound file" if make is folder else told
        refused(2, "separate", "bad.wav", "-o", "parts", *QUICK, told=("bad.wav", told))
    else:
        refused(2, "-i", "bad.wav", "-o", "out.wav", "--record", "take/one", *QUICK, told=("bad.wav", told))


def test_missing_files(refused: Refusal) -> None:
    refused(2, "-i", "sing.wav", "-o", "null", *QUICK, told=("sing.wav", "song.wav"))
    refused(2, "separate", "sing.wav", "-o", "parts", *QUICK, told=("sing.wav",))


def test_no_device_and_no_server(refused: Refusal) -> None:
    refused(3, "-i", "song.wav", "-o", "no such headset", *QUICK, told=("no such headset",))
    refused(3, "-i", "jack", "-o", "jack", *QUICK, told=("JACK",))
    need(shutil.which("pactl"), "PulseAudio is not installed")
    refused(3, "-i", "pulse:a", "-o", "null", *QUICK, told=("PulseAudio",))
    refused(3, "-i", "song.wav", "-o", "pulse:b", "--record", "take", *QUICK, told=("PulseAudio",))


def test_ambiguous_devices(refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtsep.io import pulse_lookup
    from rtsep.io.pulse_lookup import PulseDevice

    sinks = [PulseDevice(f"usb_{name}", f"USB {name}", 48000, 2) for name in ("left", "right")]
    monkeypatch.setattr(pulse_lookup, "list_pulse", lambda: ([], sinks))
    refused(3, "-i", "song.wav", "-o", "pulse:usb", *QUICK, told=("usb_left", "usb_right", "could be"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--samplerate", "4000"), "4000"),
        (("--samplerate", "400000"), "400000"),
        (("--samplerate", "fast"), "fast"),
        (("--blocksize", "0"), "0"),
        (("--blocksize", "100000"), "100000"),
        (("--hop", "300"), "300"),
        (("--hop", "4096"), "4096"),
        (("--profile", "lively"), "lively"),
        (("--vocals", "99"), "99"),
        (("--vocals", "loud"), "loud"),
        (("--music", "nan"), "nan"),
        (("--karaoke", "--acapella"), "--acapella"),
        (("--karaoke", "--vocals", "-3"), "--vocals"),
        (("--duration", "0"), "0"),
        (("--volume", "3"), "--volume"),
        (("--set", "width"), "width"),
        (("--set", "wide=1"), "wide"),
        (("--record-format", "mp4"), "mp4"),
        (("--device", "tpu"), "tpu"),
        (("dance",), "dance"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else None,
)
def test_options_that_are_not_possible(refused: Refusal, arguments: tuple[str, ...], told: str) -> None:
    refused(2, "-i", "song.wav", "-o", "out.wav", "--record", "take", "-q", "-s", "midside", *arguments, told=(told,))


@pytest.mark.parametrize("option", ["--separator", "--model"])
def test_separators_that_are_not_there(refused: Refusal, option: str) -> None:
    refused(2, "-i", "song.wav", "-o", "null", "-q", option, "koretsky", told=("koretsky", "koretzky"))


def test_unknown_keys_of_the_configuration(place: Path, refused: Refusal) -> None:
    (place / "mine.toml").write_text('[stream]\nsepparator = "midside"\n')
    told = ("mine.toml", "sepparator", "separator")
    refused(5, "-i", "song.wav", "-o", "null", "-q", "--config", "mine.toml", told=told)
    (place / "mine.toml").write_text('[stream\nseparator = "midside"\n')
    refused(5, "-i", "song.wav", "-o", "null", "-q", "--config", "mine.toml", told=("mine.toml",))
    (place / "mine.toml").write_text("[mix]\nvocals_db = 99\n")
    refused(5, "-i", "song.wav", "-o", "null", "-q", "--config", "mine.toml", told=("vocals_db",))
    refused(5, "-i", "song.wav", "-o", "null", "-q", "--config", "none.toml", told=("none.toml",))


@pytest.fixture
def model(place: Path) -> Path:
    need_onnx()
    from rtsep.separators.registry import create

    source = create("koretzky").folder  # type: ignore[attr-defined]
    shutil.copytree(source, place / "net")
    return place / "net"


def damage(model: Path) -> None:
    data = bytearray((model / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 255
    (model / "model.onnx").write_bytes(data)


def cut_and_signed(model: Path) -> None:
    import hashlib

    data = (model / "model.onnx").read_bytes()[:5000]
    (model / "model.onnx").write_bytes(data)
    manifest = model / "manifest.toml"
    lines = manifest.read_text().splitlines()
    digest = hashlib.sha256(data).hexdigest()
    manifest.write_text("\n".join(f'sha256 = "{digest}"' if line.startswith("sha256") else line for line in lines))


def unknown_tensor(model: Path) -> None:
    manifest = model / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('input = "magnitude"', 'input = "magnitudo"'))


def unnamed_tensor(model: Path) -> None:
    manifest = model / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('vad = "vad"\n', ""))


def unknown_kind(model: Path) -> None:
    manifest = model / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('"mid_magnitude"', '"mad_magnitude"'))


def unknown_manifest_key(model: Path) -> None:
    manifest = model / "manifest.toml"
    manifest.write_text("colour = 3\n" + manifest.read_text())


def no_file(model: Path) -> None:
    (model / "model.onnx").unlink()


def no_manifest(model: Path) -> None:
    (model / "manifest.toml").unlink()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (damage, "SHA-256"),
        (cut_and_signed, "model.onnx"),
        (unknown_tensor, "magnitud"),
        (unnamed_tensor, "vad"),
        (unknown_kind, "mad_magnitude"),
        (unknown_manifest_key, "colour"),
        (no_file, "model.onnx"),
        (no_manifest, "manifest.toml"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_models_that_are_not_whole(model: Path, refused: Refusal, spoil, told: str) -> None:
    spoil(model)
    arguments = ("-i", "song.wav", "-o", "out.wav", "--record", "take", "-q")
    refused(4, *arguments, "--separator", "./net", told=(told,))
    refused(4, "separate", "song.wav", "-o", "parts", "-q", "--separator", "./net", told=(told,))


def test_outputs_that_exist(place: Path, refused: Refusal) -> None:
    song = (place / "song.wav").read_bytes()
    refused(2, "-i", "test:noise", "-o", "song.wav", "--duration", "1", *QUICK, told=("song.wav exists", "--overwrite"))
    assert (place / "song.wav").read_bytes() == song
    (place / "parts" / "song").mkdir(parents=True)
    (place / "parts" / "song" / "accompaniment.wav").touch()
    refused(2, "separate", "song.wav", "-o", "parts", *QUICK, told=("exists", "--overwrite"))
    (place / "take").mkdir()
    (place / "take" / "mixture.wav").touch()
    refused(2, "-i", "song.wav", "-o", "out.wav", "--record", "take", *QUICK, told=("exists", "--overwrite"))
    (place / "stats.json").touch()
    refused(2, "-i", "song.wav", "-o", "out.wav", "--stats", "stats.json", *QUICK, told=("stats.json exists",))


def test_files_that_would_be_written_twice(refused: Refusal) -> None:
    for arguments, told in (
        (("-o", "take/vocals.wav", "--record", "take"), ("--output", "--record")),
        (("-o", "out.wav", "--stats", "out.wav"), ("--output", "--stats")),
        (("-o", "null", "--record", ".", "--stats", "mixture.wav"), ("--record", "--stats")),
    ):
        refused(2, "-i", "song.wav", *arguments, *QUICK, told=told)


def test_names_that_the_system_refuses(refused: Refusal) -> None:
    long = "s" * 300 + ".wav"
    refused(2, "-i", long, "-o", "null", *QUICK, told=(long[:9],))
    refused(2, "separate", long, "-o", "parts", *QUICK, told=(long[:9],))


def test_folders_that_cannot_be_written(place: Path, refused: Refusal) -> None:
    # Root may write anywhere: so folders that not even root can make.
    (place / "file").touch()
    refused(2, "-i", "song.wav", "-o", "none/out.wav", *QUICK, told=("none",))
    refused(2, "-i", "song.wav", "-o", "out.wav", "--record", "file/take", *QUICK, told=("file",))
    refused(2, "-i", "song.wav", "-o", "null", "--record", "/proc/take", *QUICK, told=("/proc/take",))
    refused(2, "separate", "song.wav", "-o", "file/parts", *QUICK, told=("file/parts",))
    refused(2, "separate", "song.wav", "-o", "/proc/parts", *QUICK, told=("/proc/parts",))
    refused(2, "-i", "song.wav", "-o", "./out.txt", "--record", "take", "-q", told=("out.txt",))


def test_inputs_and_outputs_that_are_none(refused: Refusal) -> None:
    refused(2, "-i", "null", "-o", "null", *QUICK, told=("null",))
    refused(2, "-i", "song.wav", "-o", "demo", *QUICK, told=("demo",))
    refused(2, "-i", "test:sinus", "-o", "null", *QUICK, told=("sinus", "sine"))
    refused(2, "-i", "test:sine:loud", "-o", "null", *QUICK, told=("loud",))
    refused(2, "-i", "-:float16", "-o", "null", *QUICK, told=("float16",))
    refused(2, "-i", "", "-o", "null", *QUICK)
