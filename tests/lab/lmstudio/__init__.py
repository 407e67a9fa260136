"""A stand-in for LM Studio: its processes, files, HTTP API and command line, for tests."""

from tests.lab.lmstudio.install import Instance, LMStudio, wait_until

__all__ = ["Instance", "LMStudio", "wait_until"]
