"""The reference agent API with a real postgres and redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab.engine import Engine, wait_until

pytestmark = pytest.mark.engine

PASSWORDS = {"postgres_password": "pg-s3cret-one", "redis_password": "rd-s3cret-one", "jwt_secret": "j" * 40}


@dataclass(frozen=True, kw_only=True)
class Api:
    """One API with its two stores, started by docker run."""

    engine: Engine
    network: str
    secrets: Path
    port: int

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=15)

    def name(self, part: str) -> str:
        return f"{self.network}-{part}"

    def run(self, part: str, *arguments: str) -> None:
        mounts = [f"-v={self.secrets / name}:/run/secrets/{name}:ro" for name in PASSWORDS]
        where = [f"--name={self.name(part)}", f"--network={self.network}", f"--network-alias={part}"]
        self.engine.docker("run", "-d", *where, *mounts, *arguments)

    def start(self, part: str) -> None:
        match part:
            case "postgres":
                user = ["-e=POSTGRES_USER=agent_user", "-e=POSTGRES_DB=agent_system"]
                password = "-e=POSTGRES_PASSWORD_FILE=/run/secrets/postgres_password"
                self.run(part, *user, password, "postgres:15-alpine", "postgres", "-c", "max_connections=50")
            case "redis":
                password = PASSWORDS["redis_password"]
                self.run(part, "redis:7-alpine", "redis-server", "--requirepass", password)
            case "api":
                settings = ["-e=LOG_LEVEL=INFO", "-e=HEALTH_CHECK_INTERVAL=1", "-e=DATABASE_POOL_SIZE=3"]
                self.run(part, *settings, f"-p=127.0.0.1:{self.port}:5000", "calm-test/agent-api")

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status code and body; 0 while nothing listens."""
        try:
            answer = self.http.get("/api/health")
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()

    def wait(self, code: int) -> dict[str, Any]:
        wait_until(lambda: self.health()[0] == code, f"the API's health was not {code}: {self.health()}", 30)
        return self.health()[1]

    def logs(self) -> str:
        return self.engine.docker("logs", self.name("api")).stderr


@pytest.fixture(scope="module")
def api(
    engine: Engine,
    unique_name: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    secrets = tmp_path_factory.mktemp("secrets")
    for name, value in PASSWORDS.items():
        (secrets / name).write_text(f"{value}\n")
    stack = Api(engine=engine, network=unique_name("agent"), secrets=secrets, port=free_port())
    engine.docker("network", "create", stack.network)
    try:
        # The API comes first: it has to start without its stores and find them later.
        for part in ("api", "postgres", "redis"):
            stack.start(part)
        stack.wait(200)
        yield stack
    finally:
        engine.docker(
            "rm", "-f", "-v", *(stack.name(part) for part in ("api", "postgres", "redis")), check=False
        )
        engine.docker("network", "rm", stack.network, check=False)


def test_health_asks_both_stores(api: Api) -> None:
    body = api.wait(200)
    assert body["status"] == "healthy"
    assert {part: check["ok"] for part, check in body["checks"].items()} == {"postgres": True, "redis": True}
    assert all(check["latency_ms"] > 0 for check in body["checks"].values())


def test_the_images_own_health_check_needs_no_curl(api: Api) -> None:
    state = "{{.State.Health.Status}}"
    test = api.engine.docker(
        "image", "inspect", "-f", "{{json .Config.Healthcheck.Test}}", "calm-test/agent-api"
    )
    assert "urllib" in test.stdout
    code = "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/api/health', timeout=8)"
    assert api.engine.docker("exec", api.name("api"), "python", "-c", code).returncode == 0
    assert api.engine.docker("inspect", "-f", state, api.name("api")).stdout.strip() in (
        "starting",
        "healthy",
    )


def test_it_runs_without_roots_rights(api: Api) -> None:
    assert api.engine.docker("exec", api.name("api"), "id", "-u").stdout.strip() == "10001"


def test_a_session_is_kept_over_a_restart_of_the_api(api: Api) -> None:
    made = api.http.post("/api/sessions")
    assert made.status_code == 201
    path, bearer = f"/api/sessions/{made.json()['id']}", {"authorization": f"Bearer {made.json()['token']}"}
    for role, content in (("user", "안녕하세요"), ("assistant", "Hello")):
        said = api.http.post(f"{path}/messages", json={"role": role, "content": content}, headers=bearer)
        assert said.status_code == 201

    api.engine.docker("restart", api.name("api"))
    api.engine.docker("exec", api.name("redis"), "redis-cli", "-a", PASSWORDS["redis_password"], "FLUSHALL")
    api.wait(200)

    first, cached = (api.http.get(path, headers=bearer).json() for _ in range(2))
    assert [message["content"] for message in first["messages"]] == ["안녕하세요", "Hello"]
    assert cached == first
    assert api.http.delete(path, headers=bearer).status_code == 204
    assert api.http.get(path, headers=bearer).status_code == 404


def test_a_new_message_is_read_at_once_past_the_cache(api: Api) -> None:
    made = api.http.post("/api/sessions").json()
    path, bearer = f"/api/sessions/{made['id']}", {"authorization": f"Bearer {made['token']}"}
    assert api.http.get(path, headers=bearer).json()["messages"] == []
    api.http.post(f"{path}/messages", json={"role": "user", "content": "new"}, headers=bearer)
    assert [message["content"] for message in api.http.get(path, headers=bearer).json()["messages"]] == [
        "new"
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"content": b"{"}, 400),
        ({"content": b"\xff"}, 400),
        ({"json": {"role": "user"}}, 422),
        ({"json": {"role": "nobody", "content": "x"}}, 422),
        ({"json": {"role": "user", "content": ""}}, 422),
        ({"json": {"role": "user", "content": "\0"}}, 422),
        ({"json": []}, 422),
    ],
)
def test_a_message_that_is_none_is_refused_in_json(api: Api, body: dict[str, Any], code: int) -> None:
    made = api.http.post("/api/sessions").json()
    bearer = {"authorization": f"Bearer {made['token']}"}
    answer = api.http.post(f"/api/sessions/{made['id']}/messages", headers=bearer, **body)
    assert (answer.status_code, list(answer.json())) == (code, ["error"])


