"""A session: from names of devices to sound, and back to sound when a device is lost.

The main thread starts and stops it; a supervisor thread watches devices, source and recorder; any thread may set
parameters and take snapshots. The stream itself runs in its own threads (`rtsep.engine.stream`).
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from types import TracebackType

import numpy as np
from msgspec import structs

from rtsep.dsp.ring import Ring
from rtsep.engine import realtime, worker
from rtsep.engine.options import SessionOptions
from rtsep.engine.routing import Route, open_route
from rtsep.engine.stats import COUNTERS, Stats, counters, stream_stats
from rtsep.engine.stepdown import StepDown
from rtsep.engine.stream import Controls, Stream, Timing
from rtsep.errors import DeviceError, OverloadError, RtsepError, UsageError, nearest
from rtsep.io import tick
from rtsep.io.base import Sink
from rtsep.io.record import Recorder
from rtsep.separators.profiles import AUTO, resolve
from rtsep.separators.registry import create, with_stems
from rtsep.spec import PROFILES

#: Highest level of a fader.
MOST_DB = 12.0
_WATCH_S = 0.05
_RETRY_S = 0.25
#: Longest wait for a supervisor that is about to open a device that does not answer.
_PATIENCE_S = 5.0
#: Share of late masks, and least number of hops, from which a session ends as overloaded.
_OVERLOAD_SHARE, _OVERLOAD_HOPS = 0.5, 500
_MESSAGES_KEPT = 20
_SWITCHES = ("bypass",)
_FADERS = ("vocals_db", "music_db")


class Session:
    """One running separation.

    Use it as a context manager, or call `start` and `stop`.

    Parameters
    ----------
    options : SessionOptions
        Checked when the session starts.
    """

    def __init__(self, options: SessionOptions) -> None:
        self.options = options
        #: Why the session broke off, if it did.
        self.error: RtsepError | None = None
        self._controls = Controls(
            _level("vocals_db", options.vocals_db), _level("music_db", options.music_db), options.bypass
        )
        self._faders: tuple[str, ...] = _FADERS
        self._timing = Timing()
        self._messages: list[str] = []
        self._losses: tuple[str, ...] = ()
        self._state = "ended"
        self._reconnections = 0
        self._stepdown = StepDown() if options.auto or options.separator == AUTO else None
        self._before = np.zeros(COUNTERS, np.int64)  # of streams that have ended
        self._played_s = 0.0  # likewise
        self._stream: Stream | None = None
        self._earlier: Stream | None = None  # whose source goes on in the next stream
        self._route: Route | None = None
        self._linked = False  # whether a driver was connected to something
        self._sink: Sink | None = None  # of the first stream; the others go on with it
        self._sink_ring: Ring | None = None
        self._sink_form = (0, 0)  # its rate and channels
        self._recorder: Recorder | None = None
        self._record_ring: Ring | None = None
        self._record_rate = self._record_lost = self._sink_lost = 0
        self._last = Stats()
        self._done = threading.Event()
        self._stopping = threading.Event()
        self._stopped = False
        self._lock = threading.Lock()
        self._cleanup = contextlib.ExitStack()
        self._supervisor = threading.Thread(target=self._supervise, name="rtsep-supervisor", daemon=True)
        if options.profile not in PROFILES:
            raise UsageError(f"unknown profile '{options.profile}': {nearest(options.profile, PROFILES)}")
        self._hop = options.hop or PROFILES[options.profile]
        name, note = resolve(options.separator, options.profile, options.device)
        self._say(note)
        self.separator = create(name, device=options.device)
        for name, value in options.params.items():
            self.separator.params.set(name, value)
        self._check_hop()
        self._take_parts()

    def _take_parts(self) -> None:
        """Faders for the stems that the separator tells apart; one for a stem that it does not know is refused."""
        parts = self.separator.parts
        for name in self.options.parts_db:
            if name not in parts:
                able = ", ".join(with_stems()) or "none here"
                raise UsageError(
                    f"--{name} is not possible: separator {self.separator.name} does not tell it apart in the music; "
                    f"separators that do: {able}"
                )
        self._controls.parts_db = {name: _level(f"{name}_db", self.options.parts_db.get(name, 0.0)) for name in parts}
        self._faders = (*_FADERS, *(f"{name}_db" for name in parts))

    def _check_hop(self) -> None:
        """A hop that was asked for and cannot be had is an error; a profile that cannot be had is said."""
        name, needed = self.separator.name, self.separator.required_hop(self.options.samplerate or 48000)
        if needed is None or needed == self._hop:
            return
        if self.options.hop is not None:
            raise UsageError(f"separator {name} runs at a hop of {needed} frames only, not {self.options.hop}")
        if self.options.profile != SessionOptions().profile:
            self._say(
                f"profile {self.options.profile} asks for a hop of {self._hop} frames, but {name} needs {needed}: "
                "--separator midside takes any"
            )

    def __enter__(self) -> Session:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Open devices and files, load the net, start the sound [main thread].

        Raises
        ------
        RtsepError
            Of the kind that says what could not be opened; everything is released again.
        """
        try:
            self._open()
            self._start_recorder()
            self._cleanup.enter_context(realtime.quiet_interpreter())
            realtime.release_pages()
            self._cleanup.enter_context(realtime.locked_memory())
            self._play()
        except BaseException:
            self._close()
            self._end_recording()
            self._cleanup.close()
            raise
        self._supervisor.start()

    def stop(self, fade_ms: float = 50.0) -> None:
        """Fade out, end all threads, finish all files; harmless when already stopped [main thread].

        Parameters
        ----------
        fade_ms : float
            0 stops at once; any other value lets the master fade be heard out.
        """
        if self._stopped:
            return
        fade = fade_ms > 0 and not self._stopping.is_set() and not self._done.is_set()
        self._stopping.set()
        try:
            if self._supervisor.is_alive():
                self._supervisor.join(_PATIENCE_S)
            if fade and self._stream is not None:
                self._stream.fade_out()
        finally:  # a second Ctrl-C ends the fade and nothing else
            self._finish()

    def _finish(self) -> None:
        """Finish all files, then close the devices, which may take long; called again it goes on."""
        stream = self._stream
        if stream is not None:
            self._last = self.snapshot()
            stream.halt()
        self._end_recording()
        self._close()
        self._check_overload()
        self._cleanup.close()
        self._state = "ended"
        self._stopped = True
        self._done.set()

    @property
    def running(self) -> bool:
        """Whether sound may still come [any thread]."""
        return self._stream is not None and not self._done.is_set()

    @property
    def ends_itself(self) -> bool:
        """Whether it ends after `SessionOptions.duration_s` by itself: no clock runs, hops are ahead of their sound."""
        stream = self._stream
        return stream is not None and stream.source is not None and not stream.driver.realtime

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the input or a fatal error (then `error` is set); False at the timeout [any thread]."""
        return self._done.wait(timeout_s)

    def set(self, name: str, value: str | float | bool) -> None:
        """Set a fader in dB, ``bypass``, or a parameter of the separator [any thread].

        Faders are ``vocals_db`` and ``music_db``, and ``drums_db`` and the like where the separator has `parts`.

        Raises
        ------
        UsageError
            For an unknown name or a value out of range.
        """
        stream = self._stream
        part = name.removesuffix("_db")
        if name in _FADERS:
            level = _level(name, value)
            setattr(self._controls, name, level)
            if stream is not None:
                (stream.vocal_ramp if name == "vocals_db" else stream.music_ramp).set_db(level)
        elif name in self._faders:
            self._controls.parts_db[part] = level = _level(name, value)
            if stream is not None:
                stream.part_ramps[part].set_db(level)
        elif name in _SWITCHES:
            self._controls.bypass = bool(value)
            if stream is not None:
                stream.set_bypass(bool(value))
        elif name in self.separator.params.params:
            self.separator.params.set(name, value)
        else:
            known = (*self._faders, *_SWITCHES, *self.separator.params.params)
            raise UsageError(f"unknown parameter '{name}': {nearest(name, known)}")

    def get(self, name: str) -> float:
        """Value that was last set [any thread]."""
        if name in (*_FADERS, *_SWITCHES):
            return float(getattr(self._controls, name))
        if name in self._faders:
            return self._controls.parts_db[name.removesuffix("_db")]
        return self.separator.params.get(name)

    def snapshot(self) -> Stats:
        """Figures of this moment [any thread but the audio and worker threads]."""
        with self._lock:
            stream, route = self._stream, self._route
            if stream is None or route is None:
                return structs.replace(
                    self._last, state=self._state, messages=tuple(self._messages), losses=self._losses
                )
            fault = stream.inference.fault if self._state == "playing" else ""
            return structs.replace(
                stream_stats(stream, self._before, self._played_s),
                vocals_db=self._controls.vocals_db,
                music_db=self._controls.music_db,
                parts_db=dict(self._controls.parts_db),
                bypass=self._controls.bypass,
                recording=str(self.options.record) if self._recorder is not None and stream.recording else "",
                state=f"bypassed: {fault}" if fault else self._state,
                input=route.input_name,
                output=route.output_name,
                separator=self.separator.name,
                reconnections=self._reconnections,
                stepdowns=self._stepdown.count if self._stepdown else 0,
                messages=tuple(self._messages),
                losses=self._losses,
            )

    def _say(self, line: str) -> None:
        """A line for the user; the same one is not repeated."""
        if line and (not self._messages or self._messages[-1] != line):
            self._messages = [*self._messages, line][-_MESSAGES_KEPT:]

    def _say_lost(self, line: str) -> None:
        """A line about sound that a file lacks: told at the end too, even to those who want errors only."""
        self._say(line)
        self._losses = (*self._losses, line)

    def _open(self) -> None:
        """Devices, files, net and stream; no sound yet."""
        options = self.options
        earlier = self._earlier
        hop = self.separator.required_hop(options.samplerate or 48000) or self._hop
        route = open_route(options, hop, earlier.source if earlier else None, self._sink, self._linked)
        self._route = route
        stream = Stream(
            route.driver,
            route.source,
            self.separator,
            self._hop,
            self._controls,
            self._timing,
            with_sink=route.sink is not None,
            sink_ring=self._sink_ring,
            record_ring=self._record_ring,
            going_on=earlier,
            duration_s=options.duration_s,
        )
        self._open_sink(route, stream)
        self._stream = stream
        self._linked = self._linked or route.driver.linked
        stream.rest(self._stepdown is not None and self._stepdown.resting)
        stream.feed()
        for line in (*route.notes, *self.separator.notes):
            self._say(line)

    def _open_sink(self, route: Route, stream: Stream) -> None:
        """Begin with the file or pipe that takes what is played, or go on with it: `RtsepError` if that cannot be."""
        sink, ring = route.sink, stream.sink_ring
        if sink is None or ring is None:
            return
        form = (route.driver.samplerate, stream.channels)
        if self._sink is None:
            sink.open(*form)
            sink.start(ring)
            self._sink, self._sink_ring, self._sink_form = sink, ring, form
        elif form != self._sink_form:
            was, now = (f"{rate} Hz and {channels} channels" for rate, channels in (self._sink_form, form))
            raise RtsepError(f"{route.output_name} ends here: it has {was}, and the device came back with {now}")

    def _play(self) -> None:
        assert self._stream is not None
        self._stream.start()
        self._state = "playing"

    def _start_recorder(self) -> None:
        options, stream = self.options, self._stream
        if options.record is None or stream is None:
            return
        self._recorder = Recorder(
            options.record,
            stream.spec.samplerate,
            stream.channels,
            options.record_format,
            overwrite=options.overwrite,
            parts=self.separator.parts,
        )
        self._recorder.start(stream.record_ring)
        self._record_ring, self._record_rate = stream.record_ring, stream.spec.samplerate
        stream.recording = True

    def _go_on_recording(self) -> None:
        """After a reconnection: into the same files, if rate and channels are the same."""
        stream = self._stream
        if self._recorder is None or stream is None:
            return
        if stream.record_ring is self._record_ring and stream.spec.samplerate == self._record_rate:
            stream.recording = True
        else:
            self._say_lost("the recording ends: the device came back with another rate or other channels")
            self._end_recording()

    def _end_recording(self) -> None:
        """Finish the files; the sound goes on."""
        recorder, stream, lost = self._recorder, self._stream, self._record_lost
        if recorder is None:
            return
        if stream is not None:
            stream.recording = False
            lost += int(stream.words[worker.RECORD_LOST])
        recorder.stop()
        self._recorder = None
        if recorder.error is not None:
            self._say_lost(f"the recording stopped: {recorder.error}")
        elif lost:
            self._say_lost(f"the recording lacks {lost} frames: the disk was too slow")
        if recorder.clipped:
            form = self.options.record_format
            self._say_lost(
                f"the recording has {recorder.clipped} samples above full scale, cut in {form}: wav keeps them"
            )

    def _close(self, keep_source: bool = False, keep_sink: bool = False) -> None:
        """End the stream and close its devices and files; the recorder stays, and source and sink if asked.

        From then on the counters of the stream are among those `before`.
        """
        with self._lock:
            stream, self._stream = self._stream, None
            if stream is not None:
                self._before += counters(stream)
                self._played_s += stream.position_s
        if stream is not None:
            stream.stop(keep_source)
            self._record_lost += int(stream.words[worker.RECORD_LOST])
            self._sink_lost += int(stream.context.words[tick.SINK_LOST])
        if keep_source:
            self._earlier = stream or self._earlier
        elif self._earlier is not None and self._earlier.source is not None:
            self._earlier.source.stop()
        route, self._route = self._route, None
        if route is not None:
            route.close(keep_source, keep_sink)
        if self._sink is not None and not keep_sink:
            self._sink.stop()
            if self.error is None:
                self.error = self._sink.error
            if self._sink_lost:
                self._say_lost(f"the output lacks {self._sink_lost} frames: the disk or reader was too slow")

    def _supervise(self) -> None:
        """`_watch`; whatever it did not expect ends the session in good order [supervisor thread]."""
        try:
            self._watch()
        except Exception as error:
            self.error = RtsepError(f"the session broke off, by an error of rtsep itself: {error!r}")
            self.error.__cause__ = error
            self._done.set()

    def _watch(self) -> None:
        """Watch until the input ends, something fatal happens, or the session is stopped [supervisor thread]."""
        while not self._stopping.wait(_WATCH_S):
            stream, route = self._stream, self._route
            if stream is None or route is None:
                continue
            if self._recorder is not None and self._recorder.error is not None:
                self._end_recording()
            self._watch_load(stream)
            error = getattr(stream.source, "error", None) or (route.sink.error if route.sink else None)
            lost = stream.driver.lost or (stream.source.lost if stream.source and stream.source.own_clock else "")
            if lost:
                self._reconnect(lost)
            elif error is not None and (
                stream.ended or stream.source is None or error is not getattr(stream.source, "error", None)
            ):
                self.error = error
                self._done.set()
                return
            elif stream.ended:
                self._done.set()
                return

    def _watch_load(self, stream: Stream) -> None:
        """Send the separator to rest while the machine has no time for it [supervisor thread]."""
        if self._stepdown is None:
            return
        hops, late = (int(n) for n in (self._before + counters(stream))[:2])
        if self._stepdown.look(time.monotonic(), hops, late):
            stream.rest(self._stepdown.resting)
            self._say(self._stepdown.why)

    def _reconnect(self, why: str) -> None:
        """Close the stream and open it anew as soon as that is possible [supervisor thread]."""
        self._say(why)
        self._state = f"reconnecting: {why}"
        stream = self._stream
        # A file goes on where it was; a device that comes back begins anew.
        keep = stream is not None and stream.source is not None and not stream.source.own_clock
        if stream is not None:
            self._last = self.snapshot()
        self._close(keep, keep_sink=True)
        while not self._stopping.wait(_RETRY_S):
            try:
                self._open()
                if self._stopped:  # nobody has waited so long for the device
                    self._close()
                    return
                self._go_on_recording()
                self._play()
            except DeviceError as error:
                self._close(keep, keep_sink=True)
                self._state = f"reconnecting: {error}"
                continue
            except RtsepError as error:
                self._close()
                self.error = error
                self._done.set()
                return
            self._reconnections += 1
            self._say(f"sound again after {why}")
            return

    def _check_overload(self) -> None:
        last = self._last
        if self.error is None and last.hops >= _OVERLOAD_HOPS and last.late > _OVERLOAD_SHARE * last.hops:
            hop_ms = 1000.0 * last.hop_frames / last.samplerate
            self.error = OverloadError(
                f"this machine is too slow for separator {self.separator.name} at a hop of {last.hop_frames} frames: "
                f"{last.late} of {last.hops} masks were late (median {last.infer_ms_p50:.2f} ms of {hop_ms:.2f} ms); "
                "try --separator auto or --separator midside"
                + ("" if self.separator.required_hop(last.samplerate) else ", or a larger --hop")
            )


def _level(name: str, value: str | float | bool) -> float:
    """Level of a fader in dB; `UsageError` if it is none."""
    try:
        level = float(value)
    except ValueError:
        level = math.nan
    if math.isnan(level) or level > MOST_DB:
        raise UsageError(f"{name} = {value} is not possible: -inf to {MOST_DB:g} dB are")
    return level
