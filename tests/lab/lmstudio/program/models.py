"""What the stand-in has on disk and in memory: models, their instances, their workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Loaded:
    """A model in memory. Without a ttl it stays until it is unloaded, as with the real one."""

    id: str
    key: str
    worker: Any
    ttl: float | None = None
    jit: bool = False
    used_at: float = field(default_factory=time.monotonic)
    requests: int = 0

    @property
    def state(self) -> str:
        """As the command line names it."""
        return "generating" if self.requests else "idle"


class Models:
    """The catalogue on disk and what of it is loaded."""

    def __init__(
        self, catalogue: list[dict[str, Any]], hire: Callable[[], Any], *, load_seconds: float
    ) -> None:
        """``hire`` starts a worker process for one loaded model."""
        self.catalogue = {entry["key"]: entry for entry in catalogue}
        self.loaded: dict[str, Loaded] = {}
        self._hire, self._load_seconds, self._lock = hire, load_seconds, threading.RLock()
        threading.Thread(target=self._reap, daemon=True).start()

    def load(self, key: str, *, ttl: float | None = None, jit: bool = False) -> Loaded:
        """Load a model, a second time as ``key:2``; ``KeyError`` if there is none of that name."""
        self.catalogue[key]
        with self._lock:
            time.sleep(self._load_seconds)
            taken = [each for each in self.loaded.values() if each.key == key]
            name = key if not taken else f"{key}:{len(taken) + 1}"
            self.loaded[name] = Loaded(id=name, key=key, worker=self._hire(), ttl=ttl, jit=jit)
            return self.loaded[name]

    def unload(self, name: str) -> bool:
        """Unload one instance; whether there was one."""
        with self._lock:
            gone = self.loaded.pop(name, None)
        if gone is not None:
            gone.worker.dismiss()
        return gone is not None

    def wanted(self, name: str, *, jit: bool, ttl: float | None, evict: bool) -> Loaded:
        """The instance that a chat asks for, loaded now if ``jit``; ``KeyError`` if it cannot be had."""
        with self._lock:
            if not name and self.loaded:
                return next(iter(self.loaded.values()))
            if name in self.loaded:
                return self.loaded[name]
            if not jit or name not in self.catalogue:
                raise KeyError(name)
            for each in [
                each.id for each in self.loaded.values() if evict and each.jit and name in self.catalogue
            ]:
                self.unload(each)
            return self.load(name, ttl=ttl, jit=True)

    def _reap(self) -> None:
        while True:
            time.sleep(0.2)
            now = time.monotonic()
            for each in list(self.loaded.values()):
                if each.ttl and not each.requests and now - each.used_at > each.ttl:
                    self.unload(each.id)

    def v1(self) -> dict[str, Any]:
        """``GET /api/v1/models``."""
        return {"models": [self._v1(entry) for entry in self.catalogue.values()]}

    def _v1(self, entry: dict[str, Any]) -> dict[str, Any]:
        instances = [each for each in self.loaded.values() if each.key == entry["key"]]
        shown = [{"id": each.id, "config": {"context_length": 4096, "parallel": 4}} for each in instances]
        return {
            "type": "llm",
            "publisher": entry["key"].split("/")[0],
            "key": entry["key"],
            "display_name": entry["key"].split("/")[-1],
            "architecture": "qwen3",
            "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
            "size_bytes": entry["size_bytes"],
            "params_string": "4B",
            "loaded_instances": shown,
            "max_context_length": 32768,
            "format": "gguf",
        }

    def v0(self) -> dict[str, Any]:
        """``GET /api/v0/models``: loaded instances by their names, and the rest of the catalogue."""
        keys = {each.key for each in self.loaded.values()}
        names = [*self.loaded, *(key for key in self.catalogue if key not in keys)]
        return {"object": "list", "data": [self._v0(name) for name in names]}

    def _v0(self, name: str) -> dict[str, Any]:
        loaded = (
            {"state": "loaded", "loaded_context_length": 4096}
            if name in self.loaded
            else {"state": "not-loaded"}
        )
        return {
            "id": name,
            "object": "model",
            "type": "llm",
            "publisher": name.split("/")[0],
            "arch": "qwen3",
            "compatibility_type": "gguf",
            "quantization": "Q4_K_M",
            "max_context_length": 32768,
            **loaded,
        }

    def openai(self, *, jit: bool) -> dict[str, Any]:
        """``GET /v1/models``: with loading on demand, all that is on disk, loaded or not."""
        names = list(self.catalogue) if jit else list(self.loaded)
        data = [{"id": name, "object": "model", "owned_by": "organization_owner"} for name in names]
        return {"object": "list", "data": data}

    def ps(self) -> list[dict[str, Any]]:
        """``lms ps --json``."""
        return [
            {
                "type": "llm",
                "modelKey": each.key,
                "identifier": each.id,
                "sizeBytes": self.catalogue[each.key]["size_bytes"],
                "ttlMs": None if each.ttl is None else int(1000 * each.ttl),
                "status": each.state,
                "queued": 0,
            }
            for each in self.loaded.values()
        ]
