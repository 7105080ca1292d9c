"""Where the songs of a data set are, and which file is which part: the layouts that the field uses.

Every layout becomes a list of `SongFiles`: the sources whose sum is the voice, those whose sum is the accompaniment,
and the mixture where it is stored. Nothing is decoded here.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtsep.errors import UsageError, nearest
from rtsep.io.reader import SUFFIXES
from rtsep.separators.base import OTHER, STEMS

#: What each layout wants to find in the folder.
LAYOUTS: dict[str, str] = {
    "folder": "folders of songs, each with vocals.* and accompaniment.*",
    "musdb18": "folders of songs with vocals, drums, bass and other, or files *.stem.mp4, in train/ and test/ or not",
    "dsd100": "Mixtures/ and Sources/, each with Dev/ and Test/",
    "mir1k": "stereo files *.wav, left the accompaniment, right the voice, in the folder or in its Wavfile/",
    "pack": "paired/ or paired16k/ with folders of songs, each with vocals.* and accompaniment.*",
}
SPLITS = ("test", "dev", "train", "all")
_BAND = (*STEMS, OTHER)
_MIR1K_TRAINING = ("abjones", "amy")
#: Streams of a .stem.mp4 file.
_STREAMS = {"mixture": 0, "drums": 1, "bass": 2, "other": 3, "vocals": 4}


@dataclass(frozen=True, slots=True)
class Part:
    """One source of sound.

    Parameters
    ----------
    path : Path
        The file.
    channel : int, optional
        One channel of it alone.
    stream : int, optional
        Audio stream of a file that holds several.
    """

    path: Path
    channel: int | None = None
    stream: int | None = None


@dataclass(frozen=True, slots=True)
class SongFiles:
    """The files of one song.

    Parameters
    ----------
    name : str
        Path within the data set, unique in it.
    vocals, accompaniment : tuple of Part
        Their sums are the parts.
    stems : tuple of str
        What the sources of the accompaniment are, where the layout has them apart.
    mixture : Part, optional
        As stored; vocals + accompaniment where there is none.
    fault : str
        Why the song cannot be read; empty if nothing is known against it.
    split : str
        Of the data set, where it has such.
    """

    name: str
    vocals: tuple[Part, ...]
    accompaniment: tuple[Part, ...]
    mixture: Part | None = None
    fault: str = ""
    stems: tuple[str, ...] = ()
    split: str = ""


def find_songs(
    root: Path,
    layout: str = "auto",
    split: str | None = None,
    patterns: Sequence[str] = (),
    split_of: Callable[[str], str] | None = None,
) -> tuple[str, list[SongFiles]]:
    """Find the songs of a data set, by name.

    Parameters
    ----------
    root : Path
        Its folder.
    layout : str
        One of `LAYOUTS`, or ``"auto"``.
    split : str, optional
        One of `SPLITS`; if missing ``"test"`` where the data set has splits.
    patterns : sequence of str
        Names, with ``*`` and ``?``; all songs if empty.
    split_of : callable
        Says which split a file of the pack, named within the pack, belongs to.

    Returns
    -------
    layout : str
    songs : list of SongFiles

    Raises
    ------
    UsageError
        Unknown layout or split, one that does not fit, or no song left.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"unknown layout '{layout}': {nearest(layout, [*LAYOUTS, 'auto'])}")
    if split is not None and split not in SPLITS:
        raise UsageError(f"unknown split '{split}': {nearest(split, SPLITS)}")
    if not root.is_dir():
        raise UsageError(f"{root} is {'a file' if root.exists() else 'missing'}: the folder of a data set is wanted")
    found: list[tuple[str, SongFiles]] = []
    for name in _ORDER if layout == "auto" else (layout,):
        found = _FINDERS[name](root)
        if found and (layout != "auto" or name != "mir1k" or _like_mir1k(root, found)):
            layout = name
            break
    else:
        wanted = LAYOUTS[layout] if layout != "auto" else "one of " + "; ".join(f"{k}: {v}" for k, v in LAYOUTS.items())
        what = "no layout that is known" if layout == "auto" else f"not the layout {layout}"
        raise UsageError(f"{root} has {what}: wanted {wanted}; found {_contents(root)}")
    if layout == "pack" and split_of is not None:
        found = [(split_of(f"{song.name}/vocals"), song) for _, song in found]
    splits = {part for part, _ in found}
    if splits == {""}:
        if split not in (None, "all"):
            raise UsageError(f"{root} (layout {layout}) is not split into training and test: leave --split out")
    else:
        wanted = split or "test"
        found = [(part, song) for part, song in found if wanted in (part, "all")]
        if not found:
            raise UsageError(f"{root} (layout {layout}) has no songs of the split '{wanted}': it has {_listed(splits)}")
    songs = [replace(song, name=_printable(song.name), split=part) for part, song in found]
    songs.sort(key=lambda song: song.name)
    chosen = [song for song in songs if not patterns or any(fnmatch.fnmatch(song.name, text) for text in patterns)]
    if not chosen:
        names = ", ".join(song.name for song in songs[:8]) + (", ..." if len(songs) > 8 else "")
        raise UsageError(f"no song of {root} is called {' or '.join(patterns)} (songs: {names})")
    return layout, chosen


