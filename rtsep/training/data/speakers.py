"""Voices from the packages of a distribution: people who read words and syllables to children, players and learners.

    python -m rtsep.training.data.speakers OUTPUT [--packages DIR] [--only NAME ...]

fetches the Debian packages of `VOICES` as `rtsep.training.data.packages` does, and writes what each speaker says,
without the noise between the words, as ``OUTPUT/vocals/deb-PACKAGE_SPEAKER.opus``, with the copyright file of each
package under ``OUTPUT/licences``. They speak, they do not sing; but they are many, and recorded up to 12 kHz and more.
`rtsep.training.data.singing` makes them sing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from rtsep.training.data.bank import runs
from rtsep.training.data.packages import ENDS, LEAST_RATE, fetched, needs_debian, unpacked
from rtsep.training.data.sources import CACHE_RATE, PACKAGED
from rtsep.training.data.tools import run, write_opus
from rtsep.training.data.world import Floats

SECONDS = 300.0  # at most, of a speaker
LEAST = 0.25  # seconds of a word
BLOCK = CACHE_RATE // 100
HOLD = 8  # blocks around what is loud that belong to a word
RANGE_DB = 30.0  # under the loudest blocks of a word
ABOVE_DB = 8.0  # above the noise
RMS = 0.1  # of each word
PAUSE = (0.05, 0.35)  # seconds between words


class People(NamedTuple):
    """Who speaks in a package: a pattern of paths whose group names the speaker, and the speakers to take.

    Left out are who was recorded with nothing above 12 kHz, with more noise than 20 dB under the voice, or through
    effects.
    """

    pattern: str
    names: str


VOICES = {
    "gcin-voice": People(r"/(\d)\.ogg$", "3 5"),
    "hedgewars-data": People(
        r"/voices/([^/]+)/",
        "British Classic Default Default_es Default_pl Default_ru Default_uk HillBilly Mobster Pirate Russian "
        "Russian_pl Singer Surfer",
    ),
    "kajongg": People(r"/voices/(.+)/[^/]+$", "de/female1 de/male1 de/male2 female1 male1"),
    "klettres-data": People(
        r"/klettres/([^/]+)/(?:alpha|syllab)/", "ar cs de en_GB fr he it lt ml nb nds pt_BR ru tn uk"
    ),
    "ktuberling-data": People(r"/sounds/([^/]+)/", "de el en lt ru sl uk wa"),
    "tuxpaint-stamps-default": People(r"_desc_([A-Za-z]+)\.ogg$", "be bg da es fr lt nl ro ru"),
}
"""Packages of Debian 12 (main)."""


def word(path: Path) -> Floats | None:
    """What is said in a file: mono (samples,) at `CACHE_RATE` without silence and noise around it; None if nothing.

    Blocks of 10 ms count as said if they are within `RANGE_DB` of the loudest and `ABOVE_DB` above the quietest, and
    those around them.
    """
    import samplerate

    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Floats = sound.mean(1)
    if rate < LEAST_RATE or len(mono) < LEAST * rate:
        return None
    if rate != CACHE_RATE:
        mono = samplerate.resample(mono, CACHE_RATE / rate, "sinc_fastest")
    blocks = mono[: len(mono) // BLOCK * BLOCK].reshape(-1, BLOCK)
    level = 10 * np.log10((blocks**2).mean(1) + 1e-10)
    top, noise = np.percentile(level, [95, 15])
    loud = level > np.clip(noise + ABOVE_DB, top - RANGE_DB, top - 15)
    said = np.convolve(loud, np.ones(2 * HOLD + 1), "same") > 0.5
    fade = np.linspace(0, 1, BLOCK, dtype=np.float32)
    parts: list[Floats] = []
    for begin, end in runs(said):
        part = blocks[begin:end].ravel().copy()
        part[:BLOCK] *= fade
        part[-BLOCK:] *= fade[::-1]
        parts.append(part)
    whole = np.concatenate(parts) if parts and top > -60 else np.zeros(0, np.float32)
    if len(whole) < LEAST * CACHE_RATE:
        return None
    return np.asarray(np.clip(whole * (RMS / np.sqrt((whole**2).mean())), -1, 1), np.float32)


def files(package: str, folder: Path) -> dict[str, list[Path]]:
    """The files of each speaker of an unpacked package."""
    people, found = VOICES[package], {}
    for name in people.names.split():
        found[name] = [
            path
            for path in sorted(folder.rglob("*"))
            if path.suffix in ENDS
            and path.is_file()
            and (match := re.search(people.pattern, "/" + path.relative_to(folder).as_posix()))
            and match[1] == name
        ]
    return found


def strung(paths: list[Path]) -> Floats:
    """Words of a speaker in an order that is drawn, with pauses between them: mono at `CACHE_RATE`."""
    rng = np.random.default_rng(0)
    parts: list[Floats] = []
    left = SECONDS * CACHE_RATE
    for index in rng.permutation(len(paths)):
        if left <= 0:
            break
        said = word(paths[index])
        if said is not None:
            parts += [said, np.zeros(int(rng.uniform(*PAUSE) * CACHE_RATE), np.float32)]
            left -= len(parts[-1]) + len(said)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def take(output: Path, packages: Path, package: str) -> int:
    """Write all voices of a package; returns how many there are. A package whose licence is there is done."""
    group, licence = f"{PACKAGED}{package}", output / "licences" / f"voices-{package}.txt"
    if not licence.exists():
        with tempfile.TemporaryDirectory() as folder:
            unpacked(fetched(package, packages), Path(folder))
            for name, paths in files(package, Path(folder)).items():
                sound = strung(paths)
                if len(sound):
                    speaker = re.sub(r"\W+", "-", name)
                    write_opus(output / "vocals" / f"{group}_{speaker}.opus", sound, CACHE_RATE)
            licence.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / "usr/share/doc" / package / "copyright", licence)
    return len(list((output / "vocals").glob(f"{group}_*.opus")))


def counts(output: Path, packages: Path, names: list[str]) -> Iterator[tuple[str, int]]:
    """Each package and how many voices it has, all cores at work."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        yield from zip(names, workers.map(partial(take, output, packages), names), strict=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--packages", type=Path, help="folder of packages (default: OUTPUT/packages)")
    parser.add_argument("--only", nargs="+", choices=sorted(VOICES), default=sorted(VOICES), metavar="NAME")
    arguments = parser.parse_args()
    needs_debian()
    packages = (arguments.packages or arguments.output / "packages").absolute()
    packages.mkdir(parents=True, exist_ok=True)
    for name, count in counts(arguments.output, packages, arguments.only):
        print(f"{name}: {count} voices")


if __name__ == "__main__":
    run(main)
