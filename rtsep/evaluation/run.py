"""Score separators on a data set: songs in parallel, results kept song by song, so that a second run goes on."""

from __future__ import annotations

import contextlib
import datetime
import math
import multiprocessing
import os
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rtsep
from rtsep.errors import UsageError, nearest
from rtsep.evaluation import layouts, methods, metrics, report, song, tables
from rtsep.io.folders import made_folder
from rtsep.spec import PROFILES

AUDIO = ("flac", "opus")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def evaluate(
    data: Path,
    out: Path,
    separators: Sequence[str],
    *,
    layout: str = "auto",
    split: str | None = None,
    songs: Sequence[str] = (),
    split_of: Callable[[str], str] | None = None,
    metric_names: Sequence[str] | None = None,
    settings: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    hop: int = PROFILES["live"],
    device: str = "cpu",
    jobs: int = 1,
    seconds: float | None = None,
    audio: str = "flac",
    audio_songs: int = 2,
    command: str = "",
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Score separators and write ``scores.json``, ``scores.md``, ``scores.csv``, plots and ``report.html``.

    Parameters
    ----------
    data, out : Path
        Folders of the data set and of the results.
    separators : sequence of str
        Names or model folders.
    layout, split, songs, split_of
        As `rtsep.evaluation.layouts.find_songs` takes them.
    metric_names : sequence of str, optional
        Of `rtsep.evaluation.metrics.METRICS`; the usual ones if missing.
    settings, sweeps, hop, device
        As `rtsep.evaluation.methods.plan` takes them.
    jobs : int
        Processes.
    seconds : float, optional
        Only so much of the middle of each song.
    audio : str
        Suffix of the excerpts, one of `AUDIO`.
    audio_songs : int
        Excerpts are kept of so many songs, the first ones.
    command : str
        Written into the results.
    progress : callable
        Gets songs done, all songs, and the name of the last one.

    Returns
    -------
    dict
        As in ``scores.json``; songs with a ``"fault"`` are listed there, and the others' results kept.

    Raises
    ------
    UsageError
        For what is wrong with the request as a whole.
    ModelError
        For a model that cannot be used.
    """
    if audio not in AUDIO:
        raise UsageError(f"unknown format of sound '{audio}': {nearest(audio, AUDIO)}")
    if seconds is not None and not 1 <= seconds < math.inf:
        raise UsageError(f"{seconds:g} s of each song are too short: at least 1 s is wanted")
    layout, found = layouts.find_songs(data, layout, split, songs, split_of)
    chosen = metrics.chosen_metrics(metric_names, layout)
    report.check_library()
    rows = tuple(methods.plan(separators, settings, sweeps, hop, device))
    code = methods.code_checksum()
    picture = next((files.name for files in found if not files.fault), "")
    with made_folder(out):
        work = [
            song.Job(
                files,
                rows,
                chosen,
                out,
                seconds,
                device,
                code,
                audio if number < audio_songs else "",
                files.name == picture,
            )
            for number, files in enumerate(found)
        ]
        records = _all(work, min(jobs, len(work)), progress)
        results: dict[str, Any] = {
            "rtsep": rtsep.__version__,
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "command": command,
            "data": data.resolve().name,
            "layout": layout,
            "split": split or next(iter({files.split for files in found}), ""),
            "seconds_per_song": seconds,
            "processes": min(jobs, len(work)),
            "metrics": {name: asdict(metrics.METRICS[name]) for name in chosen},
            "methods": [asdict(method) for method in rows],
            "songs": [records[files.name] for files in found],
        }
        results["summary"] = tables.summarize(results)
        tables.write(results, out)
        report.write(results, work, out)
    return results


def _all(work: Sequence[song.Job], jobs: int, progress: Callable[[int, int, str], None] | None) -> dict[str, Any]:
    """Records of all songs by name, from one process or several."""
    records: dict[str, Any] = {}
    for record in _here(work) if jobs <= 1 else _apart(work, jobs):
        records[record["song"]] = record
        if progress is not None:
            progress(len(records), len(work), record["song"])
    return records


def _here(work: Sequence[song.Job]) -> Iterator[dict[str, Any]]:
    yield from map(song.run, work)


def _apart(work: Sequence[song.Job], jobs: int) -> Iterator[dict[str, Any]]:
    """Records as they come; a process that dies costs the songs that were not done, and says so."""
    with _one_thread_each():
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _ignore_interrupt)
        try:
            waiting = {pool.submit(song.run, job): job for job in work}
            for future in as_completed(waiting):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    name = waiting[future].files.name
                    fault = "a process ended unexpectedly (memory?): run it again with fewer --jobs"
                    yield {"song": name, "methods": {}, "fault": fault}
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are started meanwhile compute with one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _ignore_interrupt() -> None:
    """Ctrl-C is for the process that started the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