def _printable(name: str) -> str:
    """A name as text that can be written: what is no UTF-8 in it, as in archives of old, as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(sorted(texts))


def _contents(root: Path) -> str:
    """What lies in a folder, short enough for a message."""
    inside = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    return (", ".join(inside[:6]) + (f" and {len(inside) - 6} more" if len(inside) > 6 else "")) or "nothing"


def _sound(folder: Path, stem: str) -> Path | None:
    """The sound file called `stem` with any suffix."""
    for path in sorted(folder.glob(f"{stem}.*")):
        if path.suffix.lower().lstrip(".") in SUFFIXES and path.stem == stem and path.is_file():
            return path
    return None


def _files(root: Path) -> Iterator[Path]:
    """All files below a folder, behind links to folders too; each folder once."""
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        yield from (Path(folder) / name for name in names)


def _folders(root: Path) -> list[Path]:
    return sorted({path.parent for path in _files(root) if path.is_file()})


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix() if folder != root else folder.resolve().name


def _song(name: str, folder: Path, mixture: Path | None, band: Sequence[str]) -> SongFiles:
    """A song of `folder`; what is missing becomes its fault."""
    files = {stem: _sound(folder, stem) for stem in ("vocals", *band)}
    missing = [f"{stem}.*" for stem, path in files.items() if path is None]
    fault = f"{', '.join(missing)} missing in {folder}; found {_contents(folder)}" if missing else ""
    music = tuple(Part(path) for stem in band if (path := files[stem]) is not None)
    voice = tuple(Part(path) for path in (files["vocals"],) if path is not None)
    stems = _BAND if band == _BAND and not missing else ()
    return SongFiles(name, voice, music, Part(mixture) if mixture else None, fault, stems)


def _folder(root: Path) -> list[tuple[str, SongFiles]]:
    found = []
    for folder in _folders(root):
        if _sound(folder, "vocals") or _sound(folder, "accompaniment"):
            song = _song(_name(folder, root), folder, _sound(folder, "mixture"), ("accompaniment",))
            found.append(("", song))
    return found


def _pack(root: Path) -> list[tuple[str, SongFiles]]:
    found = []
    for place in ("paired", "paired16k"):
        for _, song in _folder(root / place) if (root / place).is_dir() else ():
            found.append(("", SongFiles(f"{place}/{song.name}", song.vocals, song.accompaniment, None, song.fault)))
    return found


def _split_name(path: Path, root: Path) -> str:
    """``train`` or ``test``, where a folder of that name is on the way; else nothing."""
    on_the_way = {part.lower() for part in path.relative_to(root).parts}
    return next((name for name in ("train", "test") if name in on_the_way), "")


def _musdb18(root: Path) -> list[tuple[str, SongFiles]]:
    found = []
    for path in sorted(path for path in _files(root) if path.name.endswith(".stem.mp4")):
        parts = {stem: Part(path, stream=number) for stem, number in _STREAMS.items()}
        name = path.relative_to(root).as_posix().removesuffix(".stem.mp4")
        band = tuple(parts[stem] for stem in _BAND)
        found.append(
            (_split_name(path, root), SongFiles(name, (parts["vocals"],), band, parts["mixture"], stems=_BAND))
        )
    banded = bool(found)
    for folder in _folders(root):
        there = [_sound(folder, stem) is not None for stem in _BAND]
        whole = all(there) or not _sound(folder, "accompaniment")
        if whole and (any(there) or (_sound(folder, "vocals") and _sound(folder, "mixture"))):
            song = _song(_name(folder, root), folder, _sound(folder, "mixture"), _BAND)
            found.append((_split_name(folder, root), song))
            banded |= any(there)
    if not banded:  # songs of another layout
        return []
    return list({song.name: (part, song) for part, song in found}.values())  # decoded ones rather than .stem.mp4


def _dsd100(root: Path) -> list[tuple[str, SongFiles]]:
    found = []
    for place, split in (("Dev", "train"), ("Test", "test")):
        for folder in sorted((root / "Sources" / place).glob("*")):
            if folder.is_dir() and (root / "Mixtures").is_dir():
                mixture = _sound(root / "Mixtures" / place / folder.name, "mixture")
                song = _song(f"{place}/{folder.name}", folder, mixture, _BAND)
                if mixture is None and not song.fault:
                    where = root / "Mixtures" / place / folder.name
                    song = SongFiles(song.name, (), (), None, f"mixture.* missing in {where}")
                found.append((split, song))
    return found


def _mir1k(root: Path) -> list[tuple[str, SongFiles]]:
    folder = next((place for place in (root / "Wavfile", root / "Wavefile") if place.is_dir()), root)
    found = []
    for path in sorted(folder.glob("*.wav")):
        singer = path.stem.partition("_")[0]
        split = "train" if singer.lower() in _MIR1K_TRAINING else "test"
        found.append((split, SongFiles(path.stem, (Part(path, channel=1),), (Part(path, channel=0),))))
    return found


def _like_mir1k(root: Path, found: list[tuple[str, SongFiles]]) -> bool:
    """Whether stereo files are called as MIR-1K's are: any folder of songs would do otherwise."""
    named = all(re.fullmatch(r"[A-Za-z]+_\d+(_\d+)?", song.name) for _, song in found)
    return named or not any(root.glob("*.wav"))


_FINDERS: dict[str, Callable[[Path], list[tuple[str, SongFiles]]]] = {
    "folder": _folder,
    "musdb18": _musdb18,
    "dsd100": _dsd100,
    "mir1k": _mir1k,
    "pack": _pack,
}
_ORDER = ("dsd100", "pack", "musdb18", "folder", "mir1k")
