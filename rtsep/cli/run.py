"""`rtsep [run]`: separate while it plays."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from rtsep.cli.options import (
    FILES,
    MIX,
    OUTPUT,
    PARTS,
    SEPARATION,
    SOUND,
    Device,
    Profile,
    Protect,
    Separator,
    Settings,
    Strength,
    session_options,
    settings,
    with_separator,
)
from rtsep.errors import UsageError

if TYPE_CHECKING:
    from rtsep.engine.options import SessionOptions

#: Option of each configuration key that one can give, for messages.
OPTIONS = {
    "stream.input": "--input",
    "stream.output": "--output",
    "stream.separator": "--separator",
    "stream.profile": "--profile",
    "stream.hop": "--hop",
    "stream.samplerate": "--samplerate",
    "stream.blocksize": "--blocksize",
    "stream.device": "--device",
    "mix.vocals_db": "--vocals",
    "mix.music_db": "--music",
    "mix.drums_db": "--drums",
    "mix.bass_db": "--bass",
    "mix.other_db": "--other",
    "record.dir": "--record",
    "record.format": "--record-format",
}

#: Where the built-in song is recorded when there is nothing else to play.
DEMO_FOLDER = "demo"
DEMO_MARK = ".recorded-by-the-demo"

_Place = Annotated[str | None, Parameter(allow_leading_hyphen=True, group=SOUND)]
_Level = Annotated[float | None, Parameter(allow_leading_hyphen=True, group=MIX)]
_Switch = Annotated[bool, Parameter(negative=(), show_default=False, group=MIX)]
_OutputSwitch = Annotated[bool, Parameter(negative=(), show_default=False, group=OUTPUT)]


def run(
    *,
    input: Annotated[_Place, Parameter(name=["--input", "-i"])] = None,
    output: Annotated[_Place, Parameter(name=["--output", "-o"])] = None,
    samplerate: Annotated[int | None, Parameter(group=SOUND)] = None,
    blocksize: Annotated[int | None, Parameter(group=SOUND)] = None,
    separator: Separator = None,
    strength: Strength = None,
    protect: Protect = None,
    set_: Settings = None,
    profile: Profile = None,
    hop: Annotated[int | None, Parameter(group=SEPARATION)] = None,
    device: Annotated[Device | None, Parameter(group=SEPARATION)] = None,
    vocals: _Level = None,
    music: _Level = None,
    drums: _Level = None,
    bass: _Level = None,
    other: _Level = None,
    karaoke: _Switch = False,
    acapella: _Switch = False,
    bypass: _Switch = False,
    record: Annotated[Path | None, Parameter(group=FILES)] = None,
    record_format: Annotated[Literal["wav", "flac"] | None, Parameter(group=FILES)] = None,
    overwrite: Annotated[bool, Parameter(negative=(), show_default=False, group=FILES)] = False,
    config: Annotated[Path | None, Parameter(group=FILES)] = None,
    duration: Annotated[float | None, Parameter(group=OUTPUT)] = None,
    stats: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    quiet: Annotated[_OutputSwitch, Parameter(name=["--quiet", "-q"])] = False,
    json: _OutputSwitch = False,
) -> int:
    """Separate the singing voice from music while it plays.

    Without --input and --output: from the microphone to the speakers, or the
    built-in song if there is no sound device.

    For example:
      rtsep --input mic --output speakers        a screen with faders
      rtsep --input mic --output speakers --karaoke
      rtsep --input pipewire:Speakers --output Headset
      rtsep --input jack --output jack --profile monitor
      rtsep --input song.flac --output speakers --vocals -12 --record takes
      rtsep --separator midside --set width=0.2 --vocals -inf
      rtsep --separator koretzky --drums -inf      everybody but the drummer
      cat song.wav | rtsep --input - --output - --karaoke --quiet > karaoke.wav
      rtsep --input demo --output null --duration 10 --json

    As inputs, pulse:NAME and pipewire:NAME are what the computer plays on that
    device; - is stdin or stdout; SIGNAL is sine, sweep, click, noise or silence.

    Parameters
    ----------
    input
        mic, a device's name or number, jack[:client[:port]], pulse:NAME, pipewire:NAME, a file, -, demo[:SONG],
        test:SIGNAL.
    output
        speakers, a device, jack[:client[:port]], pulse:NAME, a file, -, null.
    samplerate
        Rate to ask of the device, in Hz; its own if not given.
    blocksize
        Frames per device callback; the device's if not given.
    separator
        A name from `rtsep models`, a model folder, or auto: the largest
        model of the profile that this machine is fast enough for.
    strength
        How hard to separate: above 1 doubtful sound goes to the voice, below 1
        to the music.
    protect
        0 to 1: smoother vocals with less musical noise, separated less.
    set_
        NAME=VALUE: a parameter, as listed by `rtsep models NAME`.
    profile
        live is hop 256; monitor is hop 128, half the latency; karaoke is
        hop 512, looks ahead and sounds best. Each has a model of its name.
    hop
        Frames per step, 16 to 1024; the latency is twice that. A net takes its own only.
    device
        Where the net runs; auto takes CUDA if it is there.
    vocals
        Level of the voice in dB, -inf to 12.
    music
        Level of the music in dB, -inf to 12.
    drums
        Level of the drums in the music; with a separator that tells
        stems apart, such as koretzky.
    bass
        Level of the bass in the music.
    other
        Level of the rest of the music.
    karaoke
        The same as --vocals -inf.
    acapella
        The same as --music -inf.
    bypass
        Start with the delayed input as it is.
    record
        Folder for mixture, vocals, accompaniment and its stems.
    record_format
        wav (float32) or flac (24 bits).
    overwrite
        Replace files that are already there.
    config
        Instead of ~/.config/rtsep/config.toml.
    duration
        End after so many seconds of sound.
    stats
        Write the figures of the run to this JSON file.
    quiet
        Print errors only.
    json
        Print one JSON object per second, and a last one.
    """
    from rtsep import config as configuration
    from rtsep.separators.profiles import AUTO

    if karaoke and acapella:
        raise UsageError("--karaoke and --acapella together leave nothing to hear: give one of the two")
    for switch, level, names in (
        (karaoke, vocals, "--karaoke and --vocals"),
        (acapella, music, "--acapella and --music"),
    ):
        if switch and level is not None:
            raise UsageError(f"{names} set the same fader: give one of the two")
    if duration is not None and not 0 < duration < math.inf:
        raise UsageError(f"--duration {duration:g} is not possible: a number of seconds above 0 is")
    given: dict[str, Any] = {
        "stream.input": input,
        "stream.output": output,
        "stream.separator": separator,
        "stream.profile": profile,
        "stream.hop": hop,
        "stream.samplerate": samplerate,
        "stream.blocksize": blocksize,
        "stream.device": device,
        "mix.vocals_db": -math.inf if karaoke else vocals,
        "mix.music_db": -math.inf if acapella else music,
        "mix.drums_db": drums,
        "mix.bass_db": bass,
        "mix.other_db": other,
        "mix.bypass": bypass or None,
        "record.dir": str(record) if record else None,
        "record.format": record_format,
        "record.overwrite": overwrite or None,
    }
    chosen = configuration.override(configuration.load(config), given, lambda key: OPTIONS.get(key, key), UsageError)
    if stats is not None:
        _check_stats(stats, chosen.record.overwrite)
    auto = chosen.stream.separator == AUTO
    chosen, why = with_separator(chosen)
    params = settings(chosen, set_, strength=strength, protect=protect)
    return _play(chosen, params, duration, stats, why, auto=auto, quiet=quiet, json=json)


def _check_stats(path: Path, overwrite: bool) -> None:
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir():
        raise UsageError(f"cannot write {path}: {'it is a folder' if path.is_dir() else 'its folder does not exist'}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {path}: the folder {folder} is not writable")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists: --overwrite replaces it")


def _check_apart(options: SessionOptions, stats: Path | None) -> None:
    """UsageError where two of output, recording and figures would be one file."""
    from rtsep.io.open import open_output
    from rtsep.io.record import FILES as RECORDED

    end = open_output(options.output)
    written = [("--output", Path(end.name))] if end.kind == "file" else []
    if options.record is not None:
        names = (*RECORDED, *PARTS)
        written += [("--record", options.record / f"{name}.{options.record_format}") for name in names]
    if stats is not None:
        written.append(("--stats", stats))
    places: dict[Path, str] = {}
    for option, path in written:
        other = places.setdefault(path.resolve(), option)
        if other != option:
            raise UsageError(f"{path} would be written by {other} and by {option}: name another file or folder for one")


def _play(
    chosen: Any,
    params: dict[str, str],
    duration: float | None,
    stats: Path | None,
    why: str,
    *,
    auto: bool,
    quiet: bool,
    json: bool,
) -> int:
    from rtsep.cli import play
    from rtsep.cli.views import view_for

    given, own_record = chosen.stream.input, {}
    source, sink, note = places(given, chosen.stream.output)
    if note and given is None and source == "demo" and chosen.record.dir is None:
        if chosen.record.overwrite or _demo_may_write(Path(DEMO_FOLDER)):
            own_record = {"record": Path(DEMO_FOLDER), "overwrite": True}
            note += f" Its mixture, vocals and accompaniment are recorded to {DEMO_FOLDER}/."
        else:
            note += f" {DEMO_FOLDER}/ holds other files, so nothing is recorded (--record DIR chooses another folder)."
    note = "\n".join(filter(None, (note, why)))
    options = session_options(
        chosen,
        params,
        input=source,
        output=sink,
        auto=auto,
        duration_s=duration,
        **own_record,
    )
    _check_apart(options, stats)
    return play.play(options, view_for(sink, quiet=quiet, json=json), duration=duration, stats=stats, note=note)


def places(source: str | None, sink: str | None) -> tuple[str, str, str]:
    """Fill in what was not given.

    Returns
    -------
    source, sink : str
        For the session.
    note : str
        What was chosen and why, to be told; empty where both were given.
    """
    if source is not None and sink is not None:
        return source, sink, ""
    if source is not None:
        return source, "speakers", ""
    if sink is not None:
        return "mic", sink, ""
    from rtsep.io.devices import list_devices, live_devices

    mic, speakers = live_devices(list_devices())
    if mic and speakers:
        return "mic", "speakers", "From the microphone to the speakers (use headphones, or it may howl)."
    missing = "microphone" if speakers else "speakers" if mic else "sound device"
    how = "to the speakers" if speakers else "unheard"
    note = f"No {missing} found (`rtsep doctor` says why): the built-in song plays in real time, {how}."
    return "demo", "speakers" if speakers else "null", note


def _demo_may_write(folder: Path) -> bool:
    """Whether the built-in song may be recorded to a folder: it is new, or holds nothing but that song's recording.

    A file in it, `DEMO_MARK`, tells that the recording is the program's own: anybody else's may have the same names.
    """
    stems = ("mixture", "vocals", "accompaniment", *PARTS)
    names = {DEMO_MARK, *(f"{stem}.{kind}" for stem in stems for kind in ("wav", "flac"))}
    try:
        inside = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        if not inside <= names or (inside and DEMO_MARK not in inside):
            return False
        folder.mkdir(exist_ok=True)
        (folder / DEMO_MARK).touch()
    except OSError:
        return False
    return True
