"""`rtsep devices`: what sound can come from and go to."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def devices(*, json: Annotated[bool, Parameter(negative=(), show_default=False)] = False) -> int:
    """List the sound devices that --input and --output can name.

    A device is named by its number, its name or any part of the name; `<` marks
    what `mic` and `speakers` stand for.

    For example:
      rtsep devices
      rtsep devices --json | jq '.[].name'

    Parameters
    ----------
    json
        Print a JSON list.
    """
    import msgspec

    from rtsep.io.devices import list_devices

    found = list_devices()
    if json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return 0
    if not found:
        print("no sound device found; `rtsep doctor` says what is missing")
        return 0
    name_width = max(len(device.name) for device in found)
    host_width = max(len(device.host) for device in found)
    for device in found:
        marks = [name for name, on in (("mic", device.default_in), ("speakers", device.default_out)) if on]
        mark = f"  < {', '.join(marks)}" if marks else ""
        number = "" if device.index is None else device.index
        channels = f"{device.inputs:>3} in {device.outputs:>3} out"
        name = f"{device.name:<{name_width}}  {device.host:<{host_width}}"
        print(f"{number:>3}  {name}  {channels}  {device.samplerate:>6.0f} Hz{mark}")
    return 0
