"""The nets that the shared loop (`rtsep.training.trainer`) trains, by name.

`rtsep train NAME` and `rtsep export` find them here; nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from rtsep.errors import UsageError, nearest

if TYPE_CHECKING:
    from rtsep.training.trainer import Settings, Task

#: Module and class of each.
TASKS: dict[str, str] = {
    "acapella": "rtsep.training.tasks.acapella:AcapellaTask",
    "acapella-v2": "rtsep.training.tasks.acapella:AcapellaV2Task",
    "cvpnn": "rtsep.training.tasks.vpnn:CvpnnTask",
    "deep-karaoke": "rtsep.training.tasks.deep_karaoke:DeepKaraokeTask",
    "dnn": "rtsep.training.tasks.vpnn:DnnTask",
    "drnn": "rtsep.training.tasks.drnn:DrnnTask",
    "nmf": "rtsep.training.tasks.nmf:NmfTask",
    "wvpnn": "rtsep.training.tasks.vpnn:WvpnnTask",
}


#: Settings whose own options check them: `--set split=validation` would train on the songs that are held out.
CHECKED = ("lookahead", "split", "target")
#: A frozen dataclass of settings.
Chosen = TypeVar("Chosen")


def find(name: str) -> type[Task]:
    """The task of a net."""
    module, _, attribute = TASKS[name].partition(":")
    found: type[Task] = getattr(importlib.import_module(module), attribute)
    return found


def configured(kind: type[Task], texts: Sequence[str] = (), **options: Any) -> Settings:
    """The settings of a task: its own, over them `options` that are not None, then texts ``NAME=VALUE``.

    Raises
    ------
    UsageError
        A field that the task does not have, or a value that is none.
    """
    settings = kind.settings_kind()
    known = {field.name for field in fields(settings)}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            raise UsageError(f"--{name.replace('_', '-')} is not for {kind.name}")
    return with_settings(replace(settings, **given), kind.name, texts)


def with_settings(settings: Chosen, owner: str, texts: Sequence[str]) -> Chosen:
    """The settings of `owner` with those that texts ``NAME=VALUE`` give.

    Raises
    ------
    UsageError
        A field that they do not have or that has an option of its own, or a value that is none.
    """
    known = {field.name for field in fields(settings)}  # type: ignore[arg-type]
    hints, given = get_type_hints(type(settings)), {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and value):
            raise UsageError(f"--set {text} is not understood: --set NAME=VALUE is")
        if name not in known:
            raise UsageError(f"--set {name}: {owner} has no such setting: {nearest(name, sorted(known))}")
        if name in CHECKED:
            raise UsageError(f"--set {text} is not possible: give --{name} {value}")
        given[name] = _parsed(name, value, hints[name])
    return replace(settings, **given)  # type: ignore[type-var]


def _parsed(name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text not in {"on", "off"}:
            raise UsageError(f"--set {name}={text}: expected on or off")
        return text == "on"
    try:
        return kind(text)
    except (TypeError, ValueError):
        raise UsageError(f"--set {name}={text}: expected {getattr(kind, '__name__', kind)}") from None
