"""A stand-in for LM Studio: its processes, files, HTTP API and command line, for tests."""

from tests.lab.lmstudio.install import Instance, LMStudio, free_port, wait_until

__all__ = ["Instance", "LMStudio", "free_port", "wait_until"]
