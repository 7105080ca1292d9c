"""The sound of one song of a data set, checked: what cannot be scored is refused with one line."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import UsageError
from rtsep.evaluation.layouts import Part, SongFiles
from rtsep.io.feed import convert
from rtsep.io.reader import read_blocks

Sound = NDArray[np.float32]

#: Shorter songs have no score: BSS Eval v4 looks at windows of one second.
LEAST_SECONDS = 1.0
#: A sound whose energy lies so far under the mixture's counts as silence.
SILENT_DB = -100.0


@dataclass(frozen=True, slots=True)
class Song:
    """A song with its true parts, each of shape (channels, frames); stems of the accompaniment where they are known."""

    name: str
    samplerate: int
    mixture: Sound
    vocals: Sound
    accompaniment: Sound
    stems: Mapping[str, Sound] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length."""
        return self.mixture.shape[1] / self.samplerate


def is_silent(sound: Sound, mixture: Sound) -> bool:
    """Whether there is nothing in `sound` that `SILENT_DB` leaves."""
    return float(np.vdot(sound, sound)) <= 10 ** (SILENT_DB / 10) * float(np.vdot(mixture, mixture))


def load(files: SongFiles, seconds: float | None = None) -> Song:
    """Read and check a song.

    Parameters
    ----------
    files : SongFiles
    seconds : float, optional
        Only so much of its middle.

    Raises
    ------
    UsageError
        A part that is missing, unreadable, silent, or not as long, as fast or of as many channels as the others.
    """
    if files.fault:
        raise UsageError(files.fault)
    with tempfile.TemporaryDirectory(prefix="rtsep-") as scratch:
        known: dict[str, tuple[str, int, Sound]] = {}
        parts = [*files.vocals, *files.accompaniment, *([files.mixture] if files.mixture else [])]
        sounds = []
        for part in parts:
            label = part.path.name + ("" if part.stream is None else f" stream {part.stream}")
            rate, sound = _read(part, Path(scratch))
            known[label] = (label, rate, sound)
            sounds.append(sound)
    _check_alike(known.values())
    rate = next(iter(known.values()))[1]
    voice = np.sum(sounds[: len(files.vocals)], axis=0)
    music = np.sum(sounds[len(files.vocals) : len(files.vocals) + len(files.accompaniment)], axis=0)
    mixture = sounds[-1] if files.mixture else voice + music
    stems = dict(zip(files.stems, sounds[len(files.vocals) :], strict=False))
    frames = mixture.shape[1]
    if frames < LEAST_SECONDS * rate:
        raise UsageError(f"it is {frames} frames long ({frames / rate:.3g} s): at least {LEAST_SECONDS:g} s are wanted")
    if seconds is not None and seconds * rate < frames:
        start, length = (frames - int(seconds * rate)) // 2, int(seconds * rate)
        voice, music, mixture = (sound[:, start : start + length] for sound in (voice, music, mixture))
        stems = {name: sound[:, start : start + length] for name, sound in stems.items()}
    for name, sound in (("vocals are", voice), ("accompaniment is", music)):
        if is_silent(sound, mixture):
            where = "" if seconds is None else f" in the {seconds:g} s that are scored"
            raise UsageError(f"the {name} silent{where}: no score is defined")
    mixture, voice, music = (np.ascontiguousarray(sound, np.float32) for sound in (mixture, voice, music))
    stems = {name: np.ascontiguousarray(sound, np.float32) for name, sound in stems.items()}
    return Song(files.name, rate, mixture, voice, music, stems)


def resampled(sound: Sound, rate: int, wanted: int) -> Sound:
    """Sound (channels, frames) at another rate, aligned in time."""
    if rate == wanted:
        return sound
    blocks = convert(iter([np.ascontiguousarray(sound.T)]), len(sound), rate, wanted)
    return np.ascontiguousarray(np.concatenate(list(blocks)).T)


def _check_alike(sounds: Iterable[tuple[str, int, Sound]]) -> None:
    """UsageError where two sources differ in rate, channels or length."""
    (first, rate, sound), *others = sounds
    for name, other_rate, other in others:
        facts = (
            ("samplerates", f"{rate} Hz", f"{other_rate} Hz"),
            ("channels", _channels(sound), _channels(other)),
            ("lengths", f"{sound.shape[1]} frames", f"{other.shape[1]} frames"),
        )
        for what, mine, its in facts:
            if mine != its:
                raise UsageError(f"{what} differ: {first} has {mine}, {name} has {its}; they must be the same")


def _channels(sound: Sound) -> str:
    return "1 channel (mono)" if len(sound) == 1 else "2 channels (stereo)"


def _read(part: Part, scratch: Path) -> tuple[int, Sound]:
    """Rate and sound (channels, frames) of one source."""
    path = part.path if part.stream is None else _stream(part, scratch)
    with read_blocks(path) as reader:
        sound = np.concatenate(list(reader.native_blocks())).T
        rate = reader.native_rate
    if part.channel is None:
        return rate, sound
    if len(sound) != 2:
        raise UsageError(f"{part.path.name} has 1 channel: 2 are wanted (left the accompaniment, right the voice)")
    return rate, sound[part.channel][None]


def _stream(part: Part, scratch: Path) -> Path:
    """One audio stream of a file, as a WAV file in `scratch`."""
    if not shutil.which("ffmpeg"):
        raise UsageError(f"{part.path.name} needs ffmpeg, which is not installed (try: sudo apt install ffmpeg)")
    target = scratch / f"{part.stream}.wav"
    source = ["-protocol_whitelist", "file", "-i", f"file:{part.path.absolute()}", "-map", f"0:a:{part.stream}"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *source, "-c:a", "pcm_f32le", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(
            f"{part.path.name} gives no audio stream {part.stream} (5 are wanted: mixture, drums, bass, "
            f"other, vocals); ffmpeg says: {reason}"
        )
    return target
