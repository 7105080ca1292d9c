"""rtsep: separates the singing voice from music while it plays."""

__version__ = "0.1.0"
