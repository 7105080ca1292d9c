"""The command line. Its imports make many objects and drop none: a collector that looks seldom lets it start sooner."""

import gc

gc.set_threshold(50_000, 20, 20)
