"""One declaration of a schedule, written for systemd, cron, launchd and Task Scheduler, and read back.

Every module here is pure: text in, text out. What a scheduler cannot do is refused or said, never faked.
"""

from calm.schedules.model import (
    Always,
    At,
    Calendar,
    Clock,
    Daily,
    Every,
    Hourly,
    Monthly,
    Schedule,
    UnreadableError,
    UnsupportedError,
    Weekly,
    When,
)

__all__ = [
    "Always",
    "At",
    "Calendar",
    "Clock",
    "Daily",
    "Every",
    "Hourly",
    "Monthly",
    "Schedule",
    "UnreadableError",
    "UnsupportedError",
    "Weekly",
    "When",
]
