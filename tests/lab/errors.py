"""What can go wrong with the lab."""


class LabError(Exception):
    """The lab should work here and does not; the message says what failed."""


class UnavailableError(LabError):
    """The lab cannot be had on this machine (not root, not Debian, no cgroups); the message says why."""
