"""Real audio servers without a sound card: JACK2's dummy driver, PulseAudio and PipeWire with null sinks.

Each runs in fresh folders under a name of its own, so that servers of several test runs do not meet, and is ended by
its process id. A start that fails says so with the server's log.

    with jack_server(48000, 128) as server: JackDriver(server=server.name) ...
    with pulse_server() as server: subprocess.run(..., env=server.env)
    with pipewire_session() as session: subprocess.run(..., env=session.jack_env(128))
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.conftest import need

#: A machine that builds or trains beside the tests starts servers slowly.
START_S = 30.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_OWN = ("XDG_RUNTIME_DIR", "HOME", "DBUS_SESSION_BUS_ADDRESS", "PULSE_SERVER", "PULSE_COOKIE", "ALSA_CONFIG_PATH")


class ServerError(AssertionError):
    """A server that did not start, with the end of its log."""


class Server:
    """Processes of one server, the folder that they live in and the environment that finds them.

    Attributes
    ----------
    env : dict
        Environment for programs that are to use this server.
    folder : Path
        Fresh folder (mode 700); the logs are in it.
    """

    def __init__(self, prefix: str) -> None:
        # Sockets need short paths, so not pytest's folders.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir="/tmp"))
        self.env = {
            key: value for key, value in os.environ.items() if key not in _OWN and not key.startswith("PIPEWIRE")
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def own_folders(self) -> None:
        """Give the server a home and a run-time folder of its own."""
        for name, key in (("home", "HOME"), ("run", "XDG_RUNTIME_DIR")):
            (self.folder / name).mkdir(mode=0o700)
            self.env[key] = str(self.folder / name)

    def start(self, command: Sequence[str], ready: Callable[[], bool]) -> None:
        """Start a daemon and wait until `ready` holds."""
        name = command[0]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        limit = time.monotonic() + START_S
        while not ready():
            code = self.processes[name].poll()
            if code is not None or time.monotonic() > limit:
                state = f"ended with {code}" if code is not None else f"not ready after {START_S:.0f} s"
                raise ServerError(f"{' '.join(command)}: {state}\n{self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        """Last lines of all logs."""
        texts = [(path.name, path.read_text(errors="replace")) for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(f"--- {name}\n{text[-2000:]}" for name, text in texts)

    def end(self, name: str, how: int = signal.SIGTERM) -> None:
        """End one daemon by its process id and wait for it."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *command: str, timeout: float = 20) -> str:
        """Output of a program that uses this server."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise ServerError(f"{' '.join(command)}: {done.returncode}\n{done.stderr}\n{self.log()}")
        return done.stdout

    def succeeds(self, *command: str) -> bool:
        """Whether a program that uses this server ends well."""
        done = subprocess.run(command, env=self.env, capture_output=True, timeout=20, check=False)
        return done.returncode == 0

    def close(self) -> None:
        """End all, newest first, and remove the folder."""
        for name in reversed(list(self.processes)):
            with contextlib.suppress(ProcessLookupError):
                self.end(name)
        shutil.rmtree(self.folder, ignore_errors=True)


class JackServer(Server):
    """JACK2 with the dummy driver.

    Attributes
    ----------
    name : str
        For ``JackDriver(server=...)``; programs find it by ``JACK_DEFAULT_SERVER`` in `env`.
    """

    def __init__(self, rate: int, block: int, channels: int) -> None:
        super().__init__("jack")
        self.own_folders()
        self.name = self.folder.name
        self.rate, self.block, self.channels = rate, block, channels
        self.env |= {"JACK_DEFAULT_SERVER": self.name, "JACK_NO_START_SERVER": "1"}
        self.env.pop("JACK_PROMISCUOUS_SERVER", None)

    def launch(self, rate: int | None = None, block: int | None = None) -> None:
        """Start the server, also again after `kill`, where wanted with another rate or period."""
        self.rate, self.block = rate or self.rate, block or self.block
        self._sweep()
        channels = str(self.channels)
        driver = ["-d", "dummy", "-r", str(self.rate), "-p", str(self.block), "-C", channels, "-P", channels]
        try:
            self.start(["jackd", "-R", "-P", "80", *driver], self._answers)
        except ServerError:
            if "jackd" in self.processes:
                self.end("jackd", signal.SIGKILL)
            self._sweep()
            self.start(["jackd", "-r", *driver], self._answers)

    def kill(self) -> None:
        """End the server as a crash would."""
        self.end("jackd", signal.SIGKILL)

    def revive(self) -> JackServer:
        """Start it anew if it runs no more cycles: on a machine that stood still its thread may not have come back."""
        if not self._runs():
            self.kill()
            self.launch()
        return self

    def _runs(self) -> bool:
        from rtsep.errors import DeviceError
        from tests.e2e.jack_probe import EmptyClient

        limit = time.monotonic() + 5.0
        with contextlib.suppress(DeviceError), EmptyClient(self.name) as client:
            while time.monotonic() < limit:
                if client.cycles > 2:
                    return True
                time.sleep(0.005)
        return False

    def close(self) -> None:
        """End it and remove what it leaves in shared memory."""
        super().close()
        self._sweep()

    def _answers(self) -> bool:
        from rtsep.errors import DeviceError
        from rtsep.io.jack_client import connect_client

        if not glob.glob(f"/dev/shm/jack_{self.name}_*"):
            return False
        try:
            _, client, _ = connect_client("ready", self.name)
        except DeviceError:
            return False
        client.close()
        return True

    def _sweep(self) -> None:
        # Only what bears this server's name: the registry serves all servers, and a process maps it once for its life.
        for path in glob.glob(f"/dev/shm/jack_{self.name}_*") + glob.glob(f"/dev/shm/jack_sem.*_{self.name}_*"):
            with contextlib.suppress(OSError):
                os.unlink(path)


class PulseServer(Server):
    """PulseAudio with null sinks."""

    def __init__(self, sinks: Sequence[str], rate: int) -> None:
        super().__init__("pulse")
        self.own_folders()
        self.env["ALSA_CONFIG_PATH"] = str(_asoundrc(self, sinks))
        self._sinks, self._rate = sinks, rate

    def launch(self) -> None:
        """Start the server, also again after `kill`."""
        # Without rewinds an idle sink keeps a buffer of 50 ms, otherwise of 2 s, in which it heeds no new stream.
        load = [
            part for sink in self._sinks for part in ("-L", f"module-null-sink {_sink(sink, self._rate)} norewinds=1")
        ]
        command = [
            "pulseaudio",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "-n",
            *load,
            "-L",
            "module-native-protocol-unix",
        ]
        self.start(command, lambda: self.succeeds("pactl", "info"))

    def kill(self) -> None:
        """End the server as a crash would."""
        self.end("pulseaudio", signal.SIGKILL)


class PipeWire(Server):
    """A PipeWire session with its PulseAudio and JACK sides."""

    def __init__(self) -> None:
        super().__init__("pipewire")
        self.own_folders()

    def jack_env(self, block: int | None = None, rate: int = 48000) -> dict[str, str]:
        """Environment in which programs find PipeWire's libjack, as ``pw-jack -p BLOCK`` sets it."""
        env = dict(self.env)
        env["LD_LIBRARY_PATH"] = str(_pipewire_libjack())
        if block:
            env["PIPEWIRE_QUANTUM"] = f"{block}/{rate}"
        return env


