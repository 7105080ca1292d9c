"""The configuration: frozen, typed, from a TOML file, with every key checked.

The same checks serve the options of the command line: `override` merges them over a file's values. [main thread]
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from rtsep.errors import ConfigError, RtsepError, nearest

Value = str | float | bool


class Stream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the sound comes from, what happens to it, and where it goes."""

    input: Annotated[
        str | None, Meta(description="mic, a device's name or number, a file, jack, pulse:NAME, demo, -")
    ] = None
    output: Annotated[str | None, Meta(description="speakers, a device's name or number, a file, jack, null, -")] = None
    separator: Annotated[
        str | None,
        Meta(
            description="a name from `rtsep models`, the path of a model folder, or auto: the largest of the profile "
            "that the machine is fast enough for; the profile's own model if unset"
        ),
    ] = None
    profile: Annotated[
        Literal["live", "monitor", "karaoke"],
        Meta(description="live: hop 256; monitor: hop 128, half the latency, twice the cost; karaoke: looks ahead"),
    ] = "live"
    hop: Annotated[
        Literal[16, 32, 64, 128, 256, 512, 1024] | None,
        Meta(
            description="frames from one spectrum to the next; the latency is twice that; instead of the profile's; "
            "a net takes its own only"
        ),
    ] = None
    samplerate: Annotated[
        Annotated[int, Meta(ge=8000, le=192000)] | None,
        Meta(description="to ask of the device, in Hz; its own if unset"),
    ] = None
    blocksize: Annotated[
        Annotated[int, Meta(ge=16, le=4096)] | None,
        Meta(description="frames per device callback; the device's if unset"),
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Meta(description="where the net runs; auto: on CUDA if it is there")
    ] = "auto"


class Mix(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The faders at start."""

    vocals_db: Annotated[float, Meta(le=12.0, description="level of the voice in dB; -inf is silence")] = 0.0
    music_db: Annotated[float, Meta(le=12.0, description="level of the music in dB; -inf is silence")] = 0.0
    drums_db: Annotated[
        Annotated[float, Meta(le=12.0)] | None,
        Meta(description="level of the drums in the music in dB; only with a separator that tells stems apart"),
    ] = None
    bass_db: Annotated[
        Annotated[float, Meta(le=12.0)] | None,
        Meta(description="level of the bass in the music in dB; only with a separator that tells stems apart"),
    ] = None
    other_db: Annotated[
        Annotated[float, Meta(le=12.0)] | None,
        Meta(description="level of the rest of the music in dB; only with a separator that tells stems apart"),
    ] = None
    bypass: Annotated[bool, Meta(description="play the delayed input as it is")] = False


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The recorder."""

    dir: Annotated[
        str | None, Meta(description="folder for mixture, vocals, accompaniment and its stems; no recording if unset")
    ] = None
    format: Annotated[Literal["wav", "flac"], Meta(description="wav: float32; flac: 24 bits")] = "wav"
    overwrite: Annotated[bool, Meta(description="replace files that are already there")] = False


class Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that `rtsep run` can be told.

    Parameters
    ----------
    stream, mix, record
        The sections of the file.
    separators : dict
        Parameters by separator, as in ``[separators.midside]``; each separator checks its own.
    """

    stream: Stream = Stream()
    mix: Mix = Mix()
    record: Record = Record()
    separators: dict[str, dict[str, Value]] = {}


#: Sections with fixed keys.
SECTIONS: dict[str, type[msgspec.Struct]] = {"stream": Stream, "mix": Mix, "record": Record}


def default_path() -> Path:
    """File that is read if no other is named: ``rtsep/config.toml`` in ``$XDG_CONFIG_HOME``, usually ``~/.config``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "rtsep" / "config.toml"


def load(path: Path | None = None) -> Config:
    """Read a configuration file.

    Parameters
    ----------
    path : Path, optional
        A file that must exist; without it the default one is read if it is there.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not TOML, or holds an unknown key or a value out of its range.
    """
    if path is None:
        path = default_path()
        if not path.is_file():
            return Config()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read configuration {path}: {error.strerror}; `rtsep config init` writes one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} is not TOML: {error}") from None
    return _check(values, lambda key: f"configuration {path}: {key}", ConfigError)


