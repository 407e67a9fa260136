"""The lab by hand: `python -m tests.lab up`."""
from tests.lab import engine
e, s = engine.up(); print(e.socket, s)
