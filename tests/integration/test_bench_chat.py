"""A chat through the reference agent API: from its container to a server on the host's 127.0.0.1."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from calm.cli.exits import Exit
from tests.integration.bench_cli import Calm
from tests.lab import paced
from tests.lab.engine import Engine, wait_until
from tests.lab.paced import Pace, Paced

pytestmark = pytest.mark.engine

RELAY = Path(__file__).parents[2] / "templates" / "docker" / "relay.py"
PASSWORDS = {"postgres_password": "pg-s3cret", "redis_password": "", "jwt_secret": "j" * 40}
PARTS = ("api", "relay", "postgres")
TEXT = "차분한 기계는 제 속도로 답하고 쉽니다. "


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The API, its postgres and the relay; ``server`` is what stands for LM Studio."""

    engine: Engine
    name: str
    port: int
    server: Paced

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    def chats(self) -> bool:
        """Whether a chat is answered; why not is in the API's log."""
        try:
            with self.http as http:
                return http.post("/api/chat", json={"message": "hi"}).is_success
        except httpx.TransportError:
            return False

    def docker(self, *arguments: str) -> str:
        return self.engine.docker(*arguments).stdout.strip()

    def count(self, query: str) -> int:
        """A number that postgres knows."""
        user = ("-U", "agent_user", "-d", "agent_system")
        return int(self.docker("exec", f"{self.name}-postgres", "psql", "-tA", *user, "-c", query))


@pytest.fixture(scope="module")
def stack(
    engine: Engine,
    unique_name: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    name, port, folder = unique_name("chat"), free_port(), tmp_path_factory.mktemp("chat")
    folder.chmod(0o755)
    mounts = []
    for secret, value in PASSWORDS.items():
        (folder / secret).write_text(f"{value}\n", encoding="utf-8")
        mounts.append(f"-v={folder / secret}:/run/secrets/{secret}:ro")
    (folder / "relay.py").write_text(RELAY.read_text(encoding="utf-8"), encoding="utf-8")
    with paced.running(Pace(first=0.01, gap=0.001, tokens=6)) as server:
        (folder / "app.yaml").write_text(json.dumps({"llm": chain(server)}), encoding="utf-8")
        started = Stack(engine=engine, name=name, port=port, server=server)
        engine.docker("network", "create", name)
        try:
            start(started, folder, mounts)
            wait_until(started.chats, "the API does not chat", 60)
            yield started
        finally:
            engine.docker("rm", "-f", "-v", *(f"{name}-{part}" for part in PARTS), check=False)
            engine.docker("network", "rm", name, check=False)


def start(stack: Stack, folder: Path, mounts: Sequence[str]) -> None:
    """The three containers, the relay as the stack's Compose file has it."""
    name, port = stack.name, stack.server.port
    gateway = stack.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
    where = (f"--network={name}", *mounts)
    user = ("-e=POSTGRES_USER=agent_user", "-e=POSTGRES_DB=agent_system")
    password = "-e=POSTGRES_PASSWORD_FILE=/run/secrets/postgres_password"
    alias = "--network-alias=postgres"
    stack.docker("run", "-d", f"--name={name}-postgres", *where, alias, *user, password, "postgres:15-alpine")
    script = f"-v={folder / 'relay.py'}:/relay.py:ro"
    program = ("python:3.12-slim", "python3", "-I", "/relay.py", gateway, str(port))
    stack.docker(
        "run", "-d", f"--name={name}-relay", "--network=host", "--user=65534:65534", script, *program
    )
    settings = (
        f"-p=127.0.0.1:{stack.port}:5000",
        f"--add-host=host.docker.internal:{gateway}",
        f"-v={folder / 'app.yaml'}:/run/agent/app.yaml:ro",
        f"-e=LLM_BASE_URL=http://host.docker.internal:{port}/v1",
    )
    stack.docker("run", "-d", f"--name={name}-api", *where, *settings, "calm-test/agent-api")


def chain(server: Paced) -> dict[str, object]:
    """As app.yaml on the host has it: every end point is on 127.0.0.1."""
    return {
        "provider": "broken",
        "endpoint": server.url("500"),
        "request_timeout": 5,
        "max_retries": 1,
        "retry_backoff_ms": 10,
        "fallbacks": [{"provider": "gemini"}, {"provider": "lmstudio", "endpoint": server.url()}],
    }


def test_a_chat_goes_on_in_its_session_and_says_who_answered(stack: Stack) -> None:
    with stack.http as http:
        first = http.post("/api/chat", json={"message": "안녕하세요"}).json()
        assert (first["answer"], first["provider"]) == (TEXT, "lmstudio")
        assert [each["provider"] for each in first["tried"]] == ["broken", "gemini"]
        assert "status 500" in first["tried"][0]["error"]
        bearer = {"authorization": f"Bearer {first['token']}"}
        again = {"message": "more", "session_id": first["session_id"]}
        second = http.post("/api/chat", json=again, headers=bearer)
        assert second.status_code == 200
        assert "token" not in second.json()
        kept = http.get(f"/api/sessions/{first['session_id']}", headers=bearer).json()["messages"]
    assert [(each["role"], each["content"]) for each in kept] == [
        ("user", "안녕하세요"), ("assistant", TEXT), ("user", "more"), ("assistant", TEXT),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"message": ""}, 422), ({"text": "x"}, 422), (["x"], 422), ({"message": "a\0b"}, 422),
        ({"message": "x", "session_id": "none"}, 404), ({"message": "x", "session_id": 7}, 404),
        ({"message": "x", "session_id": "00000000-0000-4000-8000-000000000000"}, 401),
    ],
)  # fmt: skip
def test_what_is_no_chat(stack: Stack, body: object, status: int) -> None:
    with stack.http as http:
        answer = http.post("/api/chat", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_when_nobody_answers_it_says_why_and_keeps_nothing(stack: Stack) -> None:
    stack.server.fault = "error200"
    try:
        with stack.http as http:
            answer = http.post("/api/chat", json={"message": "hello"})
    finally:
        stack.server.fault = ""
    assert answer.status_code == 502
    assert "Unexpected endpoint" in answer.json()["error"]
    assert stack.count("SELECT count(*) FROM sessions WHERE messages = '[]'") == 0


def test_the_benchmark_measures_the_chat_and_leaves_no_session(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    calm = Calm(root=tmp_path / "calm")
    before = stack.count("SELECT count(*) FROM sessions")
    code, document = calm.json(
        "bench", "quick", "--only", "api", "--api-url", f"http://127.0.0.1:{stack.port}"
    )
    # There is no redis here, and health says so; a chat does without it.
    assert code == Exit.FAILED
    assert document["api"]["errors"] == {"http_503": 15}
    assert (document["api"]["chat"]["requests"], document["api"]["chat"]["succeeded"]) == (3, 3)
    assert document["api"]["chat"]["latency_ms"]["n"] == 3
    assert stack.count("SELECT count(*) FROM sessions") == before
