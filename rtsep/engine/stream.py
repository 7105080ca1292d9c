"""One opened stream: driver, source, sink, rings, chain, worker and inference thread, from `open` to `close`.

A stream is made for the devices as they are. When a device is lost or changes, the session closes the stream and
makes a new one.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np

from rtsep.dsp.drift import SIZE as DRIFT_SIZE
from rtsep.dsp.drift import Drift, safe_distance
from rtsep.dsp.gain import Ramp
from rtsep.dsp.limiter import Limiter
from rtsep.dsp.meter import Meter
from rtsep.dsp.resample import Resampler
from rtsep.dsp.ring import Ring
from rtsep.engine import realtime, worker
from rtsep.engine.chain import Chain
from rtsep.engine.histogram import Histogram
from rtsep.engine.inference import Inference
from rtsep.engine.latency import Budget, output_fill
from rtsep.io import tick
from rtsep.io.base import Driver, Source
from rtsep.io.clock import Semaphore
from rtsep.io.realtime import raise_priority
from rtsep.io.tick import StreamContext
from rtsep.separators.base import Separator
from rtsep.spec import StreamSpec

#: Sound that a source without a clock may be ahead, and that a sink may be behind, in seconds.
_AHEAD_S = 2.0
#: Sound that the recorder may be behind, in seconds.
_RECORD_S = 10.0
#: Frames that a block of another device may come late, in seconds: the price of an ordinary desktop.
_JITTER_S = 0.004
#: The worker's own part of a period that is kept back from waiting for a mask: a share of the period and its most, in
#: seconds.
_MARGIN_SHARE, _MARGIN_MOST_S = 0.15, 0.0005
#: Length of the fades at start and end.
FADE_MS = 20.0
#: Longest that the end waits for what the device or server still holds, in seconds.
_DEVICE_MOST_S = 0.5


@dataclass(slots=True)
class Controls:
    """What a person sets, kept from stream to stream."""

    vocals_db: float = 0.0
    music_db: float = 0.0
    bypass: bool = False
    #: Of the stems and of the rest of the music, by name; 0 dB where there is none.
    parts_db: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Timing:
    """Durations per hop, kept from stream to stream: all of it, without the wait for the mask, and the separator's
    own.
    """

    hop: Histogram = field(default_factory=Histogram)
    host: Histogram = field(default_factory=Histogram)
    infer: Histogram = field(default_factory=Histogram)


def engine_rate(device_rate: int, separator: Separator) -> int:
    """Rate in Hz at which the chain runs: the device's own, or the nearest that the separator was made for."""
    rates = separator.supported_samplerates()
    if not rates or device_rate in rates:
        return device_rate
    return min(rates, key=lambda rate: (abs(rate - device_rate), rate))


