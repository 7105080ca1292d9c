"""`rtsep doctor`: what the machine has, what it lacks, and how to mend it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

#: How each state is shown; `miss` is a thing that one may well do without.
MARKS = {"ok": ("OK  ", "green"), "miss": ("-   ", "dim"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def doctor(*, json: Annotated[bool, Parameter(negative=(), show_default=False)] = False) -> int:
    """Check the machine, and say how to mend what is wrong.

    Sound servers, libraries, real-time rights, models. The exit code is 0 unless
    something fails without which nothing works.

    For example:
      rtsep doctor
      rtsep doctor --json | jq '.[] | select(.state != "ok")'

    Parameters
    ----------
    json
        Print a JSON list.
    """
    from rtsep.cli.checks import CHECKS

    results = []
    for check in CHECKS:
        results += check()
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(results), indent=2).decode())
    else:
        from rich.console import Console
        from rich.text import Text

        console = Console(highlight=False)
        for result in results:
            mark, style = MARKS[result.state]
            console.print(Text.assemble((mark, style), f"  {result.name:<12} {result.text}"), soft_wrap=True)
            if result.fix:
                console.print(Text(f"{'':<19}-> {result.fix}"), soft_wrap=True)
    return 1 if any(result.state == "fail" for result in results) else 0
