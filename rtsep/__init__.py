"""rtsep: separates the singing voice from music while it plays."""

from rtsep._cache import discard_stale

__version__ = "0.1.0"

discard_stale()
