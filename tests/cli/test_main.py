"""The command line as a whole: help, exit codes, one line per mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtsep.cli import bench, main, options, run, separate
from rtsep.cli.views import view_for
from rtsep.config import Config, Stream
from rtsep.engine.stats import Stats
from rtsep.errors import UsageError
from tests.conftest import need_onnx

COMMANDS = (
    *("run", "separate", "evaluate", "compare", "devices", "models", "config", "doctor", "bench", "train", "export"),
    "completion",
)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line on stderr."""
    code = main.main(arguments)
    caught = capsys.readouterr()
    assert caught.err.startswith("rtsep: ")
    assert caught.err.count("\n") == 1
    assert "Traceback" not in caught.err
    return code, caught.err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom rtsep.cli.main import main\nmain(['--help'])\n"
        "print([m for m in ('numpy', 'numba', 'onnxruntime', 'sounddevice', 'scipy', 'torch', 'soundfile')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "--input" in done.stdout and "For example:" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "For example:" in text
    assert f"rtsep {'' if command == 'run' else command}" in text


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        for app in [main.app[command], *[main.app[command][name] for name in main.app[command] if name[0] != "-"]]:
            if app.default_command is not None:
                for argument in app.assemble_argument_collection(parse_docstring=True):
                    assert argument.parameter.help, f"{command} {argument.name}"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from rtsep import __version__

    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--inptu", "x"], ["--inptu", "--input"]),
        (["devies"], ["'devies' is not a command", "did you mean 'devices'?"]),
        (["--hop", "300"], ["--hop = 300", "512 or 1024"]),
        (["--hop", "many"], ["--hop", "many"]),
        (["--samplerate", "100"], ["--samplerate = 100", "8000 to 192000"]),
        (["--vocals", "20"], ["--vocals = 20", "up to 12"]),
        (["--vocals", "nan"], ["--vocals", "up to 12"]),
        (["--profile", "fast"], ["fast", "live", "monitor"]),
        (["--set", "width"], ["--set width", "NAME=VALUE"]),
        (["--duration", "0"], ["--duration 0"]),
        (["--karaoke", "--acapella"], ["--karaoke", "--acapella"]),
        (["--karaoke", "--vocals", "3"], ["--karaoke", "--vocals"]),
        (["--stats", "/no/such/folder/x.json"], ["/no/such/folder"]),
        (["--input"], ["--input"]),
        (["separate", "-o", "x"], ["IN"]),
        (["separate", "no-such.wav", "-o", "x"], ["no-such.wav"]),
        (["bench", "no-such"], ["no-such"]),
        (["completion", "tcsh"], ["tcsh", "bash"]),
        (["models", "kortezky"], ["kortezky", "midside"]),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    arguments: list[str],
    parts: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, message = fails(capsys, *arguments)
    assert code == 2
    for part in parts:
        assert part in message


def test_file_as_command_is_understood(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.touch()
    code, message = fails(capsys, str(song))
    assert code == 2
    assert f"--input {song}" in message


def test_wrong_configuration_is_code_5(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[stream]\nhopp = 1\n")
    for command in ([], ["config", "check"], ["config", "show"]):
        code, message = fails(capsys, *command, "--config", str(path))
        assert code == 5
        assert "did you mean 'hop'?" in message
    path.write_text("[separators.midside]\nwidht = 0.2\n")
    code, message = fails(capsys, "config", "check", "--config", str(path))
    assert code == 5
    assert "did you mean 'width'?" in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[stream]\nseparator = "koretzky"\nhop = 128\n', "koretzky runs at a hop of 512 frames only, not 128"),
        ('[stream]\nseparator = "midside"\n[mix]\ndrums_db = -3\n', "midside does not tell it apart"),
        ('[stream]\nseparator = "midside"\nhop = 128\n', ""),
    ],
)
def test_config_check_knows_what_the_separator_can(
    text: str, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    if not told:
        assert main.main(["config", "check", "--config", str(path)]) == 0
        return
    if "koretzky" in text:
        need_onnx()
    code, message = fails(capsys, "config", "check", "--config", str(path))
    assert code == 5
    assert told in message


def test_config_init_writes_what_check_takes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c.toml"
    assert main.main(["config", "init", "--config", str(path)]) == 0
    path.write_text(path.read_text().replace("# separator =", 'separator = "midside"'))
    assert main.main(["config", "check", "--config", str(path)]) == 0
    assert main.main(["config", "show", "--config", str(path)]) == 0
    assert 'separator = "midside"' in capsys.readouterr().out
    code, message = fails(capsys, "config", "init", "--config", str(path))
    assert code == 5
    assert "--overwrite" in message


def test_stats_file_is_not_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    path.write_text("mine")
    code, message = fails(capsys, "--stats", str(path))
    assert code == 2
    assert "--overwrite" in message
    assert path.read_text() == "mine"


def test_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr(bench, "programs", broken)
    code, message = fails(capsys, "bench")
    assert code == 1
    assert "ZeroDivisionError: oh no" in message
    monkeypatch.setenv("RTSEP_DEBUG", "1")
    assert main.main(["bench"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "programs", interrupted)
    assert main.main(["bench"]) == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*COMMANDS, "--input" if shell != "fish" else "input"):
        assert word in script


def test_models_lists_and_describes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["models"]) == 0
    assert "midside" in capsys.readouterr().out
    assert main.main(["models", "midside"]) == 0
    text = capsys.readouterr().out
    assert "width" in text and "default" in text


