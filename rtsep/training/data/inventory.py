"""What the training data hold: hours, singers, band-width and licence of each source, as a Markdown table.

    python -m rtsep.training.data.inventory DATA [MORE ...] > docs/data.md

A source is all files whose names begin alike (`eir_*`; `deb-*` is what `rtsep.training.data.packages` and
`rtsep.training.data.speakers` took). The band-width is measured: under it lies all but a millionth of the sound of a
source (of at most four files of it, 40 s from all over each).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile

from rtsep.errors import UsageError
from rtsep.training.data.sources import PACKAGED, is_dev, is_validation
from rtsep.training.data.tools import run

FOLDERS = ("paired", "paired16k", "vocals", "vocals16k", "accompaniment", "loops")
SAMPLED, PIECES, SECONDS, BLOCK = 4, 8, 5, 4096
# (who, terms) as stated where the sound was found; a made source has the terms of what it was made of.
SOURCES = {
    "eir": ("one band", "CC0-1.0"),
    "mir1k": ("", "none stated (MIR-1K, a research data set)"),
    "scottpoid": ("1", "its own: commercial use, editing, redistribution with the name SCOTTPOID and changes stated"),
    "dorodoro": ("1", "its own: free to use, also for profit"),
    "erithacus": ("1", "CC BY 4.0"),
    "tsp": ("2 speakers", "its own (TSP speech, LICENSE of posenhuang/deeplearningsourceseparation)"),
    "alys": ("1", "GPL-3.0"),
    "ibuki": ("1", "GPL-2.0"),
    "yuki": ("1", "public domain"),
    "kumi": (
        "1",
        "its own: commercial use, editing, redistribution with name, credit and link; not for sale by itself",
    ),
    "nitsong070": ("1", "MIT where it was found; terms of the origin not stated"),
    "vocadito": ("1", "CC BY 4.0"),
    "smstools": ("3", "CC BY 4.0"),
    "opensurge": ("", "CC BY-SA 3.0, CC BY 3.0 to 4.0, CC0, by track"),
    "valyria": ("", "CC BY, CC BY-SA, GPL, by track"),
    "beatgame": ("", "CC BY-SA 3.0 and free packs, by track"),
    "spd": ("", "GPL-3.0"),
    "neverball": ("", "GPL-2.0-or-later"),
    "xmoto": ("", "GPL-2.0"),
    "lincity": ("", "GPL-2.0, CC BY-SA 2.0"),
    "openclonk": ("", "CC BY 3.0"),
    "yorg": ("", "CC BY-SA, version not stated"),
    "abeast": ("", "CC BY-SA 4.0"),
    "digabi": ("", "CC BY 3.0, CC BY-SA 3.0"),
    "librosa": ("", "CC BY 3.0, public domain"),
    "kmacleod": ("", "CC BY 4.0"),
    "mdn": ("", "CC0-1.0"),
    "pixelwheels": ("", "CC BY-SA 4.0"),
    "raylib": ("", "CC0-1.0"),
    "tuxemon": ("", "CC BY-SA 4.0, CC BY 3.0"),
    "sonicpi": ("", "CC0-1.0"),
    "deb": ("", "free by Debian's guidelines (GPL, CC BY, CC BY-SA, CC0 and others): each package's copyright file"),
    "score": ("", "scores POP909: MIT; sound font FluidR3: MIT; the voice named at the end of each name: as there"),
    "cover": ("", "as the song that each is made of"),
}


def band_hz(paths: list[Path]) -> float:
    """Frequency under which all but a millionth of the energy of files lies."""
    power, rate = np.zeros(BLOCK // 2 + 1), 48000
    for path in paths[:: max(1, -(-len(paths) // SAMPLED))]:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            for start in np.linspace(0, max(file.frames - SECONDS * rate, 0), PIECES).astype(int):
                file.seek(int(start))
                mono = file.read(SECONDS * rate, dtype="float32", always_2d=True).mean(1)
                blocks = mono[: len(mono) // BLOCK * BLOCK].reshape(-1, BLOCK)
                power += (np.abs(np.fft.rfft(blocks * np.hanning(BLOCK), axis=1)) ** 2).sum(0)
    total = np.cumsum(power)
    return float(np.searchsorted(total, total[-1] * (1 - 1e-6)) * rate / BLOCK)


def group_of(name: str) -> str:
    """Source of a file by its name; all packages of a distribution are one source."""
    group = name.split("_", maxsplit=1)[0]
    return "deb" if group.startswith(PACKAGED) else group


def singers(group: str, names: set[str], voices: bool = False) -> str:
    """How many people sing in the songs or recordings of a source; `voices`: a source of voices alone."""
    if group == "deb":
        return f"{len(names)} speakers" if voices else ""
    if group == "mir1k":
        return str(len({name.split("_")[1] for name in names}))
    if group == "score":
        people = {name.split("_", 2)[2] for name in names if name.count("_") > 1}  # an accompaniment names no voice
        return f"{len(people)}, with formants moved" if people else ""
    return f"{len(names)} drawn" if group == "cover" else SOURCES.get(group, ("", ""))[0]


def table(roots: list[Path]) -> str:
    """The Markdown table of all folders.

    Raises
    ------
    UsageError
        If they hold no sound.
    """
    sources: dict[tuple[str, str], list[Path]] = {}
    for root in roots:
        for folder in FOLDERS:
            for path in sorted([*(root / folder).glob("*.opus"), *(root / folder).glob("*/vocals.opus")]):
                name = path.parent.name if path.name == "vocals.opus" else path.stem
                sources.setdefault((folder, group_of(name)), []).append(path)
    if not sources:
        raise UsageError(f"no sound in {', '.join(map(str, roots))}: wanted {', '.join(FOLDERS)} with *.opus")
    lines = [
        "| folder | source | files | hours | of these dev, validation | singers | up to kHz | terms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (folder, group), paths in sources.items():
        names = {p.parent.name if p.name == "vocals.opus" else p.stem for p in paths}
        hours = sum(soundfile.info(p).duration for p in paths) / 3600
        held = f"{sum(map(is_dev, paths))}, {sum(map(is_validation, paths))}"
        row = (
            folder,
            "deb-*" if group == "deb" else f"{group}_*",
            len(paths),
            f"{hours:.2f}",
            held,
            singers(group, names, folder.startswith("vocals")),
        )
        terms = SOURCES.get(group, ("", "not stated"))[1]
        lines.append("| " + " | ".join(map(str, (*row, f"{band_hz(paths) / 1000:.1f}", terms))) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    text = table(parser.parse_args().data)
    print(
        "# The sound that the nets learn from\n\n"
        f"Made by `python -m rtsep.training.data.inventory DATA > docs/data.md`.\n\n{text}"
    )


if __name__ == "__main__":
    run(main)
