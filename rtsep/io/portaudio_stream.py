"""One PortAudio stream with a compiled callback, given to the library as rtmixer does it."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np

from rtsep.errors import DeviceError
from rtsep.io import portaudio_callback as words
from rtsep.io.devices import DeviceInfo
from rtsep.io.portaudio_library import count_stream, portaudio, quiet

#: Frames per block where none are asked for: what devices, and what servers behind ALSA's plug-ins, keep up with.
DEVICE_BLOCK, SERVER_BLOCK = 256, 512
_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
#: A device that neither gives nor takes a block for so long is gone.
_SILENT_S = 3.0
#: The first blocks fill the device's buffer; after that it shows how many frames it wants at once.
_PRIME_S, _WATCH_S = 0.1, 0.25


class PortAudioStream:
    """One PortAudio stream that runs, silent, from its construction to `close`.

    Parameters
    ----------
    source, target : DeviceInfo, optional
        Devices to record from and to play to; at least one.
    samplerate : int, optional
        In Hz; default: the device's own.
    blocksize : int, optional
        Frames per block; 0: what the device likes, each block may differ.
    latency : str or float
        "low", "high" or seconds.
    """

    def __init__(
        self,
        source: DeviceInfo | None,
        target: DeviceInfo | None,
        samplerate: int | None,
        blocksize: int | None,
        latency: str | float,
    ) -> None:
        sounddevice = portaudio()
        main = target or source
        assert main is not None
        self.name = main.name
        self.state = np.zeros(words.WORDS, dtype=np.int64)
        self.inputs = min(2, source.inputs) if source else 0
        self.outputs = min(2, target.outputs) if target else 0
        self.samplerate = samplerate or _common_rate(source, target)
        server = main.host == "ALSA" and "(hw:" not in main.name
        self.wanted = (SERVER_BLOCK if server else DEVICE_BLOCK) if blocksize is None else blocksize
        self.state[[words.INPUTS, words.OUTPUTS]] = self.inputs, self.outputs
        self.state[words.FRAME_PS] = 10**12 // self.samplerate
        try:
            with quiet():
                self._stream = self._create(source, target, latency)
        except (sounddevice.PortAudioError, ValueError) as error:
            raise _open_error(error, source, target, self.samplerate) from None
        self._open = True
        count_stream(1)
        try:
            self.state[words.LAST] = time.monotonic_ns()
            with quiet():
                self._stream.start()
            delays = np.atleast_1d(self._stream.latency) * self.samplerate
            self.blocksize = self._watch()
        except sounddevice.PortAudioError as error:
            self.close()
            raise DeviceError(f"{self.name} does not start: {error}") from None
        except BaseException:
            self.close()
            raise
        self.input_latency_frames = round(delays[0]) if source else 0
        self.output_latency_frames = round(delays[-1]) if target else 0

    def _create(self, source: DeviceInfo | None, target: DeviceInfo | None, latency: str | float) -> Any:
        """Open, not yet start, a stream of one or both directions."""
        sounddevice = portaudio()
        ffi = sounddevice._ffi
        if source and target:
            ends: dict[str, Any] = {"device": (source.index, target.index), "channels": (self.inputs, self.outputs)}
            kind = "duplex"
        elif source:
            ends, kind = {"device": source.index, "channels": self.inputs}, "input"
        else:
            ends, kind = {"device": target and target.index, "channels": self.outputs}, "output"
        return sounddevice._StreamBase(
            kind,
            samplerate=self.samplerate,
            blocksize=self.wanted,
            dtype="float32",
            latency=latency,
            callback=ffi.cast("PaStreamCallback*", words.on_stream.address),
            finished_callback=ffi.cast("PaStreamFinishedCallback*", words.on_finished.address),
            userdata=ffi.cast("void*", self.state.ctypes.data),
            clip_off=True,
            dither_off=True,
            **ends,
        )

    def _watch(self) -> int:
        """Largest number of frames that the device wants at once."""
        time.sleep(_PRIME_S)
        self.state[words.LARGEST] = 0
        time.sleep(_WATCH_S)
        return max(int(self.state[words.LARGEST]), self.wanted)

    @property
    def variable(self) -> bool:
        """Whether the frames wanted at once differ from one regular block."""
        return self.wanted == 0 or self.blocksize != self.wanted

    @property
    def lost(self) -> str:
        """Why no more blocks come."""
        if not self._open:
            return ""
        if self.state[words.FINISHED]:
            return f"the sound device {self.name} has gone"
        if time.monotonic_ns() - int(self.state[words.LAST]) > _SILENT_S * 1e9:
            return f"the sound device {self.name} has stood still for {_SILENT_S:.0f} s"
        return ""

    @property
    def xruns(self) -> int:
        """Blocks before which PortAudio reported lost or missing frames."""
        return int(self.state[words.XRUNS_IN] + self.state[words.XRUNS_OUT])

    def tick(self, context: int) -> None:
        """Tick with `context` from the next block on."""
        self.state[[words.XRUNS_IN, words.XRUNS_OUT]] = 0
        self.state[words.CONTEXT] = context

    def close(self) -> None:
        """End and release; harmless when closed."""
        if not self._open:
            return
        self._open = False
        self.state[words.CONTEXT] = 0
        with quiet():
            for end in (self._stream.abort, self._stream.close):
                with contextlib.suppress(Exception):
                    end()
        count_stream(-1)


def _common_rate(source: DeviceInfo | None, target: DeviceInfo | None) -> int:
    """Default rate of the output, or of the input where the output has not got that of the input."""
    rates = [device.samplerate for device in (target, source) if device is not None]
    possible = [rate for rate in rates if not _refused(source, target, int(rate))]
    return int((possible or rates)[0])


def _refused(source: DeviceInfo | None, target: DeviceInfo | None, rate: int) -> str:
    """Why the devices do not run at `rate`; empty if they do."""
    sounddevice = portaudio()
    try:
        with quiet():
            if source is not None:
                sounddevice.check_input_settings(source.index, min(2, source.inputs), "float32", None, rate)
            if target is not None:
                sounddevice.check_output_settings(target.index, min(2, target.outputs), "float32", None, rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        return str(error)
    return ""


def _open_error(error: Exception, source: DeviceInfo | None, target: DeviceInfo | None, rate: int) -> DeviceError:
    """One line: what failed, and the possible rates if that was the rate's fault."""
    names = " and ".join(device.label for device in (source, target) if device is not None)
    if _refused(source, target, rate):
        rates = [str(other) for other in _RATES if not _refused(source, target, other)]
        if rates:
            return DeviceError(f"{names} has not got {rate} Hz (possible: {', '.join(rates)} Hz)")
    return DeviceError(f"{names} cannot be opened: {error}")
