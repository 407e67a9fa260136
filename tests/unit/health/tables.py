"""Process tables as Linux, Windows and macOS give them, from listings that users of LM Studio have posted."""

from __future__ import annotations

from typing import Any

from calm.health.identity import Identity
from calm.health.processes import Process

Row = dict[str, Any]

LINUX_APP = "/opt/LM Studio/lm-studio"
LINUX_NODE = "/home/ann/.lmstudio/.internal/utils/node"
LINUX_WORKERS = "/opt/LM Studio/resources/app/.webpack/lib"

LINUX: list[Row] = [
    {"pid": 1, "parent": 0, "created_at": 1.0, "name": "systemd", "executable": "/usr/lib/systemd/systemd"},
    {
        "pid": 100,
        "parent": 1,
        "created_at": 10.0,
        "name": "lm-studio",
        "executable": LINUX_APP,
        "arguments": [],
    },
    *(
        {
            "pid": pid,
            "parent": parent,
            "created_at": 11.0 + pid / 1000,
            "name": "lm-studio",
            "executable": LINUX_APP,
        }
        | {"arguments": [f"--type={kind}"]}
        for pid, parent, kind in [
            (101, 100, "zygote"),
            (102, 100, "zygote"),
            (103, 100, "gpu-process"),
            (104, 102, "renderer"),
            (105, 100, "utility"),
            (106, 100, "broker"),
        ]
    ),
    *(
        {"pid": pid, "parent": 100, "created_at": 12.0, "name": "node", "executable": LINUX_NODE}
        | {"arguments": [f"{LINUX_WORKERS}/{script}"]}
        for pid, script in [(107, "systemresourcesworker.js"), (108, "llmworker.js")]
    ),
]

WINDOWS_APP = r"C:\Users\Ann\AppData\Local\Programs\LM Studio\LM Studio.exe"
WINDOWS_NODE = r"C:\Users\Ann\.lmstudio\.internal\utils\node.exe"
AURA = r"C:\Program Files (x86)\ASUS\AURA lighting effect add-on\LM_Support.exe"

WINDOWS: list[Row] = [
    {
        "pid": 900,
        "parent": 4,
        "created_at": 5.0,
        "name": "explorer.exe",
        "executable": r"C:\Windows\explorer.exe",
    },
    {"pid": 1000, "parent": 900, "created_at": 10.0, "name": "LM Studio.exe", "executable": WINDOWS_APP},
    *(
        {
            "pid": pid,
            "parent": 1000,
            "created_at": 11.0,
            "name": "LM Studio.exe",
            "executable": WINDOWS_APP.lower(),
        }
        | {"arguments": [f"--type={kind}"]}
        for pid, kind in [(1001, "gpu-process"), (1002, "renderer"), (1003, "utility"), (1004, "utility")]
    ),
    {"pid": 1005, "parent": 1000, "created_at": 12.0, "name": "node.exe", "executable": WINDOWS_NODE},
    {"pid": 1006, "parent": 900, "created_at": 6.0, "name": "LM_Support.exe", "executable": AURA},
]

MAC_APP = "/Applications/LM Studio.app/Contents/MacOS/LM Studio"
MAC_HELPER = (
    "/Applications/LM Studio.app/Contents/Frameworks/"
    "LM Studio Helper{0}.app/Contents/MacOS/LM Studio Helper{0}"
)

MACOS: list[Row] = [
    {"pid": 1, "parent": 0, "created_at": 1.0, "name": "launchd", "executable": "/sbin/launchd"},
    {"pid": 500, "parent": 1, "created_at": 10.0, "name": "LM Studio", "executable": MAC_APP}
    | {"arguments": ["--run-as-service"]},
    *(
        {
            "pid": pid,
            "parent": 500,
            "created_at": 11.0,
            "name": "LM Studio Helper",
            "executable": MAC_HELPER.format(kind),
        }
        for pid, kind in [(501, " (GPU)"), (502, " (Renderer)"), (503, "")]
    ),
    {"pid": 504, "parent": 500, "created_at": 12.0, "name": "node"}
    | {"executable": "/Users/ann/.lmstudio/.internal/utils/node"},
]

LINUX_LOOKS = Identity(system="Linux", home="/home/ann/.lmstudio")
WINDOWS_LOOKS = Identity(system="Windows", home=r"C:\Users\Ann\.lmstudio")
MAC_LOOKS = Identity(system="Darwin", home="/Users/ann/.lmstudio")


def table(*rows: Row) -> list[Process]:
    """Rows as calm reads them; the arguments begin with the executable, as argv does."""
    return [process(**row) for row in rows]


def process(**row: Any) -> Process:
    """One row."""
    arguments = (str(row.get("executable")), *row.get("arguments", ()))
    return Process(**{**row, "arguments": arguments})
