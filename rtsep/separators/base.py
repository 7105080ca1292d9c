"""What a separator is: spectrum in, vocal mask out, one hop at a time; perhaps masks of further stems."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import UsageError, nearest
from rtsep.spec import StreamSpec

Spectrum = NDArray[np.complex64]
Mask = NDArray[np.float32]

#: Stems that a separator may tell apart in the music, and what the rest of the music is called then.
STEMS = ("drums", "bass")
OTHER = "other"

#: Time in which a changed parameter reaches its new value.
RAMP_MS = 50.0


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a separator.

    Parameters
    ----------
    name : str
        As in ``--set NAME=VALUE``.
    unit : str
        ``"hz"``, ``"db"``, ``"ms"``, ``""`` for a bare number, ``"switch"`` for 0 or 1, ``"choice"`` for an index
        into `choices`.
    low, high : float
        Range, both ends included.
    default : float
        Value at start.
    help : str
        One line: what it does and what a higher value means.
    choices : tuple of str
        Names of the values of a ``"choice"``, in their order; users may write them in capitals or not.
    """

    name: str
    unit: str
    low: float
    high: float
    default: float
    help: str
    choices: tuple[str, ...] = ()

    @property
    def stepped(self) -> bool:
        """True where a person cannot ask for a value between two others (switches and choices)."""
        return self.unit in ("switch", "choice")

    def parse(self, text: str | float | bool) -> float:
        """Value of a text such as ``"120"``, ``"on"`` or a choice's name, in any case of letters [any thread].

        `UsageError` if it is not one or out of range.
        """
        word = str(text).strip()
        if word in self.choices:
            return float(self.choices.index(word))
        word, names = word.lower(), [choice.lower() for choice in self.choices]
        if names.count(word) == 1:
            return float(names.index(word))
        if self.unit == "switch" and word in ("on", "true", "yes", "off", "false", "no"):
            return float(word in ("on", "true", "yes"))
        allowed = " or ".join(self.choices) if self.choices else f"{self.low:g} to {self.high:g} {self.unit}".strip()
        try:
            value = float(word)
        except ValueError:
            raise UsageError(f"parameter {self.name}={text} is not understood: {allowed} is") from None
        if not self.low <= value <= self.high or (self.stepped and value != int(value)):
            raise UsageError(f"parameter {self.name}={text} is not possible: {allowed} is")
        return value


class Parameters:
    """Values of a separator's parameters: targets set by any thread, ramped by the inference thread.

    Parameters
    ----------
    params : tuple of Param
        What there is to set.

    Attributes
    ----------
    params : dict of str to Param
        The same by name, in their order; never changed [any thread].
    state : ndarray of float64, shape (3, parameters)
        Rows: targets, current values, most that a value moves in a hop, each in the parameter's own unit; for
        `rtsep.separators.kernels.ramp`. The memory stays where it is.
    values : ndarray of float64, shape (parameters,)
        The second row, in the order of `params` [inference thread].
    """

    def __init__(self, params: tuple[Param, ...]) -> None:
        self.params = {p.name: p for p in params}
        self._index = {p.name: i for i, p in enumerate(params)}
        self.state: NDArray[np.float64] = np.zeros((3, len(params)))
        self._target, self.values, self._step = self.state
        # A switch is ramped from 0 to 1 too: the separator cross-fades between its two states. Only choices jump.
        self._span = np.array([np.inf if p.unit == "choice" else p.high - p.low for p in params], dtype=np.float64)
        self._target[:] = self.values[:] = [p.default for p in params]
        self._step[:] = self._span
        self._delta = np.zeros_like(self.values)
        # Compared once per hop: views of the same memory, because an array's own comparison would allocate.
        self._views = memoryview(self._target.data), memoryview(self.values.data)

    def set(self, name: str, value: str | float | bool) -> None:
        """Set the target of a parameter [any thread]; `UsageError` for an unknown name or a value out of range."""
        if name not in self.params:
            raise UsageError(f"unknown parameter '{name}': {nearest(name, self.params)}")
        self._target[self._index[name]] = self.params[name].parse(value)

    def get(self, name: str) -> float:
        """Target value of a parameter, a number in its unit, or the index of a choice [any thread]; `KeyError` for an
        unknown name.
        """
        return float(self._target[self._index[name]])

    def prepare(self, hop_ms: float) -> None:
        """Set the ramp's step for a hop of so many ms and jump to the targets [main thread, stream stopped]."""
        self._step[:] = self._span * min(1.0, hop_ms / RAMP_MS)
        self.settle()

    def settle(self) -> None:
        """Jump to the targets [inference thread, or stream stopped]."""
        self.values[:] = self._target

    def ramp(self) -> bool:
        """Move `values` one hop towards the targets [inference thread, no allocation]; True if any value changed."""
        wanted, current = self._views
        if wanted == current:
            return False
        np.subtract(self._target, self.values, out=self._delta)
        np.minimum(self._delta, self._step, out=self._delta)
        np.negative(self._step, out=self._step)
        np.maximum(self._delta, self._step, out=self._delta)
        np.negative(self._step, out=self._step)
        self.values += self._delta
        return True


