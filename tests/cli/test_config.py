"""The configuration file: what it takes, and how it says no."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rtsep import config
from rtsep.errors import ConfigError, UsageError


def load(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return config.load(path)


def test_values_replace_defaults_and_the_rest_stays(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        '[stream]\ninput = "mic"\nhop = 512\n'
        "[mix]\nvocals_db = -inf\nmusic_db = 3\n[separators.midside]\nwidth = 0.2\n",
    )
    assert (found.stream.input, found.stream.hop, found.stream.profile) == ("mic", 512, "live")
    assert (found.mix.vocals_db, found.mix.music_db) == (-math.inf, 3.0)
    assert found.separators == {"midside": {"width": 0.2}}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[stream]\nhopp = 256", ["stream.hopp", "did you mean 'hop'?", "samplerate"]),
        ("[strem]\nhop = 256", ["strem", "did you mean 'stream'?", "mix"]),
        ("[mix]\nvocal_db = 0", ["mix.vocal_db", "did you mean 'vocals_db'?"]),
        ("[stream]\nhop = 300", ["stream.hop = 300", "128, 256, 512 or 1024"]),
        ("[stream]\nsamplerate = 4000", ["samplerate = 4000", "8000 to 192000"]),
        ("[stream]\nsamplerate = 44100.5", ["samplerate = 44100.5", "a whole number"]),
        ("[stream]\nblocksize = 8", ["blocksize = 8", "16 to 4096"]),
        ('[stream]\nprofile = "fast"', ['profile = "fast"', "live, monitor or karaoke"]),
        ("[stream]\ninput = 3", ["stream.input = 3", "a text"]),
        ("[mix]\nvocals_db = 13", ["vocals_db = 13", "up to 12"]),
        ("[mix]\nvocals_db = nan", ["vocals_db = nan", "up to 12"]),
        ("[mix]\nbypass = 1", ["bypass = 1", "true or false"]),
        ('[record]\nformat = "mp3"', ['format = "mp3"', "wav or flac"]),
        ("stream = 3", ["stream must be a table"]),
        ("[separators]\nwidth = 0.2", ["[separators.NAME]"]),
        ("[stream", ["not TOML"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "config.toml") in message
    for part in parts:
        assert part in message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        config.load(tmp_path / "none.toml")
    assert config.load() == config.Config()  # the default file need not exist


def test_default_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "rtsep").mkdir()
    (tmp_path / "rtsep" / "config.toml").write_text('[stream]\nseparator = "midside"\n')
    assert config.load().stream.separator == "midside"


def test_options_come_before_the_file(tmp_path: Path) -> None:
    base = load(tmp_path, '[stream]\ninput = "mic"\nhop = 512\n')
    merged = config.override(base, {"stream.hop": 128, "stream.input": None, "mix.vocals_db": -6.0}, str)
    assert (merged.stream.input, merged.stream.hop, merged.mix.vocals_db) == ("mic", 128, -6.0)
    with pytest.raises(UsageError, match=r"--hop = 100 is not possible"):
        config.override(base, {"stream.hop": 100}, lambda key: "--hop", UsageError)


def test_written_file_reads_back(tmp_path: Path) -> None:
    assert load(tmp_path, config.to_toml(config.Config(), comments=True)) == config.Config()
    text = '[stream]\ninput = "a \\"b\\" \\\\ c"\n[mix]\nvocals_db = -inf\n[separators.midside]\nwidth = 0.2\n'
    text += '[separators."invert:my song.wav"]\npolarity = "a\\nb"\n'
    full = load(tmp_path, text)
    for comments in (False, True):
        assert load(tmp_path, config.to_toml(full, comments=comments)) == full


def test_written_file_explains_every_key() -> None:
    text = config.to_toml(config.Config(), comments=True)
    for section, kind in config.SECTIONS.items():
        for field in kind.__struct_fields__:
            assert f"\n# {field} =" in text
            assert config.describe(section, field) in text