@contextlib.contextmanager
def jack_server(rate: int = 48000, block: int = 256, channels: int = 2) -> Iterator[JackServer]:
    """A JACK2 server on the dummy driver; real-time where that is permitted."""
    _need_programs("jackd")
    need_libjack()
    server = JackServer(rate, block, channels)
    try:
        server.launch()
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def pulse_server(sinks: Sequence[str] = ("a", "b"), rate: int = 48000) -> Iterator[PulseServer]:
    """A PulseAudio with float32 stereo null sinks; ``SINK.monitor`` is what a sink plays."""
    _need_programs("pulseaudio", "pactl")
    server = PulseServer(sinks, rate)
    try:
        server.launch()
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def pipewire_session(sinks: Sequence[str] = ("a", "b"), rate: int = 48000) -> Iterator[PipeWire]:
    """PipeWire, WirePlumber and pipewire-pulse on a bus of their own, with float32 stereo null sinks."""
    _need_programs("dbus-daemon", "pipewire", "wireplumber", "pipewire-pulse", "pactl", "pw-cli")
    session = PipeWire()
    try:
        run = Path(session.env["XDG_RUNTIME_DIR"])
        address = f"unix:path={run}/bus"
        session.env["DBUS_SESSION_BUS_ADDRESS"] = address
        session.env["ALSA_CONFIG_PATH"] = str(_asoundrc(session, sinks))
        bus = ["dbus-daemon", "--session", f"--address={address}", "--nofork", "--nopidfile"]
        session.start(bus, (run / "bus").exists)
        session.start(["pipewire"], lambda: session.succeeds("pw-cli", "info", "0"))
        session.start(["wireplumber"], lambda: "WirePlumber" in session.run("pw-cli", "list-objects", "Client"))
        (run / "pulse").mkdir(mode=0o700)  # else pactl, which asks meanwhile, may make it just before the daemon does
        session.start(["pipewire-pulse"], lambda: session.succeeds("pactl", "info"))
        for sink in sinks:
            session.run("pactl", "load-module", "module-null-sink", *_sink(sink, rate).split())
        limit = time.monotonic() + START_S
        while not all(f"{sink}.monitor" in session.run("pactl", "list", "short", "sources") for sink in sinks):
            if time.monotonic() > limit:
                raise ServerError(f"the null sinks did not appear\n{session.log()}")
            time.sleep(0.05)
        session.run("pactl", "set-default-sink", sinks[0])
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def environment(env: Mapping[str, str]) -> Iterator[None]:
    """Use a server's environment in this process, for libraries that read it when they connect."""
    before = dict(os.environ)
    changed = {key: value for key, value in env.items() if before.get(key) != value}
    os.environ.update(changed)
    try:
        yield
    finally:
        for key in changed:
            if key in before:
                os.environ[key] = before[key]
            else:
                del os.environ[key]


