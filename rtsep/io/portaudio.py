"""PortAudio: the system's sound devices as driver (playing, or both) and as source (recording only)."""

from __future__ import annotations

from rtsep.dsp.ring import Ring
from rtsep.errors import DeviceError
from rtsep.io.base import Driver, Source
from rtsep.io.devices import choose, portaudio_devices, share_a_clock
from rtsep.io.portaudio_stream import PortAudioStream
from rtsep.io.tick import BAD_SAMPLES, OVERRUNS, StreamContext, input_context


def same_host(source: str, target: str) -> bool:
    """Whether one stream can record from `source` and play to `target` (names as in `devices.find`) [main thread].

    Two devices with clocks of their own cannot: then a `PortAudioSource` feeds the engine, which matches the clocks.

    Raises
    ------
    DeviceError
        If one of the two is missing or ambiguous.
    """
    devices = portaudio_devices()
    return share_a_clock(choose(devices, source, "input"), choose(devices, target, "output"))


class PortAudioDriver(Driver):
    """A device that plays, and with the same clock records if wanted, as the owner of the stream's clock.

    Parameters
    ----------
    input_device : str, optional
        As in `rtsep.io.devices.find` (empty: the default); None: the driver only plays.
    output_device : str
        Likewise.
    samplerate : int, optional
        In Hz; default: the device's own.
    blocksize : int, optional
        Frames per block, 0: what the device likes; default 256, or 512 where ALSA passes sound on to a server.
    latency : str or float
        What the device is asked for: "low", "high" or seconds.
    """

    def __init__(
        self,
        input_device: str | None,
        output_device: str = "",
        samplerate: int | None = None,
        blocksize: int | None = None,
        latency: str | float = "low",
    ) -> None:
        self._names = input_device, output_device
        self._wanted = samplerate, blocksize, latency
        self._stream: PortAudioStream | None = None

    def open(self) -> None:
        """Find the devices and start them, silent; `blocksize` is the most frames that they want at once [main thread].

        Raises
        ------
        DeviceError
            Without PortAudio; if a device is missing, ambiguous or busy, or has not got the rate (lists those it has).
        """
        self.stop()
        devices = portaudio_devices()
        source = None if self._names[0] is None else choose(devices, self._names[0], "input")
        target = choose(devices, self._names[1], "output")
        if source is not None and source.host != target.host:
            raise DeviceError(f"{source.label} and {target.label} cannot share one stream")
        stream = self._stream = PortAudioStream(source, target, *self._wanted)
        self.samplerate, self.blocksize, self.variable = stream.samplerate, stream.blocksize, stream.variable
        self.inputs, self.outputs = stream.inputs, stream.outputs
        self.input_latency_frames, self.output_latency_frames = (
            stream.input_latency_frames,
            stream.output_latency_frames,
        )

    def start(self, context: int) -> None:
        """Tick with the address of a `StreamContext` from the next block on [main thread]."""
        assert self._stream is not None
        self._stream.tick(context)

    def stop(self) -> None:
        """Close the stream; harmless when already stopped or lost [main thread]."""
        if self._stream is not None:
            self._stream.close()

    @property
    def lost(self) -> str:
        """Why no more blocks come; empty while all is well [any thread]."""
        return self._stream.lost if self._stream else ""

    @property
    def xruns(self) -> int:
        """Blocks before which the device lost frames or lacked some, since `start` [any thread]."""
        return self._stream.xruns if self._stream else 0


class PortAudioSource(Source):
    """A device that only records, with a clock of its own.

    Parameters
    ----------
    device : str
        As in `rtsep.io.devices.find`; empty: the default.
    samplerate, blocksize, latency
        As for `PortAudioDriver`.
    """

    own_clock = True

    def __init__(
        self,
        device: str = "",
        samplerate: int | None = None,
        blocksize: int | None = None,
        latency: str | float = "low",
    ) -> None:
        self._name = device
        self._wanted = samplerate, blocksize, latency
        self._stream: PortAudioStream | None = None
        self._context: StreamContext | None = None

    def open(self) -> None:
        """Find the device and start it; `DeviceError` as for `PortAudioDriver` [main thread]."""
        self.stop()
        stream = self._stream = PortAudioStream(choose(portaudio_devices(), self._name, "input"), None, *self._wanted)
        self.samplerate, self.channels, self.blocksize = stream.samplerate, stream.inputs, stream.blocksize
        self.latency_frames = stream.input_latency_frames

    def start(self, ring: Ring, samplerate: int) -> None:
        """Write into `ring` at the device's own rate from the next block on [main thread]."""
        assert self._stream is not None
        self._context = input_context(ring)
        self._stream.tick(self._context.address)

    def stop(self) -> None:
        """Close the stream; harmless when already stopped or lost [main thread]."""
        if self._stream is not None:
            self._stream.close()

    @property
    def lost(self) -> str:
        """Why no more blocks come; empty while all is well [any thread]."""
        return self._stream.lost if self._stream else ""

    @property
    def xruns(self) -> int:
        """Blocks before which the device lost frames, and such as found no room, since `start` [any thread]."""
        own = self._stream.xruns if self._stream else 0
        return own + (int(self._context.words[OVERRUNS]) if self._context else 0)

    @property
    def bad_samples(self) -> int:
        """NaN and infinite ones [any thread]."""
        return int(self._context.words[BAD_SAMPLES]) if self._context else 0