def test_settings_come_over_the_configuration() -> None:
    chosen = Config(stream=Stream(separator="koretzky"), separators={"koretzky": {"threshold": 0.3, "gate": True}})
    assert options.settings(chosen, ["threshold=0.5"]) == {"threshold": "0.5", "gate": "True"}


def test_songs_are_found_once_and_clashes_named(tmp_path: Path) -> None:
    for name in ("a.wav", "b.FLAC", "notes.txt", "deep/c.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    parts = tmp_path / "parts"
    found = separate.find_songs([tmp_path, tmp_path / "a.wav"], parts)
    assert [song.name for song in found] == ["a.wav", "b.FLAC", "c.ogg"]
    assert separate.find_songs([tmp_path / "notes.txt"], parts)  # named by hand: the reader decides
    (tmp_path / "deep" / "a.ogg").touch()
    with pytest.raises(UsageError, match="both be written"):
        separate.find_songs([tmp_path], parts)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no sound file"):
        separate.find_songs([tmp_path / "empty"], parts)


def test_parts_of_an_earlier_run_are_no_songs(tmp_path: Path) -> None:
    for name in ("a.wav", "a/vocals.wav", "a/accompaniment.flac", "a/live/vocals.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = separate.find_songs([tmp_path], tmp_path)
    assert set(found) == {tmp_path / "a.wav", tmp_path / "a" / "live" / "vocals.wav"}
    assert separate.find_songs([tmp_path / "a" / "vocals.wav"], tmp_path)  # named by hand


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_text_on_a_full_disk_is_one_line_and_code_1() -> None:
    for arguments in (["models"], ["--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-m", "rtsep", *arguments], stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr) == (1, b"rtsep: the system refused: No space left on device\n")


def test_places_that_were_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.places("a", "b") == ("a", "b", "")
    assert run.places("a", None)[:2] == ("a", "speakers")
    assert run.places(None, "b")[:2] == ("mic", "b")


def test_the_demo_replaces_its_own_recording_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    assert run._demo_may_write(folder)
    (folder / "vocals.wav").touch()
    assert run._demo_may_write(folder)
    (folder / "thesis.txt").touch()
    assert not run._demo_may_write(folder)
    (tmp_path / "vocals.wav").touch()  # whatever separated that
    assert not run._demo_may_write(tmp_path)


def test_quiet_tells_of_sound_that_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    view = view_for("null", quiet=True, json=False)
    view.end(Stats(messages=("a note", "the recording stopped: x"), losses=("the recording stopped: x",)))
    assert capsys.readouterr() == ("", "rtsep: the recording stopped: x\n")


def test_no_text_goes_into_the_sound() -> None:
    assert view_for("-", quiet=False, json=True).stream is sys.stderr
    assert view_for("-:int16", quiet=False, json=False).stream is sys.stderr
    assert view_for("null", quiet=False, json=True).stream is sys.stdout
