"""`rtsep config`: show, check and write the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

HELP = """Show, check or write the configuration file.

It is TOML, read from ~/.config/rtsep/config.toml or from --config FILE. Options
of the command line come before it.

For example:
  rtsep config init
  rtsep config check
  rtsep config show --config studio.toml"""

app = App(name="config", help=HELP, help_format="plaintext")

_File = Annotated[Path | None, Parameter(name=["--config", "-c"])]


@app.command
def show(*, config: _File = None) -> int:
    """Print every key with its value.

    For example:
      rtsep config show

    Parameters
    ----------
    config
        File instead of ~/.config/rtsep/config.toml.
    """
    from rtsep.config import default_path, load, to_toml

    path = config or default_path()
    print(f"# {path}" if path.is_file() else f"# defaults; {path} does not exist (`rtsep config init` writes it)")
    print(to_toml(load(config)), end="")
    return 0


@app.command
def check(*, config: _File = None) -> int:
    """Check the file: keys, ranges, the separator, its parameters, hop and faders.

    For example:
      rtsep config check --config studio.toml

    Parameters
    ----------
    config
        File instead of ~/.config/rtsep/config.toml.
    """
    from rtsep.config import default_path, load
    from rtsep.errors import ConfigError, RtsepError
    from rtsep.separators.profiles import AUTO
    from rtsep.separators.registry import create

    path = config or default_path()
    found = load(config)
    params = found.separators
    named = found.stream.separator
    wanted = dict.fromkeys([*([] if named in (None, AUTO) else [named]), *params] if path.is_file() else [])
    for name in wanted:
        try:
            separator = create(name, device="cpu")
            for key, value in params.get(name, {}).items():
                separator.params.set(key, value)
        except RtsepError as error:
            raise ConfigError(f"configuration {path}: separator {name}: {error}") from None
    if path.is_file() and named != AUTO:
        from rtsep.cli.options import session_options, settings
        from rtsep.engine.session import Session

        try:
            Session(session_options(found, settings(found, None), device="cpu"))
        except RtsepError as error:
            raise ConfigError(f"configuration {path}: {error}") from None
    print(f"{path}: all well" if path.is_file() else f"{path} does not exist: the defaults are used")
    return 0


@app.command
def init(
    *, config: _File = None, overwrite: Annotated[bool, Parameter(negative=(), show_default=False)] = False
) -> int:
    """Write a file with every key explained, at its default.

    For example:
      rtsep config init
      rtsep config init --config studio.toml

    Parameters
    ----------
    config
        File instead of ~/.config/rtsep/config.toml.
    overwrite
        Replace the file if it is already there.
    """
    from rtsep.config import Config, default_path, to_toml
    from rtsep.errors import ConfigError

    path = config or default_path()
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists: --overwrite replaces it, `rtsep config show` prints it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_toml(Config(), comments=True), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    print(path)
    return 0
