"""What the engine asks of a backend: drivers own the clock, sources bring sound of their own, sinks take it away."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError


class Driver(ABC):
    """Owner of the stream's clock: calls `rtsep.io.tick.tick` once per period, never from interpreted code.

    Attributes
    ----------
    samplerate : int
        Frames per second of the device, known after `open`.
    blocksize : int
        Largest period in frames, known after `open`; the engine sizes its buffers by it.
    variable : bool
        True where periods may have any length up to `blocksize`.
    inputs, outputs : int
        Channels that the device takes and gives; `inputs` 0: a source feeds the engine; `outputs` 0: only a sink
        hears it.
    realtime : bool
        False where the driver runs as fast as the worker can (freewheel).
    speed : float
        Seconds of sound per second; other than 1 only for long tests in a short time.
    input_latency_frames, output_latency_frames : int
        Of the device itself, as the backend reports them; 0 if unknown.
    linked : bool
        Whether it is connected to something, known after `open`; only a JACK client may not be.
    """

    samplerate: int
    blocksize: int
    variable: bool = False
    inputs: int = 0
    outputs: int = 0
    realtime: bool = True
    speed: float = 1.0
    input_latency_frames: int = 0
    output_latency_frames: int = 0
    linked: bool = True

    @abstractmethod
    def open(self) -> None:
        """Find the device, agree on rate and period; `DeviceError` if it cannot [main thread]."""

    @abstractmethod
    def start(self, context: int) -> None:
        """Begin to tick with the address of a `StreamContext` [main thread]."""

    @abstractmethod
    def stop(self) -> None:
        """End ticking and release the device; harmless when already stopped or lost [main thread]."""

    @property
    def lost(self) -> str:
        """Why the device is gone or has changed and must be opened anew; empty while all is well [any thread]."""
        return ""

    @property
    def xruns(self) -> int:
        """Over- and underruns that the device itself has reported since `start` [any thread]."""
        return 0


class Source(ABC):
    """Sound that does not come from the driver: a file, a pipe, a signal, another device.

    Attributes
    ----------
    samplerate : int
        Native frames per second.
    channels : int
        Native channels, 1 or 2.
    own_clock : bool
        True: frames come when they come and the engine matches the clocks. False: it waits for room in the ring.
    blocksize : int
        Frames that come at once where `own_clock`.
    latency_frames : int
        Of the device itself, if known.
    """

    samplerate: int
    channels: int
    own_clock: bool = False
    blocksize: int = 0
    latency_frames: int = 0

    @abstractmethod
    def open(self) -> None:
        """Open and check; sets `samplerate` and `channels`; an `RtsepError` if it cannot [main thread]."""

    @abstractmethod
    def start(self, ring: Ring, samplerate: int) -> None:
        """Begin to write frames, shape (frames, ring.channels), into `ring` from a thread or callback of its own.

        A source without a clock converts to `samplerate` itself; one with a clock writes at its native rate. A mono
        source fills every channel of the ring; a stereo source is averaged into a mono ring.
        """

    @abstractmethod
    def stop(self) -> None:
        """End and release; harmless when already stopped [main thread]."""

    @property
    def finished(self) -> bool:
        """True once the last frame is in the ring [any thread]."""
        return False

    @property
    def xruns(self) -> int:
        """Over- and underruns of a device of its own since `start` [any thread]."""
        return 0

    @property
    def bad_samples(self) -> int:
        """Samples of such a device that were NaN or infinite and became 0 [any thread]."""
        return 0

    @property
    def total_frames(self) -> int:
        """Length at the rate given to `start`, 0 if unknown or endless [any thread]."""
        return 0

    @property
    def lost(self) -> str:
        """Why the source broke off; empty while all is well [any thread]."""
        return ""


class Sink(ABC):
    """Where frames go that no device plays: a file, a pipe."""

    #: The first failure (full disk, closed pipe); the sound goes on without the sink.
    error: RtsepError | None = None

    @abstractmethod
    def open(self, samplerate: int, channels: int) -> None:
        """Check and create; an `RtsepError` if it cannot [main thread]."""

    @abstractmethod
    def start(self, ring: Ring) -> None:
        """Begin to drain `ring` from a thread of its own."""

    @abstractmethod
    def stop(self) -> None:
        """Drain what is left, close, give the file its final name [main thread]."""
