"""Music without a voice from the packages of a distribution: what plays in free games, cut to pieces for training.

    python -m rtsep.training.data.packages OUTPUT [--packages DIR] [--only NAME ...]

fetches the Debian packages of `PACKAGES` (``apt-get download``; those that lie in DIR already are taken from there),
and writes pieces of `SECONDS` of each track as ``OUTPUT/accompaniment/deb-PACKAGE_TRACK_N.opus``, with the copyright
file of each package under ``OUTPUT/licences``. What these list is free in the sense of Debian's guidelines. Tracks in
which somebody sings or speaks, or may do so, are left out by name.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from rtsep.errors import UsageError
from rtsep.training.data.sources import CACHE_RATE, PACKAGED
from rtsep.training.data.tools import run, write_opus

SECONDS = 50.0
LEAST = 40.0  # seconds of a track
LEAST_RATE = 32000
FURTHER = 150.0  # seconds of a track for each further piece
MOST = 4  # pieces of a track
ENDS = (".ogg", ".opus", ".mp3", ".flac")

PACKAGES = {
    "amoebax-data": "*/music/*",
    "ardentryst": "*/Music/*",
    "berusky2-data": "*/music/*",
    "colobot-common-sounds": "*/music/*",
    "davegnukem-data": "*/music/*",
    "drascula-music": "*/audio/*",
    "enigma-data": "*/music/*",
    "extremetuxracer-data": "*/music/*",
    "flare-game": "*/music/*_theme.ogg",
    "freecol": "*/music/*",
    "freedroidrpg-data": "*/music/*",
    "fretsonfire-songs-muldjord": "*/songs/*",
    "fretsonfire-songs-sectoid": "*/songs/*",
    "frozen-bubble-data": "*/snd/*",
    "gunroar-data": "*/musics/*",
    "hedgewars-data": "*/Music/*",
    "hex-a-hop-data": "*/music*",
    "hyperrogue-music": "*/music/*",
    "lordsawar-data": "*/music/*",
    "mazeofgalious-data": "*/jorito/*",
    "megaglest-data": "*/music/*",
    "mu-cade-data": "*/musics/*",
    "naev-data": "*/music/*",
    "noiz2sa-data": "*/sounds/*",
    "parsec47-data": "*/sounds/*",
    "planetblupi-music-ogg": "*/music/*",
    "plee-the-bear-data": "*/music/*",
    "pushover-data": "*/themes/*",
    "redeclipse-data": "*/sounds/music/*",
    "rrootage-data": "*/sounds/*",
    "scorched3d-data": "*/music/*",
    "seahorse-adventures": "*/music/*",
    "singularity-music": "*/music/*",
    "starfighter-data": "*/music/*",
    "supertux-data": "*/music/*",
    "supertuxkart-data": "*/music/*",
    "titanion-data": "*/musics/*",
    "torus-trooper-data": "*/musics/*",
    "trackballs-data": "*/music/*",
    "tumiki-fighters-data": "*/sounds/*",
    "tuxmath-data": "*/sounds/*",
    "unknown-horizons": "*/music/*",
    "warmux-data": "*/music/*",
    "warzone2100-music": "*/music/*",
    "wesnoth-1.16-music": "*/music/*",
    "widelands-data": "*/music/*",
    "wizznic-data": "*/music/*",
    "zaz-data": "*/mus?.ogg",
}
"""Packages of Debian 12 (main), and which of their files are music."""
SUNG = ("*/nunc_dimittis.*", "*/drascula/audio/track31.*", "*Monkey-bubble.*", "*/music/dungeon_theme.*")
"""Tracks with voices, or with what looks like voices."""


def needs_debian() -> None:
    """Check that the programs that fetch and open packages are there.

    Raises
    ------
    UsageError
        If one is not.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise UsageError(f"the program {program} is missing: this needs Debian 12 or a system like it")


def unpacked(package: Path, folder: Path) -> None:
    """Write the files of a package to a folder."""
    done = subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"wanted a Debian package, cannot read {package}: {done.stderr.strip()}")


def fetched(name: str, folder: Path) -> Path:
    """The package of that name in a folder, fetched if it is not there.

    Raises
    ------
    UsageError
        If it is not to be had.
    """
    if not any(folder.glob(f"{name}_*.deb")):
        done = subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if line.startswith("E:")), "no reason given")
            raise UsageError(f"cannot fetch the package {name}: {said}")
    return next(folder.glob(f"{name}_*.deb"))


def tracks(package: str, folder: Path) -> Iterator[Path]:
    """The tracks of an unpacked package that are long enough."""
    for path in sorted(folder.rglob("*")):
        inside = "/" + path.relative_to(folder).as_posix()
        wanted = fnmatch.fnmatchcase(inside, PACKAGES[package]) and not any(
            fnmatch.fnmatchcase(inside, p) for p in SUNG
        )
        if not wanted or path.suffix not in ENDS or path.is_symlink() or not path.is_file():
            continue
        info = soundfile.info(path)
        if info.duration >= LEAST and info.samplerate >= LEAST_RATE:
            yield path


def pieces(path: Path) -> Iterator[np.ndarray]:
    """Pieces of a track (channels, samples) at `CACHE_RATE`, one and one more for each `FURTHER` seconds."""
    import samplerate

    with soundfile.SoundFile(path) as file:
        rate, length = file.samplerate, int(SECONDS * file.samplerate)
        count = min(1 + int(file.frames / rate / FURTHER), MOST)
        for i in range(count):
            file.seek(int(max(file.frames - length, 0) * (i + 0.5) / count))
            sound = file.read(length, dtype="float32", always_2d=True)[:, :2]
            if rate != CACHE_RATE:
                sound = samplerate.resample(sound, CACHE_RATE / rate, "sinc_fastest").reshape(-1, sound.shape[1])
            if np.sqrt((sound**2).mean()) > 1e-3:
                yield sound.T


def cut(output: Path, packages: Path, name: str) -> int:
    """Write all pieces of a package; returns how many there are. A package whose licence is there is done."""
    group, licence = f"{PACKAGED}{name}", output / "licences" / f"{name}.txt"
    if not licence.exists():
        with tempfile.TemporaryDirectory() as folder:
            unpacked(fetched(name, packages), Path(folder))
            for path in tracks(name, Path(folder)):
                song = re.sub(r"\W+", "-", f"{path.parent.name}-{path.stem}")
                for i, sound in enumerate(pieces(path)):
                    write_opus(output / "accompaniment" / f"{group}_{song}_{i}.opus", sound, CACHE_RATE)
            licence.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / "usr/share/doc" / name / "copyright", licence)
    return len(list((output / "accompaniment").glob(f"{group}_*.opus")))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--packages", type=Path, help="folder of packages (default: OUTPUT/packages)")
    parser.add_argument("--only", nargs="+", choices=sorted(PACKAGES), default=sorted(PACKAGES), metavar="NAME")
    arguments = parser.parse_args()
    needs_debian()
    packages = (arguments.packages or arguments.output / "packages").absolute()
    packages.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        counts = workers.map(partial(cut, arguments.output, packages), arguments.only)
        for name, count in zip(arguments.only, counts, strict=True):
            print(f"{name}: {count} pieces")


if __name__ == "__main__":
    run(main)