class Compiled(NamedTuple):
    """A separator as a C function, which the inference thread calls without the interpreter and its lock.

    Parameters
    ----------
    function : int
        Address of ``int64_t function(void *memory, const float complex *spectrum, float *mask)``. It does what
        `Separator.process` does, parameters' ramps included, with C-contiguous arrays of the same shapes. 0 says that
        all went well, a positive number what did not.
    memory : int
        Address that it is called with.
    owner : object
        Kept alive as long as the function may be called.
    explain : callable
        Turns what the function returned into a line for the user [inference thread, once for each failure].
    """

    function: int
    memory: int
    owner: object
    explain: Callable[[int], str] = "code {}".format


class Separator(ABC):
    """A plug-in that estimates, hop by hop, how much of each bin is voice.

    Subclasses set `name`, `summary` and `PARAMS`. The engine calls `prepare` before each stream [main thread], then
    `process` once per hop [inference thread], and `reset` where the past shall be forgotten. A separator knows nothing
    of threads, devices or files. What the class, `__init__` and `prepare` set, any thread may read; but for `params`
    and `stems_wanted` it does not change while a stream runs.
    """

    #: What messages call it; the name of the class in small letters where a class sets none.
    name: str
    #: One line for lists.
    summary: str = ""
    #: What a user may set; the values are in `params`.
    PARAMS: ClassVar[tuple[Param, ...]] = ()
    #: What the rows of a stereo mask are for: ``"channels"`` (left, right), ``"mid_side"`` (half the sum, half the
    #: difference of left and right) or ``"complex"`` (real parts of left and right, then the imaginary ones). A mono
    #: stream has the first row alone, or the first of both parts.
    mask_kind: str = "channels"
    #: Stems of `STEMS` that it tells apart in the music. For each the mask has as many further rows as for the voice.
    stems: tuple[str, ...] = ()

    #: Time in ms that the engine shall leave for one hop where the device's periods are short: several times the cost,
    #: since a thread that slept wakes up late and finds its data gone from the caches. It lengthens the latency.
    work_ms: float = 1.3

    def __init__(self) -> None:
        #: Values of `PARAMS`; set by any thread, ramped and read by the inference thread.
        self.params = Parameters(self.PARAMS)
        #: Lines for the user that are no errors, such as why a GPU is not used; filled by `prepare`.
        self.notes: list[str] = []
        #: (1,) 0 while nobody hears the stems, else 1: a separator may leave their rows of the mask at 0 then. Written
        #: by the worker thread before each spectrum.
        self.stems_wanted: NDArray[np.float32] = np.ones(1, np.float32)

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "name"):
            cls.name = cls.__name__.lower()
        # Whoever replaces `process` alone does not mean the C function that he inherits.
        if "process" in vars(cls) and "compiled" not in vars(cls):
            cls.compiled = Separator.compiled  # type: ignore[method-assign]

    @property
    def latency(self) -> int:
        """Look-ahead in frames at the engine's rate, a multiple of the hop; known after `prepare` [main thread]."""
        return 0

    @property
    def parts(self) -> tuple[str, ...]:
        """The stems and the rest of the music, which have a fader each; empty if it knows no stems [any thread]."""
        return (*self.stems, OTHER) if self.stems else ()

    def mask_rows(self, channels: int) -> int:
        """Rows of a mask for 1 or 2 channels: those of the voice, then those of each stem [main thread].

        A complex mask has two for each channel, real and imaginary part.
        """
        return (2 if self.mask_kind == "complex" else 1) * channels * (1 + len(self.stems))

    def required_hop(self, samplerate: int) -> int | None:
        """Hop in frames that this separator needs at `samplerate` in Hz; None if it takes any [main thread]."""
        return None

    def supported_samplerates(self) -> tuple[int, ...]:
        """Engine rates in Hz that it was made for; empty if it takes any [main thread]. The engine resamples to the
        nearest.
        """
        return ()

    @abstractmethod
    def prepare(self, spec: StreamSpec) -> None:
        """Allocate everything for `spec`, perhaps not for the first time; `UsageError` or `ModelError` if it cannot run
        so [main thread, stream stopped].
        """

    @abstractmethod
    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Write the vocal mask for the frame of `latency` ago [inference thread; no allocation, lock, log or wait].

        Parameters
        ----------
        spectrum : ndarray of complex64, shape (channels, bins)
            Newest spectrum of the mixture, unnormalised like numpy's rfft; C-contiguous, not to be written to.
        mask : ndarray of float32, shape (channels, bins)
            To be filled with 0 (music) to 1 (voice); C-contiguous. A complex one has shape (2 x channels, bins), see
            `mask_rows`, and any value. Of a separator with `stems`, (`mask_rows`, bins): the rows after those of the
            voice are for the stems, which may take 0 to all of the mixture that the voice leaves. With NaN or infinity
            in it, the engine bypasses the separator for a while.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget the past, as after `prepare` [main thread, stream stopped; or inference thread, after a failure]."""

    def compiled(self) -> Compiled | None:
        """Give this separator as a C function; None if it has no such form, then the engine calls `process` [main
        thread, after `prepare`].
        """
        return None