def test_one_sessions_token_opens_no_other(api: Api) -> None:
    one, other = (api.http.post("/api/sessions").json() for _ in range(2))
    path = f"/api/sessions/{one['id']}"
    assert api.http.get(path).status_code == 401
    assert api.http.get(path, headers={"authorization": f"Bearer {other['token']}"}).status_code == 401
    assert api.http.get("/api/sessions/not-an-id").status_code == 404


def test_health_names_redis_while_it_is_stopped_and_sessions_still_work(api: Api) -> None:
    api.engine.docker("stop", "-t", "1", api.name("redis"))
    body = api.wait(503)
    assert body["status"] == "unhealthy"
    assert body["checks"]["postgres"]["ok"]
    assert body["checks"]["redis"]["error"]
    made = api.http.post("/api/sessions").json()
    shown = api.http.get(f"/api/sessions/{made['id']}", headers={"authorization": f"Bearer {made['token']}"})
    assert shown.json()["id"] == made["id"]

    api.engine.docker("start", api.name("redis"))
    api.wait(200)


def test_without_postgres_requests_fail_plainly_and_recover(api: Api) -> None:
    api.engine.docker("stop", "-t", "5", api.name("postgres"))
    assert not api.wait(503)["checks"]["postgres"]["ok"]
    answer = api.http.post("/api/sessions")
    assert (answer.status_code, list(answer.json())) == (503, ["error"])
    api.engine.docker("start", api.name("postgres"))
    api.wait(200)
    assert "Traceback" not in api.logs()


def test_a_wrong_password_is_reported_and_not_shown_and_the_right_one_needs_no_restart(api: Api) -> None:
    wrong = "wr0ng-" + "x" * 10
    for name in ("postgres_password", "redis_password"):
        (api.secrets / name).write_text(wrong)
    try:
        api.engine.docker("restart", api.name("api"))
        checks = api.wait(503)["checks"]
        assert "password authentication failed" in checks["postgres"]["error"]
        assert "WRONGPASS" in checks["redis"]["error"] or "invalid" in checks["redis"]["error"]
        assert wrong not in f"{checks}{api.logs()}"
    finally:
        for name, value in PASSWORDS.items():
            (api.secrets / name).write_text(f"{value}\n")
    api.wait(200)


def test_what_changes_in_the_stores_health_is_logged(api: Api) -> None:
    wait_until(lambda: "redis: healthy" in api.logs(), "the background check logged nothing", 10)
    assert "postgres: healthy" in api.logs()


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_setting_that_makes_no_sense_ends_it_with_a_plain_message(engine: Engine, value: str) -> None:
    setting = f"DATABASE_POOL_SIZE={value}"
    done = engine.docker("run", "--rm", "-e", setting, "calm-test/agent-api", check=False)
    assert done.returncode != 0
    assert f"DATABASE_POOL_SIZE must be a whole number above 0, not '{value}'" in done.stderr


def test_sigterm_ends_it_cleanly_and_soon(api: Api) -> None:
    began = time.monotonic()
    api.engine.docker("stop", "-t", "10", api.name("api"))
    assert time.monotonic() - began < 8
    assert api.engine.docker("inspect", "-f", "{{.State.ExitCode}}", api.name("api")).stdout.strip() == "0"
