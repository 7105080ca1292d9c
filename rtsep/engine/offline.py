"""Files through the live chain, faster than real time: the same compiled hop, called without threads or deadlines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.resample import Resampler
from rtsep.engine.chain import Chain
from rtsep.engine.stream import engine_rate
from rtsep.errors import RtsepError, UsageError, nearest
from rtsep.io.folders import made_folder
from rtsep.io.reader import SoundReader, read_blocks
from rtsep.io.writer import FORMATS, SoundWriter, check_target
from rtsep.separators.base import OTHER, Separator
from rtsep.separators.profiles import resolve
from rtsep.separators.registry import create
from rtsep.spec import PROFILES, StreamSpec

Sound = NDArray[np.float32]


def split(separator: Separator, sound: Sound, samplerate: int, hop: int = PROFILES["live"]) -> tuple[Sound, Sound]:
    """Vocals and accompaniment of a whole sound, aligned with it.

    Parameters
    ----------
    separator : Separator
        Prepared here.
    sound : ndarray of float32, shape (channels, frames)
        The mixture.
    samplerate : int
        In Hz; one that the separator supports.
    hop : int
        In frames, where the separator does not require one.

    Returns
    -------
    vocals, accompaniment : ndarray of float32, shape (channels, frames)
        Their sum is `sound`.
    """
    chain = Chain(separator, StreamSpec(samplerate, sound.shape[0], separator.required_hop(samplerate) or hop))
    vocals = np.concatenate(list(_parts(chain, iter([sound]))), axis=1)[: len(sound)]
    return vocals, sound - vocals


def split_stems(separator: Separator, sound: Sound, samplerate: int, hop: int = PROFILES["live"]) -> dict[str, Sound]:
    """Vocals, the separator's stems and the rest of the music, by name, aligned with a whole sound: their sum.

    Parameters are those of `split`. Without stems the rest is the accompaniment, under the name of the rest.
    """
    chain = Chain(separator, StreamSpec(samplerate, sound.shape[0], separator.required_hop(samplerate) or hop))
    found = np.concatenate(list(_parts(chain, iter([sound]))), axis=1)
    parts = found.reshape(-1, *sound.shape)
    named = dict(zip(("vocals", *separator.stems), parts, strict=True))
    return {**named, OTHER: sound - parts.sum(0)}


def _parts(chain: Chain, blocks: Iterator[Sound]) -> Iterator[Sound]:
    """Vocals of blocks (channels, frames) of any length, aligned with them and as long as them; rows of the stems after
    them.
    """
    hop = chain.spec.hop
    rest = np.zeros((chain.spec.channels, 0), np.float32)
    stems = chain.memory.stems.reshape(-1, hop)
    behind, frames, given = chain.latency, 0, 0

    def run(sound: Sound) -> Iterator[Sound]:
        nonlocal behind, given
        for start in range(0, sound.shape[1], hop):
            vocals, _ = chain.process(np.ascontiguousarray(sound[:, start : start + hop]))
            skip = min(behind, hop)
            behind -= skip
            piece = np.concatenate([vocals, stems])[:, skip:]
            given += piece.shape[1]
            yield piece

    for block in blocks:
        frames += block.shape[1]
        sound = np.concatenate([rest, block], axis=1)
        whole = sound.shape[1] - sound.shape[1] % hop
        rest = sound[:, whole:]
        yield from run(sound[:, :whole])
    missing = frames - given
    tail = np.zeros((chain.spec.channels, math.ceil((missing + behind) / hop) * hop), np.float32)
    tail[:, : rest.shape[1]] = rest
    for piece in run(tail):
        take = min(missing, piece.shape[1])
        missing -= take
        if take:
            yield piece[:, :take]


def _converted(blocks: Iterator[Sound], channels: int, ratio: float) -> Iterator[Sound]:
    """Blocks (channels, frames) at another rate, aligned in time."""
    resampler = Resampler(channels)
    for block in blocks:
        yield resampler.push(np.ascontiguousarray(block.T), ratio).T
    yield resampler.push(np.zeros((0, channels), np.float32), ratio, last=True).T


def separate_file(
    path: Path,
    out_dir: Path,
    *,
    separator: str | None = None,
    hop: int = PROFILES["live"],
    format: str = "wav",  # as the option is called
    overwrite: bool = False,
    params: Mapping[str, str] | None = None,
    device: str = "auto",
    progress: Callable[[float], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Separate a file with exactly the live chain.

    Parameters
    ----------
    path : Path
        Any format that `rtsep.io.reader` reads; mono or stereo.
    out_dir : Path
        ``out_dir/<name>/vocals.<format>`` and ``accompaniment.<format>`` are written: same length and rate as the
        input, sample-aligned with it, and their sum is the input. Where the separator tells stems apart, they and the
        rest of the music are written as well; their sum is the accompaniment.
    separator : str, optional
        Name or model folder; the one of the profile ``live`` if not given.
    hop : int
        In frames, where the separator does not require one.
    format : str
        One of `rtsep.io.writer.FORMATS`.
    overwrite : bool
        Replace files that exist.
    params : mapping of str to str
        Parameters of the separator.
    device : {"auto", "cpu", "cuda"}
        For neural separators.
    progress : callable
        Gets the share that is done, 0 to 1.
    warn : callable
        Gets a line where samples were above full scale and the format has cut them.

    Returns
    -------
    tuple of Path
        Vocals, accompaniment, and a file for each part of it.

    Raises
    ------
    UsageError
        For an input that cannot be read or an output that cannot be written.
    ModelError
        If the model cannot be used, or fails.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}': {nearest(format, FORMATS)}")
    plug_in = create(resolve(separator, "live", device)[0], device=device)
    for name, value in (params or {}).items():
        plug_in.params.set(name, value)
    with read_blocks(path) as first:
        first.check_samples()
        rate, channels, total = first.native_rate, first.channels, first.frames
    folder = out_dir / path.stem
    paths = tuple(folder / f"{name}.{format}" for name in ("vocals", "accompaniment", *plug_in.parts))
    wanted = engine_rate(rate, plug_in)
    chain = Chain(plug_in, StreamSpec(wanted, channels, plug_in.required_hop(wanted) or hop))
    with made_folder(folder), read_blocks(path, samplerate=wanted) as reader:
        for target in paths:
            check_target(target, overwrite)
        parts = _parts(chain, iter(reader))
        if wanted != rate:
            parts = _converted(parts, (1 + len(plug_in.stems)) * channels, rate / wanted)
        with read_blocks(path) as mixture:
            cut = _write(parts, mixture, paths, rate, channels, overwrite, total, progress)
    if cut and warn is not None:
        warn(f"{cut} samples above full scale are cut in {format}: --format wav keeps them")
    return paths


def _write(
    parts: Iterator[Sound],
    mixture: SoundReader,
    paths: tuple[Path, ...],
    rate: int,
    channels: int,
    overwrite: bool,
    total: int,
    progress: Callable[[float], None] | None,
) -> int:
    """Write vocals, mixture - vocals, stems and what they leave block by block; all files or none get their names.

    Returns the number of samples that the format has cut.
    """
    writers: list[SoundWriter] = []
    try:
        for path in paths:
            writers.append(SoundWriter(path, rate, channels, overwrite))
        rows = max(1, len(paths) - 2) * channels
        waiting = np.zeros((rows, 0), np.float32)
        done = 0
        for block in mixture:
            while waiting.shape[1] < block.shape[1]:
                piece = next(parts, None)
                if piece is None:
                    # Two conversions of rate may round the length: never by more than a few frames.
                    piece = np.zeros((rows, block.shape[1] - waiting.shape[1]), np.float32)
                waiting = np.concatenate([waiting, piece], axis=1)
            found, waiting = waiting[:, : block.shape[1]], waiting[:, block.shape[1] :]
            if not np.isfinite(found).all():
                raise RtsepError(
                    f"the separator gave values that are not finite near {done / rate:.2f} s; nothing was written"
                )
            voice, *stems = found.reshape(-1, *block.shape)
            music = block - voice
            rest = [music - sum(stems)] if stems else []
            for writer, sound in zip(writers, (voice, music, *stems, *rest), strict=True):
                writer.write(sound)
            done += block.shape[1]
            if progress is not None and total:
                progress(min(1.0, done / total))
        for writer in writers:
            writer.close()
    except BaseException:
        for writer in writers:
            writer.abort()
        raise
    return sum(writer.clipped for writer in writers)
