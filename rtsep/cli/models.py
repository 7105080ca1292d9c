"""`rtsep models`: the separators that there are, and the parameters of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def models(
    name: Annotated[str | None, Parameter(name="NAME")] = None,
    /,
    *,
    json: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> int:
    """List the separators, or describe one and its parameters.

    For example:
      rtsep models
      rtsep models midside
      rtsep models path/to/model/folder

    Parameters
    ----------
    name
        A separator's name, or the path of a model folder.
    json
        Print JSON.
    """
    return _list(json) if name is None else _describe(name, json)


def _list(json: bool) -> int:
    import msgspec

    from rtsep.separators.registry import names

    entries = names()
    if json:
        print(msgspec.json.format(msgspec.json.encode(entries), indent=2).decode())
        return 0
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        text = f"cannot be used: {entry.fault}" if entry.fault else entry.summary
        print(f"{entry.name:<{width}}  {entry.kind:<8}  {text}")
    return 0


def _describe(name: str, json: bool) -> int:
    import msgspec

    from rtsep.separators.registry import create, names

    separator = create(name, device="cpu")
    params = list(separator.params.params.values())
    entry = next((entry for entry in names() if entry.name in (name, name.partition(":")[0])), None)
    origin = entry.origin if entry else str(getattr(separator, "folder", None) or Path(name).resolve())
    values = {"name": separator.name, "summary": separator.summary, "origin": origin, "parameters": params}
    values["parts"] = ["vocals", *(separator.parts or ["music"])]
    if json:
        print(msgspec.json.format(msgspec.json.encode(values), indent=2).decode())
        return 0
    print(f"{separator.name}: {separator.summary}\nfrom {origin}")
    card = Path(origin) / "CARD.md"
    if card.is_file():
        print(f"data, licence, scores and cost: {card}")
    if separator.parts:
        print(f"tells {', '.join(separator.parts)} apart in the music (--{', --'.join(separator.parts)})")
    print("\nparameters (--set NAME=VALUE):" if params else "\nno parameters")
    for param in params:
        value = separator.params.get(param.name)
        if param.choices:
            span, usual = " | ".join(param.choices), param.choices[int(value)]
        elif param.unit == "switch":
            span, usual = "off | on", "on" if value else "off"
        else:
            span, usual = f"{param.low:g} to {param.high:g} {param.unit}".strip(), f"{value:g}"
        print(f"  {param.name:<12} {span:<22} default {usual:<8} {param.help}")
    return 0
