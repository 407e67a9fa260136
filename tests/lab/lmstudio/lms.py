"""The stand-in's ``lms``: as the real one, most of its commands start LM Studio if it is down.

Every call is noted in ``lab/lms-calls.jsonl`` in LM Studio's home, so that a test can say that nobody called.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent.parent
INTERNAL = HOME / ".internal"


def ask(url: str, content: object = None) -> Any:
    """What a server answers, or ``None`` if none does."""
    data = None if content is None else json.dumps(content).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=5) as response:
            return json.load(response)
    except (OSError, ValueError):
        return None


def read(name: str) -> dict[str, Any]:
    """One of LM Studio's files, or an empty mapping."""
    try:
        return dict(json.loads((INTERNAL / name).read_text()))
    except (OSError, ValueError):
        return {}


def control() -> str | None:
    """The base of the running instance's own channel."""
    named = read("http-server.json")
    base = f"http://127.0.0.1:{named.get('port')}"
    return base if named and ask(f"{base}/lms-status") else None


def wake() -> str:
    """That base, after LM Studio was started if it was down; llmster is preferred if it is noted at all."""
    if base := control():
        return base
    print("Waking up LM Studio service...", file=sys.stderr)
    place = read("llmster-install-location.json") or read("app-install-location.json")
    if not place or not Path(place["path"]).exists():
        sys.exit("LM Studio could not be started")
    argv = [place["path"], *place["argv"], "--run-as-service"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(argv, cwd=place["cwd"], start_new_session=True, **quiet)  # type: ignore[call-overload]
    for _ in range(200):
        if base := control():
            return base
        time.sleep(0.05)
    sys.exit("LM Studio did not come up")


def server(arguments: argparse.Namespace) -> int:
    """``lms server start|stop|status``."""
    config = read("http-server-config.json")
    greeting = ask(f"http://127.0.0.1:{config.get('port')}/lmstudio-greeting")
    running = bool(greeting and greeting.get("lmstudio"))
    if arguments.verb == "status":
        port = {"port": config["port"]} if "port" in config else {}
        print(json.dumps({"running": running, **port}) if arguments.json else f"running: {running}")
        return 0
    if arguments.verb == "stop":
        return 0 if running and ask(f"{wake()}/lab/server/stop", {}) else 1
    # cors and bind go back to their defaults where the flag is left out, as with the real one.
    flags = {"cors": arguments.cors, "networkInterface": arguments.bind or "127.0.0.1"}
    ask(f"{wake()}/lab/server/start", flags | ({"port": arguments.port} if arguments.port else {}))
    port = read("http-server-config.json").get("port")
    return 0 if ask(f"http://127.0.0.1:{port}/lmstudio-greeting") else 1


def daemon(arguments: argparse.Namespace) -> int:
    """``lms daemon up|down|status``."""
    base = wake() if arguments.verb == "up" else control()
    status = ask(f"{base}/lms-status") if base else None
    if arguments.verb == "down":
        if not status or status["package"] != "llmster":
            return 1
        ask(f"{base}/lab/quit", {})
        return 0
    shown: dict[str, Any] = {"status": "running" if status else "not-running"}
    if status:
        shown |= {"pid": read("http-server.json")["pid"], "isDaemon": status["package"] == "llmster"}
        shown |= {"version": status["version"]} if arguments.verb == "up" else {}
    print(json.dumps(shown) if arguments.json else shown["status"])
    return 0


def models(arguments: argparse.Namespace) -> int:
    """``lms ps``, ``lms ls``, ``lms load``, ``lms unload``: every one of them wakes LM Studio."""
    base = wake()
    loaded = ask(f"{base}/lab/ps") or []
    if arguments.command in ("ps", "ls"):
        print(json.dumps(loaded))
        return 0
    if arguments.command == "load":
        return 0 if ask(f"{base}/lab/load", {"model": arguments.name, "ttl": arguments.ttl}) else 1
    if not loaded and not arguments.name:
        return 1
    names = [each["identifier"] for each in loaded] if arguments.all else [arguments.name]
    for name in names:
        # Status 0 even if there is no such model, as with the real one.
        ask(f"{base}/lab/unload", {"id": name})
    return 0


def parser() -> argparse.ArgumentParser:
    """The part of the real one's command line that is here."""
    root = argparse.ArgumentParser(prog="lms")
    commands = root.add_subparsers(dest="command", required=True)
    for name, verbs in (("server", ["start", "stop", "status"]), ("daemon", ["up", "down", "status"])):
        command = commands.add_parser(name)
        command.add_argument("verb", choices=verbs)
        command.add_argument("--json", action="store_true")
        command.add_argument("-p", "--port", type=int)
        command.add_argument("--bind")
        command.add_argument("--cors", action="store_true")
    for name in ("ps", "ls", "load", "unload"):
        command = commands.add_parser(name)
        command.add_argument("name", nargs="?")
        command.add_argument("--json", action="store_true")
        command.add_argument("-y", "--yes", action="store_true")
        command.add_argument("--all", action="store_true")
        command.add_argument("--ttl", type=float)
    return root


def main() -> int:
    """Note the call, then do it."""
    with (HOME / "lab" / "lms-calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    arguments = parser().parse_args()
    return {"server": server, "daemon": daemon}.get(arguments.command, models)(arguments)


if __name__ == "__main__":
    sys.exit(main())
