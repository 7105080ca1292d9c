"""JACK (and PipeWire's JACK): one client with named ports that follows the server's rate, period and freewheel mode.

JACK-Client opens, names and connects. What JACK's own threads run is in `jack_callbacks`.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from typing import Any

import numpy as np

from rtsep.dsp.ring import Ring
from rtsep.errors import DeviceError
from rtsep.io import jack_callbacks as words
from rtsep.io.base import Driver, Source
from rtsep.io.jack_client import connect_client, pipewire_latency, select_ports, watch
from rtsep.io.tick import BAD_SAMPLES, CONTEXT_SIZE, FREEWHEEL, OVERRUNS, StreamContext, input_context

#: Longest time to wait for the server's first cycle, after which the period is known for sure.
_SETTLE_S = 1.0
_CAPTURE_LATENCY, _PLAYBACK_LATENCY = 0, 1
_LATENCY_S = 0.5  # for a server to work out a latency


class JackDriver(Driver):
    """A JACK client that ticks the engine once a cycle.

    Parameters
    ----------
    client_name : str
        Name in the graph.
    inputs, outputs : int
        Ports wanted, 0 to 2 each. Where a pattern (or the default) finds a single port, one port is made.
    connect_in, connect_out : str, optional
        ``[jack:]CLIENT[:PORT]`` to connect to, "none" to leave the ports alone; default: the first physical ports.
    server : str, optional
        Name of the server.
    blocksize : int, optional
        Period in frames (at 48 kHz) that PipeWire is asked for; a JACK server decides for itself.
    again : bool
        Whether another client had found ports to connect to: these are then waited for.

    Attributes
    ----------
    name : str
        The client's name as the server gave it, known after `open`.
    """

    def __init__(
        self,
        client_name: str = "rtsep",
        inputs: int = 2,
        outputs: int = 2,
        connect_in: str | None = None,
        connect_out: str | None = None,
        server: str | None = None,
        blocksize: int | None = None,
        again: bool = False,
    ) -> None:
        self.name = client_name
        self._again = again
        self._peers: list[str] = []
        self._wanted = (client_name, inputs, outputs, connect_in, connect_out)
        self._server = server
        self._wish = f"{blocksize}/48000" if blocksize else None
        self._client: Any = None
        self._state = np.zeros(words.WORDS, dtype=np.int64)

    def open(self) -> None:
        """Join the graph and connect; silence until `start` [main thread].

        The client runs from here on, since only a running graph tells the period for sure (PipeWire decides it when a
        client joins).

        Raises
        ------
        DeviceError
            Without libjack, server, or the ports that were asked for.
        """
        self.stop()
        name, inputs, outputs, connect_in, connect_out = self._wanted
        with pipewire_latency(self._wish):
            jack, self._client, self._library = connect_client(name, self._server)
        self._state = np.zeros(words.WORDS, dtype=np.int64)
        watch(self._client, self._state)
        try:
            self.name = self._client.name
            sources = self._find(connect_in, is_output=True) if inputs else []
            targets = self._find(connect_out, is_input=True) if outputs else []
            self._peers = []
            self.linked = bool(sources or targets)
            if self._again and not self.linked:
                raise DeviceError("no physical JACK ports")
            self.inputs = min(inputs, len(sources)) if sources else inputs
            self.outputs = min(outputs, len(targets)) if targets else outputs
            ins = [self._client.inports.register(f"in_{i + 1}") for i in range(self.inputs)]
            outs = [self._client.outports.register(f"out_{i + 1}") for i in range(self.outputs)]
            self._install(ins, outs)
            self._client.activate()
            for source, port in zip(sources, ins, strict=False):
                self._client.connect(source, port)
            for port, target in zip(outs, targets, strict=False):
                self._client.connect(port, target)
            self._peers = [*sources[: len(ins)], *targets[: len(outs)]]
            self._settle()
            self.input_latency_frames = self._latency(ins, _CAPTURE_LATENCY, sources)
            self.output_latency_frames = self._latency(outs, _PLAYBACK_LATENCY, targets)
        except jack.JackError as error:
            self.stop()
            raise DeviceError(f"JACK: {error}") from None
        except BaseException:  # JACK's threads must not outlive the words that they write
            self.stop()
            raise

    def start(self, context: int) -> None:
        """Tick with `context` from the next cycle on [main thread].

        The word FREEWHEEL of the context follows the server's mode.
        """
        stream = (ctypes.c_int64 * CONTEXT_SIZE).from_address(context)
        stream[FREEWHEEL] = int(self._state[words.FREEWHEELING])
        self._state[words.XRUNS] = 0
        self._state[words.CONTEXT] = context

    def stop(self) -> None:
        """Leave the graph; close the context first, or a freewheeling cycle waits for its sound [main thread]."""
        if self._client is None:
            return
        client, self._client = self._client, None
        self._state[words.CONTEXT] = 0
        if not self._state[words.DOWN]:
            with contextlib.suppress(Exception):
                client.deactivate()
        client.close()

    @property
    def lost(self) -> str:
        """Why the client must be opened anew: the server or the ports that it was connected to are gone, or the period
        or rate has changed [any thread].
        """
        if self._client is None:
            return ""
        if self._state[words.DOWN]:
            return "the JACK server has gone or has dropped the client"
        if self._state[words.BLOCKSIZE] != self.blocksize:
            return f"the JACK server changed its block size to {self._state[words.BLOCKSIZE]} frames"
        if self._state[words.SAMPLERATE] != self.samplerate:
            return f"the JACK server changed its rate to {self._state[words.SAMPLERATE]} Hz"
        pointer = self._pointer(self._client)
        for name in self._peers:
            if not self._library.jack_port_by_name(ctypes.c_void_p(pointer), name.encode()):
                return f"the JACK port {name} has gone"
        return ""

    @property
    def xruns(self) -> int:
        """Cycles that the server reports as late or lost, for any client of the graph [any thread]."""
        return int(self._state[words.XRUNS])

    @property
    def freewheeling(self) -> bool:
        """True while the server runs as fast as its clients can [any thread]."""
        return bool(self._state[words.FREEWHEELING])

    def _find(self, pattern: str | None, **direction: bool) -> list[str]:
        """Full names of the ports to connect to."""
        if pattern == "none":
            return []
        found = [
            port.name
            for port in self._client.get_ports(is_audio=True, is_physical=pattern is None, **direction)
            if not self._client.owns(port)
        ]
        if pattern is not None:
            return select_ports(found, pattern)
        return [name for name in found if name.rpartition(":")[0] == found[0].rpartition(":")[0]]

    def _install(self, ins: list[Any], outs: list[Any]) -> None:
        """Fill the shared words and hand the compiled callbacks to JACK."""
        state, library = self._state, self._library
        client = ctypes.c_void_p(self._pointer(self._client))
        state[words.GET_BUFFER] = ctypes.cast(library.jack_port_get_buffer, ctypes.c_void_p).value or 0
        for first, ports in ((words.IN, ins), (words.OUT, outs)):
            for i, port in enumerate(ports):
                state[first + i] = self._pointer(port)
        state[words.BLOCKSIZE] = self._client.blocksize
        state[words.SAMPLERATE] = self._client.samplerate
        arg = ctypes.c_void_p(state.ctypes.data)
        for install, callback in (
            (library.jack_set_process_callback, words.on_process),
            (library.jack_set_xrun_callback, words.on_xrun),
            (library.jack_set_buffer_size_callback, words.on_blocksize),
            (library.jack_set_sample_rate_callback, words.on_samplerate),
            (library.jack_set_freewheel_callback, words.on_freewheel),
            (library.jack_on_info_shutdown, words.on_shutdown),
        ):
            install(client, ctypes.c_void_p(callback.address), arg)

    def _settle(self) -> None:
        """Wait for the first cycles, then take over rate and period."""
        limit = time.monotonic() + _SETTLE_S
        while self._state[words.CYCLES] < 2 and time.monotonic() < limit:
            time.sleep(0.005)
        if self._state[words.CYCLES] > 0:
            self._state[words.BLOCKSIZE] = self._state[words.FRAMES]
        self.blocksize = int(self._state[words.BLOCKSIZE])
        self.samplerate = int(self._state[words.SAMPLERATE])

    def _latency(self, ports: list[Any], mode: int, others: list[str]) -> int:
        """Largest latency in frames that JACK reports between `ports` and the outside.

        The server works it out some time after a connection, a busy one later than it says: where one of the `others`
        is physical, so that there is some, it is waited for.
        """
        limit = time.monotonic() + _LATENCY_S
        awaited = any(self._client.get_port_by_name(name).is_physical for name in others)
        while True:
            self._library.jack_recompute_total_latencies(ctypes.c_void_p(self._pointer(self._client)))
            limits = [(ctypes.c_uint32 * 2)() for _ in ports]
            for port, pair in zip(ports, limits, strict=True):
                self._library.jack_port_get_latency_range(ctypes.c_void_p(self._pointer(port)), mode, pair)
            found = max((int(pair[1]) for pair in limits), default=0)
            if found or not awaited or time.monotonic() > limit:
                return found
            time.sleep(0.01)

    @staticmethod
    def _pointer(thing: Any) -> int:
        """C pointer of a ``jack.Client`` or port."""
        import jack

        return int(jack._ffi.cast("intptr_t", thing._ptr))


class JackSource(Source):
    """Ports of a JACK server whose sound another device plays: a client with inputs only, and a clock of its own.

    Parameters
    ----------
    connect_in : str, optional
        As for `JackDriver`.
    server : str, optional
        Name of the server.
    """

    own_clock = True

    def __init__(self, connect_in: str | None = None, server: str | None = None) -> None:
        self._client = JackDriver(inputs=2, outputs=0, connect_in=connect_in, server=server)
        self._context: StreamContext | None = None

    @property
    def name(self) -> str:
        """The client's name, known after `open`."""
        return self._client.name

    def open(self) -> None:
        """Join the graph and connect; `DeviceError` as for `JackDriver` [main thread]."""
        self.stop()
        client = self._client
        client.open()
        self.samplerate, self.channels, self.blocksize = client.samplerate, client.inputs, client.blocksize
        self.latency_frames = client.input_latency_frames

    def start(self, ring: Ring, samplerate: int) -> None:
        """Write into `ring` at the server's own rate from the next cycle on [main thread]."""
        self._context = input_context(ring)
        self._client.start(self._context.address)

    def stop(self) -> None:
        """Leave the graph; harmless when already stopped or lost [main thread]."""
        if self._context is not None:
            self._context.close()
        self._client.stop()

    @property
    def lost(self) -> str:
        """Why no more cycles come as they did; empty while all is well [any thread]."""
        return self._client.lost

    @property
    def xruns(self) -> int:
        """Cycles that the server reports as late or lost, and such as found no room, since `start` [any thread]."""
        own = self._client.xruns
        return own + (int(self._context.words[OVERRUNS]) if self._context else 0)

    @property
    def bad_samples(self) -> int:
        """NaN and infinite ones [any thread]."""
        return int(self._context.words[BAD_SAMPLES]) if self._context else 0