class Stream:
    """Everything between the input and the output device.

    Parameters
    ----------
    driver : Driver
        Opened; owns the clock.
    source : Source or None
        Opened; needed where the driver has no inputs.
    separator : Separator
        Prepared here.
    hop : int
        Wanted hop; a separator that requires one wins.
    controls : Controls
        Faders and bypass at start.
    timing : Timing, optional
        Where durations are counted.
    with_sink : bool
        There is a `sink_ring`, which gets all that is played.
    sink_ring : Ring, optional
        Of an earlier stream, whose sink goes on with this one.
    record_ring : Ring, optional
        Of an earlier stream, to go on with if the channels are the same.
    going_on : Stream, optional
        Earlier stream with the same source, which has no clock of its own and goes on where it was.
    duration_s : float, optional
        End after so many seconds of sound where no clock runs (in real time, the caller looks at the time).

    Attributes
    ----------
    record_ring : Ring
        Gets mixture, vocals and music (3 x channels) while `recording` is on; of a separator with stems these and the
        rest of the music as well.
    part_ramps : dict of str to Ramp
        Faders of the stems and of the rest of the music; empty where the separator knows no stems.
    """

    def __init__(
        self,
        driver: Driver,
        source: Source | None,
        separator: Separator,
        hop: int,
        controls: Controls,
        timing: Timing | None = None,
        with_sink: bool = False,
        sink_ring: Ring | None = None,
        record_ring: Ring | None = None,
        going_on: Stream | None = None,
        duration_s: float | None = None,
    ) -> None:
        self.driver, self.source = driver, source
        self.timing = timing or Timing()
        device_rate, self.channels = driver.samplerate, min(driver.inputs or (source.channels if source else 2), 2)
        rate = engine_rate(device_rate, separator)
        self.spec = StreamSpec(rate, self.channels, separator.required_hop(rate) or hop)
        self.chain = Chain(separator, self.spec)
        hop = self.spec.hop
        clock_rate = round(device_rate * driver.speed)
        own_clock = source is not None and source.own_clock
        input_rate = device_rate if source is None else source.samplerate if own_clock else rate
        ratio = rate / input_rate

        self._convert_in = Resampler(self.channels) if own_clock or input_rate != rate else None
        self._convert_out = Resampler(self.channels) if device_rate != rate else None
        delay_in = self._convert_in.delay_frames(ratio) if self._convert_in else 0.0
        delay_out = self._convert_out.delay_frames(device_rate / rate) if self._convert_out else 0.0
        to_device = device_rate / rate

        engine_block = int(np.ceil(driver.blocksize / to_device))
        target = 0
        if own_clock and source is not None:
            jitter = int(_JITTER_S * input_rate)
            target = int(np.ceil(safe_distance(source.blocksize, engine_block, hop, ratio, jitter)))
        self._drift = Drift(input_rate, rate, hop, target) if own_clock else None

        hop_device = int(np.ceil(hop * to_device))
        way = (hop + separator.latency) * to_device
        if self._convert_out and not self._convert_in:
            # A little later, so that hop and look-ahead are a whole number of the device's frames, as printed.
            self._convert_out.push(
                np.zeros((round((np.ceil(way) - way) / to_device), self.channels), np.float32), to_device
            )
        resampler_frames = 0
        if self._convert_out or (self._convert_in and not own_clock):
            resampler_frames = int(np.ceil(delay_in * device_rate / input_rate + delay_out * to_device)) + 4
        self.budget = Budget(
            overlap_frames=hop_device,
            lookahead_frames=int(np.ceil(way)) - hop_device,
            output_frames=output_fill(
                driver.blocksize, hop_device, device_rate, separator.work_ms, driver.variable or to_device != 1.0
            ),
            resampler_frames=resampler_frames,
            clock_frames=int((target / input_rate - hop / rate + delay_in / input_rate) * device_rate)
            if own_clock
            else 0,
        )

        if going_on is not None and (going_on.channels, going_on.spec.samplerate) == (self.channels, rate):
            self.input_ring: Ring = going_on.input_ring
            self._fed = True
        else:
            frames = max(int(_AHEAD_S * input_rate), 8 * driver.blocksize, 4 * target, 8 * hop)
            self.input_ring = Ring(frames, self.channels)
            self._fed = False
        self.output_ring = Ring(
            4 * (self.budget.output_frames + resampler_frames + driver.blocksize + hop_device), self.channels
        )
        if with_sink and sink_ring is None:
            sink_ring = Ring(int(_AHEAD_S * device_rate), self.channels)
        self.sink_ring = sink_ring if with_sink else None
        recorded = (3 + len(separator.parts)) * self.channels
        if record_ring is None or record_ring.channels != recorded:
            record_ring = Ring(int(_RECORD_S * rate), recorded)
        self.record_ring = record_ring
        self._tick_semaphore, self._mask_ready, self._spectrum_ready = Semaphore(), Semaphore(), Semaphore()
        self.context = StreamContext(
            self.channels, self.input_ring, self.output_ring, self._tick_semaphore, self.sink_ring
        )
        self.context.set_freewheel(not driver.realtime)
        if not driver.variable:
            self.context.set_period(driver.blocksize, clock_rate)

        self.vocal_ramp = Ramp(rate, controls.vocals_db)
        self.music_ramp = Ramp(rate, controls.music_db)
        self._stem_ramps = np.zeros((len(separator.parts), 3))
        self.part_ramps = {
            name: Ramp(rate, controls.parts_db.get(name, 0.0), state=state)
            for name, state in zip(separator.parts, self._stem_ramps, strict=True)
        }
        self._bypass_ramp = Ramp(rate, 0.0 if controls.bypass else -np.inf, FADE_MS)
        self._master_ramp = Ramp(rate, -np.inf if driver.realtime else 0.0, FADE_MS)
        self._master_ramp.set_db(0.0)
        self.limiter = Limiter(rate)
        self.meters = {name: Meter(rate, self.channels) for name in ("input", "vocals", "music", "output")}

        self.words = np.zeros(worker.WORDS, dtype=np.int64)
        words = self.words
        words[worker.BYPASS] = controls.bypass
        words[worker.RATE], words[worker.DEVICE_RATE], words[worker.INPUT_RATE] = rate, device_rate, input_rate
        words[worker.LOOKAHEAD] = self.chain.lookahead
        words[worker.SPLIT], words[worker.OWN_CLOCK] = source is not None, own_clock
        words[worker.FILL_TARGET] = target
        words[worker.CLOCK_RATE] = clock_rate  # frames per second of the computer's clock
        period_s = driver.blocksize / clock_rate
        words[worker.MARGIN_NS] = int(min(_MARGIN_SHARE * period_s, _MARGIN_MOST_S) * 1e9)
        words[worker.MASK_READY], words[worker.SPECTRUM_READY] = self._mask_ready.address, self._spectrum_ready.address
        words[worker.CONVERT_IN] = self._convert_in.handle if self._convert_in else 0
        words[worker.DELAY_IN] = int(delay_in)
        words[worker.LATENCY] = self.budget.total_frames
        if source is not None and not driver.realtime:
            # From file to file nothing is live: the output begins with the input's first frame.
            self.context.words[tick.SINK_SKIP] = self.budget.total_frames
            if duration_s is not None:
                self.context.words[tick.END] = self.budget.total_frames + round(duration_s * device_rate)
        words[worker.CONVERT_OUT] = self._convert_out.handle if self._convert_out else 0
        self.inference = Inference(self.chain, words, self._mask_ready, self._spectrum_ready, self.timing.infer)
        self._memory = self._worker_memory()
        # Compiled here or taken from the cache, while nothing waits: with RUN still cleared it returns at once.
        worker.work(self._memory, self.chain.memory)
        words[worker.RUN] = 1
        self._worker = threading.Thread(target=self._work, name="rtsep-worker", daemon=True)
        self.output_ring.write(np.zeros((self.budget.output_frames + resampler_frames, self.channels), np.float32))

    def _worker_memory(self) -> worker.WorkerMemory:
        frames, channels, hop = worker.PIECE, self.channels, self.spec.hop
        none, no_state = np.zeros(8, np.int64), np.zeros(3)
        return worker.WorkerMemory(
            words=self.words,
            context=self.context.words,
            semaphore=self._tick_semaphore.address,
            input=self.input_ring.control,
            output=self.output_ring.control,
            record=self.record_ring.control,
            raw=np.zeros((frames, channels), np.float32),
            converted=np.zeros((frames, channels), np.float32),
            block=np.zeros((channels, hop), np.float32),
            balanced=np.zeros((channels, hop), np.float32),
            out=np.zeros((channels, hop), np.float32),
            played=np.zeros((hop, channels), np.float32),
            recorded=np.zeros((hop, self.record_ring.channels), np.float32),
            vocal_ramp=self.vocal_ramp.state,
            music_ramp=self.music_ramp.state,
            stem_ramps=self._stem_ramps,
            bypass_ramp=self._bypass_ramp.state,
            master_ramp=self._master_ramp.state,
            limiter=self.limiter.state,
            input_meter=self.meters["input"].state,
            vocal_meter=self.meters["vocals"].state,
            music_meter=self.meters["music"].state,
            output_meter=self.meters["output"].state,
            drift=self._drift.state if self._drift else np.zeros(DRIFT_SIZE),
            convert_in=self._convert_in.data if self._convert_in else none,
            convert_in_state=self._convert_in.pull_state if self._convert_in else no_state,
            convert_out=self._convert_out.data if self._convert_out else none,
            hop_times=self.timing.hop.counts,
            host_times=self.timing.host.counts,
            scratch=np.zeros(2, np.int64),
        )

    def _work(self) -> None:
        raise_priority(realtime.WORKER)
        worker.work(self._memory, self.chain.memory)

    def feed(self) -> None:
        """Start the source, which may fill the ring ahead [main thread, before `start`]."""
        if self.source is not None and not self._fed:
            self.source.start(self.input_ring, self.spec.samplerate)

    def start(self) -> None:
        """Start the threads, then the driver [main thread]."""
        self.inference.start()
        self._worker.start()
        self.driver.start(self.context.address)
        self.context.open()

    def fade_out(self) -> None:
        """Fade to silence and wait until the fade has been played [main thread]."""
        self._master_ramp.set_db(-np.inf)
        if self.driver.realtime and not self.driver.lost:
            device_s = min(self.driver.output_latency_frames / self.driver.samplerate, _DEVICE_MOST_S)
            time.sleep(FADE_MS / 1000 + self.budget.total_frames / self.driver.samplerate + device_s)

    def stop(self, keep_source: bool = False) -> None:
        """End driver, source and threads; harmless when already stopped [main thread].

        Parameters
        ----------
        keep_source : bool
            Leave the source filling its ring, for a stream that goes on with it.
        """
        self.halt()
        self.driver.stop()
        if self.source is not None and not keep_source:
            self.source.stop()

    def halt(self) -> None:
        """End the worker; the device, which may take long to close, plays silence from now on [main thread]."""
        self.context.close()
        self.words[worker.RUN] = 0
        self._tick_semaphore.post()
        self._mask_ready.post()
        if self._worker.ident is not None:  # a session may fail between making a stream and starting it
            self._worker.join(2.0)
            self.inference.join(2.0)

    def set_bypass(self, on: bool) -> None:
        """Cross-fade to the delayed input and back [any thread]."""
        self.words[worker.BYPASS] = int(on)

    def rest(self, on: bool) -> None:
        """Send the separator to rest, or call it back: a fixed mask plays meanwhile [any thread]."""
        self.words[worker.REST] = int(on)

    @property
    def recording(self) -> bool:
        """Whether the worker copies into `record_ring` [any thread]."""
        return bool(self.words[worker.RECORD])

    @recording.setter
    def recording(self, on: bool) -> None:
        self.words[worker.RECORD] = int(on)

    @property
    def ended(self) -> bool:
        """Whether the source has ended, or its duration is over, and all of it has been played [any thread]."""
        if self.source is None:
            return False
        if self.source.finished:
            self.words[worker.FINISHED] = 1
        context = self.context.words
        return bool(0 < context[tick.END] <= context[tick.CLOCK])

    @property
    def position_s(self) -> float:
        """Seconds of sound so far [any thread]."""
        return int(self.words[worker.HOPS]) * self.spec.hop / self.spec.samplerate

    @property
    def drift_ppm(self) -> float:
        """How much faster the input's clock runs than the output's, in parts per million; 0 where they share one [any
        thread].
        """
        return self._drift.ppm if self._drift else 0.0

    @property
    def xruns(self) -> tuple[int, int]:
        """Input and output drop-outs so far [any thread]."""
        context = self.context.words
        return int(context[tick.OVERRUNS] + self.words[worker.STARVED] + self.words[worker.RESYNCS]), int(
            context[tick.UNDERRUNS]
        )
