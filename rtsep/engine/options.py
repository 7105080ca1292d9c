"""What a session is asked for: the options of the command line, as one frozen object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What to play, through what, to where; the texts are those of the command line.

    Without a separator it is the profile's (`rtsep.separators.profiles`).
    """

    input: str = "mic"
    output: str = "speakers"
    separator: str | None = None
    #: Whether `separator` was chosen by measuring: its net may rest while the machine is too slow for it.
    auto: bool = False
    samplerate: int | None = None
    hop: int | None = None
    profile: str = "live"
    blocksize: int | None = None
    device: str = "auto"
    vocals_db: float = 0.0
    music_db: float = 0.0
    bypass: bool = False
    #: Faders of the stems of the music, by name; only of those that the separator tells apart.
    parts_db: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    record: Path | None = None
    record_format: str = "wav"
    overwrite: bool = False
    #: Seconds after which the caller will stop, or the session (`Session.ends_itself`); a shorter demo is repeated.
    duration_s: float | None = None
    #: Stream seconds per second of the computer's clock (output null), for long tests.
    speed: float = 1.0