def override(
    config: Config, given: Mapping[str, Any], name: Callable[[str], str], error: type[RtsepError] = ConfigError
) -> Config:
    """Return `config` with some values replaced.

    Parameters
    ----------
    config : Config
        What stays.
    given : mapping of str to value
        New values by dotted key such as ``"mix.vocals_db"``; None means not given.
    name : callable
        What to call a dotted key in a message (the option's name).
    error : type of RtsepError
        What to raise for a value out of its range.
    """
    values = msgspec.to_builtins(config)
    for key, value in given.items():
        if value is not None:
            section, _, field = key.partition(".")
            values.setdefault(section, {})[field] = value
    return _check(values, name, error)


def _check(values: dict[str, Any], name: Callable[[str], str], error: type[RtsepError]) -> Config:
    for section, content in values.items():
        if section not in Config.__struct_fields__:
            raise error(f"{name(section)} is not a section: {nearest(section, Config.__struct_fields__)}")
        if section in SECTIONS and isinstance(content, dict):
            for key in content:
                if key not in SECTIONS[section].__struct_fields__:
                    hint = nearest(key, SECTIONS[section].__struct_fields__)
                    raise error(f"{name(f'{section}.{key}')} is not a key: {hint}")
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as problem:
        found = re.search(r"at `\$\.([^`]*)`", str(problem))
        place = found.group(1) if found else ""
        section, _, field = place.partition(".")
        if section in SECTIONS and field in SECTIONS[section].__struct_fields__:
            text = f"{name(place)} = {_text(values[section][field])} is not possible: {allowed(section, field)} is"
        elif section in SECTIONS:
            text = f"{name(section)} must be a table: [{section}]"
        else:
            text = f"{name('separators')} must be tables of numbers, names and switches: [separators.NAME]"
        raise error(text) from None


def allowed(section: str, field: str) -> str:
    """What a key takes, in words, such as ``"a number up to 12"``."""
    hint = get_type_hints(SECTIONS[section], include_extras=True)[field]
    choices: list[str] = []
    limits: dict[str, float] = {}
    kinds: set[type] = set()

    def look(part: Any) -> None:
        if isinstance(part, Meta):
            limits.update({end: value for end in ("ge", "le") if (value := getattr(part, end)) is not None})
        elif isinstance(part, type):
            kinds.add(part)
        for inner in get_args(part):
            if isinstance(inner, str | int):
                choices.append(str(inner))
            else:
                look(inner)
        for inner in getattr(part, "__metadata__", ()):
            look(inner)

    look(hint)
    if choices:
        return " or ".join([", ".join(choices[:-1]), choices[-1]])
    if bool in kinds:
        return "true or false"
    if str in kinds:
        return "a text in quotes"
    noun = "a whole number" if int in kinds else "a number"
    return f"{noun} from {limits['ge']:g} to {limits['le']:g}" if "ge" in limits else f"{noun} up to {limits['le']:g}"


def describe(section: str, field: str) -> str:
    """Help text of a key."""
    hint = get_type_hints(SECTIONS[section], include_extras=True)[field]
    return next(meta.description for meta in hint.__metadata__ if meta.description)


def to_toml(config: Config, *, comments: bool = False) -> str:
    """Write a configuration as TOML.

    Parameters
    ----------
    config : Config
        The values.
    comments : bool
        With an explanation of each key, and keys at their default commented out: a file to edit.
    """
    lines: list[str] = []
    for section, kind in SECTIONS.items():
        lines.append(f"[{section}]")
        part, plain = getattr(config, section), kind()
        for field in kind.__struct_fields__:
            value = getattr(part, field)
            usual = value == getattr(plain, field)
            if comments:
                lines.append(f"# {describe(section, field)} ({allowed(section, field)})")
            if value is None:
                lines.append(f"# {field} =")
            elif comments and usual:
                lines.append(f"# {field} = {_text(value)}")
            else:
                lines.append(f"{field} = {_text(value)}")
        lines.append("")
    for separator, params in config.separators.items():
        lines.append(f"[separators.{separator if re.fullmatch('[A-Za-z0-9_-]+', separator) else _text(separator)}]")
        lines += [f"{key} = {_text(value)}" for key, value in params.items()]
        lines.append("")
    if comments and not config.separators:
        lines += [
            "# Parameters of a separator; `rtsep models NAME` lists them.",
            "# [separators.midside]",
            "# width = 0.2",
            "",
        ]
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