def _end_with_parent() -> None:
    """A test run that crashes leaves no server behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _sink(name: str, rate: int) -> str:
    return f"sink_name={name} format=float32le rate={rate} channels=2"


def _asoundrc(server: Server, sinks: Sequence[str]) -> Path:
    """Make PortAudio see sinks as ``sink_NAME`` and monitors as ``monitor_NAME``, through ALSA's pulse plug-in."""
    lines = ["</usr/share/alsa/alsa.conf>", "pcm.!default { type pulse }", "ctl.!default { type pulse }"]
    for sink in sinks:
        lines.append(f"pcm.sink_{sink} {{ type pulse device {sink} }}")
        lines.append(f"pcm.monitor_{sink} {{ type pulse device {sink}.monitor }}")
    path = server.folder / "asound.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


def _need_programs(*names: str) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    need(not missing, f"{', '.join(missing)} not installed")


def need_libjack() -> None:
    """Skip a test where libjack is missing."""
    from rtsep.errors import DeviceError
    from rtsep.io.jack_client import libjack

    try:
        libjack()
    except DeviceError as error:
        need(False, str(error))


def _pipewire_libjack() -> Path:
    found = sorted(glob.glob("/usr/lib*/pipewire-0.3/jack") + glob.glob("/usr/lib/*/pipewire-0.3/jack"))
    need(found, "pipewire-jack not installed")
    return Path(found[0])
