"""`rtsep completion`: the script that completes commands and options in a shell."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL")], /) -> None:
    """Print the script with which a shell completes commands.

    For example:
      rtsep completion bash > ~/.local/share/bash-completion/completions/rtsep
      rtsep completion zsh > ~/.zsh/completions/_rtsep      (a folder of your fpath)
      rtsep completion fish > ~/.config/fish/completions/rtsep.fish

    Parameters
    ----------
    shell
        Which shell.
    """
    from rtsep.cli.main import app

    print(app.generate_completion(shell=shell))
