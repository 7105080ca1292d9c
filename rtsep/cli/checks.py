"""The checks of `rtsep doctor`. None changes anything, none starts a server."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtsep import __version__
from rtsep.errors import RtsepError


@dataclass(frozen=True, slots=True)
class Result:
    """What a check has found.

    Parameters
    ----------
    name : str
        What was checked.
    state : {"ok", "miss", "warn", "fail"}
        Well; not there, which may be fine; works worse than it could; nothing works so.
    text : str
        What was found.
    fix : str
        Package or command that mends it.
    """

    name: str
    state: Literal["ok", "miss", "warn", "fail"]
    text: str
    fix: str = ""


def program() -> list[Result]:
    """Versions, and whether the compiled sound path loads."""
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    text = f"rtsep {__version__}, Python {platform.python_version()}, {system}"
    results = [Result("program", "ok", text)]
    for name, module, what in (("FFTW", "rtsep.dsp.stft", "pyfftw"), ("resampler", "rtsep.dsp.resample", "samplerate")):
        results.append(_importable(name, module, f"pip install --force-reinstall {what}"))
    results.append(_importable("sound files", "soundfile", "sudo apt install libsndfile1"))
    return results


def cache() -> list[Result]:
    """Whether compiled code can be kept from start to start."""
    place = os.environ.get("NUMBA_CACHE_DIR") or str(Path(__file__).resolve().parent.parent / "dsp" / "__pycache__")
    home = Path.home() / ".cache"
    if os.access(Path(place).parent if not Path(place).exists() else place, os.W_OK) or os.access(home, os.W_OK):
        return [Result("compiler", "ok", "what Numba compiles is kept for the next start")]
    fix = "export NUMBA_CACHE_DIR=/a/folder/that/you/may/write"
    return [Result("compiler", "warn", "compiled code cannot be kept: every start takes a minute", fix)]


def inference() -> list[Result]:
    """ONNX Runtime and its providers."""
    from rtsep.separators.ort import library

    try:
        import onnxruntime
    except ImportError as error:
        return [
            Result("onnxruntime", "fail", f"cannot be imported ({error})", "pip install 'rtsep[cpu]' (or 'rtsep[gpu]')")
        ]
    providers = [p for p in onnxruntime.get_available_providers() if not p.startswith("Azure")]  # a remote service
    names = [p.removesuffix("ExecutionProvider") for p in providers]
    result = Result("onnxruntime", "ok", f"{onnxruntime.__version__}, runs on {', '.join(names)}")
    if library() is None:
        what = f"{onnxruntime.__version__} has no C library that can be used: a busy Python thread makes masks late"
        result = Result("onnxruntime", "warn", what, "pip install 'onnxruntime>=1.19'")
    if "CUDA" not in names and Path("/dev/nvidia0").exists():
        fix = "pip uninstall onnxruntime && pip install 'rtsep[gpu]'"
        return [result, Result("CUDA", "warn", "there is a GPU, but onnxruntime cannot use it", fix)]
    return [result]


def models() -> list[Result]:
    """Model folders: manifest and checksum."""
    from rtsep.separators import manifest
    from rtsep.separators.registry import names

    results = []
    for entry in names():
        fault = entry.fault
        if entry.kind == "model" and not fault:
            try:
                manifest.read_file(Path(entry.origin), manifest.read(Path(entry.origin)))
            except RtsepError as error:
                fault = str(error)
        if fault:
            results.append(Result("model", "fail" if entry.kind == "model" else "warn", fault))
        elif entry.kind == "model":
            results.append(Result("model", "ok", f"{entry.name}: checksum matches"))
    return results or [Result("model", "warn", "no model folder found: only the methods without a net work")]


def portaudio() -> list[Result]:
    """PortAudio, and the devices of all backends."""
    from rtsep.io.devices import list_devices, live_devices, portaudio_devices

    try:
        portaudio_devices()
    except RtsepError as error:
        return [Result("PortAudio", "warn", str(error), "sudo apt install libportaudio2 libasound2-plugins")]
    found = list_devices()
    if not any(live_devices(found)):
        fix = "plug a sound card in, or start a sound server (PipeWire, PulseAudio, JACK)"
        return [Result("devices", "warn", "no microphone and no speakers: only files and the built-in song", fix)]
    inputs, outputs = sum(d.inputs > 0 for d in found), sum(d.outputs > 0 for d in found)
    return [Result("devices", "ok", f"{inputs} for input, {outputs} for output (`rtsep devices`)")]


def jack() -> list[Result]:
    """JACK: library and server."""
    from rtsep.io.jack_client import connect_client, libjack

    try:
        libjack()
    except RtsepError as error:
        return [
            Result("JACK", "miss", str(error), "pip install 'rtsep[jack]'; sudo apt install pipewire-jack (or jackd2)")
        ]
    try:
        _, client, _ = connect_client("rtsep-doctor")
    except RtsepError:
        return [Result("JACK", "miss", "no server runs (with PipeWire: pw-jack rtsep ...)")]
    text = f"server runs at {client.samplerate} Hz, blocks of {client.blocksize} frames"
    client.close()
    return [Result("JACK", "ok", text)]


def pulse() -> list[Result]:
    """PulseAudio, or PipeWire in its place."""
    if ctypes.util.find_library("pulse-simple") is None:
        return [Result("PulseAudio", "miss", "libpulse is not installed", "sudo apt install libpulse0")]
    if shutil.which("pactl") is None:
        fix = "sudo apt install pulseaudio-utils"
        return [
            Result("PulseAudio", "miss", "pactl is not installed: pulse: and pipewire: names cannot be listed", fix)
        ]
    try:
        plain = {**os.environ, "LC_ALL": "C"}  # its answer is in the user's language
        reply = subprocess.run(["pactl", "info"], capture_output=True, text=True, timeout=5, check=False, env=plain)
    except subprocess.TimeoutExpired:
        return [Result("PulseAudio", "warn", "the server does not answer", "systemctl --user restart pipewire-pulse")]
    server = [line.partition(":")[2].strip() for line in reply.stdout.splitlines() if line.startswith("Server Name")]
    if reply.returncode or not server:
        fix = "systemctl --user start pipewire-pulse (or: pulseaudio --start)"
        return [Result("PulseAudio", "miss", "neither PulseAudio nor PipeWire runs for this user", fix)]
    return [Result("PulseAudio", "ok", f"{server[0]} runs")]


def realtime() -> list[Result]:
    """Real-time priority and locked memory."""
    from rtsep.engine.realtime import can_lock_memory, can_raise_priority

    fix = (
        "printf '@audio - rtprio 95\\n@audio - memlock unlimited\\n' | sudo tee /etc/security/limits.d/95-audio.conf; "
        'sudo usermod -aG audio "$USER"; then log in anew'
    )
    results = []
    for name, able, good, bad in (
        (
            "priority",
            can_raise_priority(),
            "SCHED_FIFO is permitted",
            "real-time priority is not permitted: drop-outs under load",
        ),
        ("memory", can_lock_memory(), "may be locked", "may not be locked: drop-outs when the system swaps"),
    ):
        results.append(Result(name, "ok", good) if able else Result(name, "warn", bad, fix))
        fix = "" if not able else fix
    return results


def governor() -> list[Result]:
    """Whether the clock of the CPU may fall between two hops."""
    files = list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    found = {path.read_text().strip() for path in files}
    if not found:
        return [Result("governor", "ok", "the system does not throttle the CPU here")]
    text = f"CPU governor: {', '.join(sorted(found))}"
    if found <= {"performance", "schedutil"}:
        return [Result("governor", "ok", text)]
    return [
        Result(
            "governor",
            "warn",
            f"{text}: the clock may be low when a hop comes",
            "sudo cpupower frequency-set -g performance",
        )
    ]


def ffmpeg() -> list[Result]:
    """ffmpeg, for files that libsndfile does not read."""
    if shutil.which("ffmpeg"):
        return [Result("ffmpeg", "ok", "reads what libsndfile does not (m4a, wma, video)")]
    return [Result("ffmpeg", "miss", "not installed: no m4a, wma or video files", "sudo apt install ffmpeg")]


def configuration() -> list[Result]:
    """The user's configuration file."""
    from rtsep.config import default_path, load

    try:
        load()
    except RtsepError as error:
        return [Result("config", "fail", str(error))]
    path = default_path()
    return [
        Result("config", "ok", f"{path}" if path.is_file() else "defaults (`rtsep config init` writes a file to edit)")
    ]


def _importable(name: str, module: str, fix: str) -> Result:
    import importlib

    try:
        found = importlib.import_module(module)
    except (ImportError, OSError) as error:
        return Result(name, "fail", f"cannot be loaded ({error})", fix)
    version = getattr(found, "__version__", "")
    return Result(name, "ok", f"loads{f' ({module} {version})' if version else ''}")


CHECKS: tuple[Callable[[], list[Result]], ...] = (
    program,
    cache,
    inference,
    models,
    portaudio,
    jack,
    pulse,
    realtime,
    governor,
    ffmpeg,
    configuration,
)
