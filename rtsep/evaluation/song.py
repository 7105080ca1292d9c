"""One song through every method, and its scores: the work of one process."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtsep.errors import RtsepError, one_line
from rtsep.evaluation import metrics
from rtsep.evaluation.estimates import Probe, estimate
from rtsep.evaluation.layouts import SongFiles
from rtsep.evaluation.methods import FLOOR, Method
from rtsep.evaluation.sound import Song, Sound, load, resampled

#: Length of the sound beside a report.
EXCERPT_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Job:
    """A song and what to do with it; goes to another process."""

    files: SongFiles
    methods: tuple[Method, ...]
    metrics: tuple[str, ...]
    out: Path
    seconds: float | None
    device: str
    code: str  # checksum of the code
    audio: str  # suffix of the sound that is kept; empty for none
    picture: bool  # draw the spectrograms


def slug(name: str) -> str:
    """A file name for a name, one for each."""
    text = re.sub(r"[^\w=,+()-]", "_", name)[:60]
    return text if text == name else f"{text}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def record_path(out: Path, name: str) -> Path:
    """Where the results of a song are kept."""
    return out / "songs" / f"{slug(name)}.json"


def sound_path(job: Job, method: str, target: str) -> Path:
    """Where an excerpt is kept."""
    return job.out / "audio" / slug(job.files.name) / f"{slug(method)}-{target}.{job.audio}"


def picture_path(job: Job, method: str) -> Path:
    """Where the spectrograms of a method are kept."""
    return job.out / "plots" / f"spectrogram-{slug(method)}-{slug(job.files.name)}.png"


def run(job: Job) -> dict[str, Any]:
    """Score a song with all methods that are not scored yet, keep the results, and return them.

    A song that cannot be scored has a ``"fault"``; so has a method that fails on it, whatever the reason: the other
    songs go on. The file of the song is always whole, written beside its place and then renamed, and keeps what it
    had where the song cannot be scored now.
    """
    path = record_path(job.out, job.files.name)
    record: dict[str, Any] = {"song": job.files.name, "methods": {}}
    try:
        inputs = _inputs(job.files)
        old = _read(path)
        known = old.get("methods", {})
        keys = {method.label: _key(job, method, inputs) for method in job.methods}
        kept = {
            method.label: known[method.label]
            for method in job.methods
            if known.get(method.label, {}).get("key") == keys[method.label]
            and _complete(job, method, known[method.label])
        }
        if len(kept) == len(job.methods):
            return {**old, "methods": kept}
        song = load(job.files, job.seconds)
        record |= {"seconds": song.seconds, "samplerate": song.samplerate, "channels": len(song.mixture)}
        record["methods"] = _score(job, song, keys, kept)
        _write(path, {**record, "methods": {**known, **record["methods"]}})
        return record
    except Exception as error:  # a library may refuse what nobody thought of
        return record | {"fault": _fault(error), "methods": {}}


def _fault(error: Exception) -> str:
    """What went wrong, in one line."""
    return " ".join(str(error).split()) if isinstance(error, RtsepError) else one_line(error)


def _score(job: Job, song: Song, keys: dict[str, str], kept: dict[str, Any]) -> dict[str, Any]:
    floor: dict[str, metrics.Scores] = kept.get(FLOOR, {}).get("v3", {})
    found: dict[str, Any] = {}
    excerpt = _excerpt(song)
    stretch = (excerpt.start / song.samplerate, excerpt.stop / song.samplerate) if job.picture else None
    if job.audio:
        _keep_sound(job, song, "truth", song.vocals, song.accompaniment, excerpt)
    for method in job.methods:
        if method.label in kept:
            found[method.label] = kept[method.label]
            continue
        entry: dict[str, Any] = {"key": keys[method.label]}
        try:
            parts, probe = estimate(method, song, job.device, stretch)
            scores = metrics.score(job.metrics, song, **parts)
            if "mir1k" in job.metrics:
                if method.kind == "floor":
                    entry["v3"] = floor = {target: dict(row) for target, row in scores.items()}
                metrics.add_mir1k(scores, floor, "v3" in job.metrics)
            entry["scores"] = scores
            if probe is not None and method.kind == "separator":
                entry |= _facts(probe)
                if job.picture and not method.sweep:
                    _draw(job, method.label, song, parts["vocals"], excerpt, probe)
            if job.audio:
                _keep_sound(job, song, method.label, parts["vocals"], parts["accompaniment"], excerpt)
                entry["audio"] = job.audio
        except Exception as error:  # of any kind: the other methods go on
            entry = {"key": "", "fault": _fault(error)}
        found[method.label] = entry
    return found


def _facts(probe: Probe) -> dict[str, float]:
    """Latency and cost; the first hops, which warm up, do not count."""
    spec = probe.spec
    spent = np.array(probe.durations_ns[8:] or probe.durations_ns) / 1e6
    latency = 2 * spec.hop + probe.latency
    return {
        "samplerate": spec.samplerate,
        "hop": spec.hop,
        "latency_frames": latency,
        "latency_ms": 1000 * latency / spec.samplerate,
        "hop_ms": spec.hop_ms,
        "p50_ms": float(np.percentile(spent, 50)),
        "p99_ms": float(np.percentile(spent, 99)),
    }


def _excerpt(song: Song) -> slice:
    """The stretch with most voice."""
    frames, length = song.mixture.shape[1], min(song.mixture.shape[1], int(EXCERPT_SECONDS * song.samplerate))
    step = song.samplerate // 2
    energy = np.concatenate([[0.0], np.cumsum((song.vocals.astype(np.float64) ** 2).sum(0))])
    starts = np.arange(0, frames - length + 1, step)
    start = int(starts[np.argmax(energy[starts + length] - energy[starts])])
    return slice(start, start + length)


def _keep_sound(job: Job, song: Song, method: str, vocals: Sound, music: Sound, excerpt: slice) -> None:
    """Write excerpts, all of a song with one gain, so that loud songs are not clipped."""
    peak = max(float(np.abs(sound).max()) for sound in (song.mixture, song.vocals, song.accompaniment))
    gain = np.float32(min(1.0, 0.9 / peak))
    rate, container, encoding = (48000, "OGG", "OPUS") if job.audio == "opus" else (song.samplerate, "FLAC", "PCM_16")
    for target, sound in (("vocals", vocals), ("accompaniment", music)):
        path = sound_path(job, method, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        piece = resampled(np.clip(gain * sound[:, excerpt], -1, 1), song.samplerate, rate)
        part = path.with_name(path.name + ".part")
        soundfile.write(part, piece.T, rate, encoding, format=container)
        os.replace(part, path)


def _draw(job: Job, label: str, song: Song, vocals: Sound, excerpt: slice, probe: Probe) -> None:
    from rtsep.evaluation.plots import spectrograms

    sounds = {"mixture": song.mixture, f"estimate: {label}": vocals, "truth": song.vocals}
    pieces = {name: sound[:, excerpt].mean(0) for name, sound in sounds.items()}
    title = f"{song.name}, {excerpt.start / song.samplerate:.1f} to {excerpt.stop / song.samplerate:.1f} s"
    spectrograms(picture_path(job, label), title, song.samplerate, pieces, np.array(probe.masks), probe.spec.samplerate)


def _complete(job: Job, method: Method, entry: dict[str, Any]) -> bool:
    """Whether sound and picture of a method are there, as far as they are wanted, and belong to these results."""
    if job.audio and entry.get("audio") != job.audio:
        return False
    wanted = [sound_path(job, name, target) for name in (method.label, "truth") for target in metrics.TARGETS]
    wanted = wanted if job.audio else []
    if job.picture and method.kind == "separator" and not method.sweep:
        wanted.append(picture_path(job, method.label))
    return all(path.is_file() for path in wanted)


def _inputs(files: SongFiles) -> list[tuple[str, int, int]]:
    """What tells one state of a song's files from another."""
    paths = {part.path for part in (*files.vocals, *files.accompaniment, *([files.mixture] if files.mixture else []))}
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths)]


def _key(job: Job, method: Method, inputs: list[tuple[str, int, int]]) -> str:
    facts = [asdict(method), job.metrics, inputs, job.seconds, job.device, job.code]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "fault" not in found else {}


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
