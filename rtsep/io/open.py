"""What `--input` and `--output` name: from a text to a kind of end point and its name.

Nothing is opened here, so that a typing error is found before a device is touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtsep.errors import UsageError
from rtsep.io.reader import SUFFIXES

#: Texts for the system's default device of each direction.
_DEFAULTS = {"input": ("mic", "default"), "output": ("speakers", "default")}
_SERVERS = {"pulse": "pulse", "pipewire": "pulse"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where sound comes from or goes to.

    Parameters
    ----------
    kind : str
        ``portaudio``, ``jack``, ``pulse``, ``file``, ``pipe``, ``demo``, ``test`` (input only), ``null`` (output only).
    name : str
        Device name, number or substring; ``client[:port]`` of JACK; source or sink of PulseAudio; path; signal; raw
        format of a pipe. Empty: the default.
    text : str
        What the user wrote.
    """

    kind: str
    name: str
    text: str

    def __str__(self) -> str:
        return self.text


def open_input(text: str) -> Endpoint:
    """End point of an `--input`.

    Parameters
    ----------
    text : str
        ``mic``, ``default``, ``jack[:client[:port]]``, ``pulse[:NAME]``, ``pipewire[:NAME]``,
        ``-[:FORMAT[:RATE[:CHANNELS]]]``, ``demo[:SONG]``, ``test:SIGNAL``, a path, or a device's name, number or
        substring. A file that exists, and a name with the suffix of a sound file, is a path.

    Raises
    ------
    UsageError
        If it is empty, or an output only.
    """
    if text == "demo" or text.startswith("demo:"):
        return Endpoint("demo", text.partition(":")[2], text)
    if text.startswith("test:"):
        return Endpoint("test", text.removeprefix("test:"), text)
    if text == "null":
        raise UsageError("null is an output: an input without sound is test:silence")
    return _common(text, "input")


def open_output(text: str) -> Endpoint:
    """End point of an `--output`: ``speakers``, ``null``, and as `open_input` but without ``demo`` and ``test:``."""
    if text == "null":
        return Endpoint("null", "", text)
    if text == "demo" or text.startswith(("demo:", "test:")):
        raise UsageError(f"{text} is an input: as an output, name a device, jack, a file, - or null")
    return _common(text, "output")


def _common(text: str, direction: str) -> Endpoint:
    if not text.strip():
        raise UsageError(f"the {direction} has no name: try {_DEFAULTS[direction][0]}")
    if text in _DEFAULTS[direction]:
        return Endpoint("portaudio", "", text)
    head, _, rest = text.partition(":")
    if head == "-":
        return Endpoint("pipe", rest, text)
    if _is_path(text):
        return Endpoint("file", str(Path(text).expanduser()), text)
    if head == "jack":
        return Endpoint("jack", rest, text)
    if head in _SERVERS:
        return Endpoint(_SERVERS[head], rest, text)
    if Path(text).is_dir():  # will be refused as a folder; no name of a server is taken for one
        return Endpoint("file", text, text)
    return Endpoint("portaudio", text, text)


def _is_path(text: str) -> bool:
    if text.startswith(("/", "./", "../", "~")) or Path(text).suffix.lower().lstrip(".") in SUFFIXES:
        return True
    return Path(text).is_file()
