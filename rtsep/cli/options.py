"""Options that several commands share: the types, and how their texts are read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from rtsep.errors import UsageError

if TYPE_CHECKING:
    from rtsep.config import Config
    from rtsep.engine.options import SessionOptions

SOUND = Group.create_ordered("Sound")
SEPARATION = Group.create_ordered("Separation")
MIX = Group.create_ordered("Mix")
FILES = Group.create_ordered("Files")
OUTPUT = Group.create_ordered("Output")

#: Parts of the music that have a fader where the separator tells them apart (`rtsep.separators.base.Separator.parts`).
PARTS = ("drums", "bass", "other")

Device = Literal["auto", "cpu", "cuda"]
Flag = Annotated[bool, Parameter(negative=())]
Separator = Annotated[str | None, Parameter(name=["--separator", "--model", "-s"], group=SEPARATION)]
Profile = Annotated[Literal["live", "monitor", "karaoke"] | None, Parameter(group=SEPARATION)]
Strength = Annotated[float | None, Parameter(group=SEPARATION)]
Protect = Annotated[float | None, Parameter(group=SEPARATION)]
Settings = Annotated[list[str] | None, Parameter(name="--set", negative=(), group=SEPARATION)]


def settings(chosen: Config, texts: Sequence[str] | None, **options: float | None) -> dict[str, str]:
    """Parameters of the chosen separator: the configuration's, over them `options`, then those of ``--set NAME=VALUE``.

    `UsageError` if a text is not of that form; the separator itself checks names and values.
    """
    separator, tables = chosen.stream.separator or "", chosen.separators
    found = tables.get(separator) or tables.get(separator.partition(":")[0], {})  # of invert:FILE that of invert
    pairs = {name: str(value) for name, value in found.items()}
    pairs |= {name: str(value) for name, value in options.items() if value is not None}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(
                f"--set {text} is not understood: --set NAME=VALUE is (`rtsep models NAME` lists the parameters)"
            )
        pairs[name.strip()] = value.strip()
    return pairs


def session_options(chosen: Config, params: Mapping[str, str], **more: Any) -> SessionOptions:
    """What a session is asked for by a configuration; `more` goes before it, such as ``input`` and ``output``."""
    from rtsep.engine.options import SessionOptions

    stream, mix, record = chosen.stream, chosen.mix, chosen.record
    found: dict[str, Any] = {
        "separator": stream.separator,
        "samplerate": stream.samplerate,
        "hop": stream.hop,
        "profile": stream.profile,
        "blocksize": stream.blocksize,
        "device": stream.device,
        "vocals_db": mix.vocals_db,
        "music_db": mix.music_db,
        "parts_db": {name: level for name in PARTS if (level := getattr(mix, f"{name}_db")) is not None},
        "bypass": mix.bypass,
        "params": params,
        "record": Path(record.dir).expanduser() if record.dir else None,
        "record_format": record.format,
        "overwrite": record.overwrite,
    }
    return SessionOptions(**{**found, **more})


def with_separator(chosen: Config) -> tuple[Config, str]:
    """The configuration with the separator that will play, and a line that says why it is not the expected one."""
    from rtsep.config import override
    from rtsep.engine import warm
    from rtsep.separators.profiles import AUTO, resolve

    if chosen.stream.separator == AUTO:  # the net runs at once
        warm.ensure(lambda line: print(line, file=sys.stderr))
    name, note = resolve(chosen.stream.separator, chosen.stream.profile, chosen.stream.device)
    return override(chosen, {"stream.separator": name}, str), note
