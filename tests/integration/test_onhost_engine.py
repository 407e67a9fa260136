"""The probe and the effects against a real engine, with real servers in plain containers."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab.engine import Engine
from tests.unit.onhost.pushed import KEY, effect, probe, push, python, statuses, tree

pytestmark = pytest.mark.engine

PG_PASSWORD = "pg-Passw0rd-one"
REDIS_PASSWORD = "redis-Passw0rd-one"
TOKEN = "t0ken-in-the-environment"
SECRETS = (PG_PASSWORD, REDIS_PASSWORD, TOKEN)
USER, DATABASE = "agent_user", "agent_system"


@dataclass(kw_only=True)
class Servers:
    """A postgres and a redis, started by hand as a person would have."""

    engine: Engine
    root: Path
    postgres: str
    redis: str
    volume: str
    seen: list[str] = field(default_factory=list)

    @property
    def request(self) -> dict[str, Any]:
        """What a plan would ask for them."""
        parameters = ["max_connections", "work_mem", "shared_buffers"]
        postgres = {"container": self.postgres, "user": USER, "database": DATABASE, "parameters": parameters}
        redis = {"container": self.redis, "parameters": ["maxmemory", "maxmemory-policy", "no-such"]}
        docker = {
            "enabled": "auto",
            "project": "no-such-project",
            "names": [self.postgres, self.redis, "no-such-container"],
            "volumes": ["no-such-volume"],
            "images": ["postgres:15-alpine", "no-such-image:1"],
            "running": {"postgres": postgres, "redis": redis},
        }
        return {"docker": docker, "secrets": ["postgres_password"]}

    def probe(self) -> dict[str, Any]:
        """The answer, with nothing secret in it."""
        answer = probe(self.root, self.engine.env, **self.request)
        self.seen.append(json.dumps(answer))
        return answer

    def effect(self, *effects: dict[str, Any]) -> list[dict[str, Any]]:
        """The results, with nothing secret in them."""
        results = effect(self.root, *effects, env=self.engine.env)
        self.seen.append(json.dumps(results))
        return results

    def sql(self, statement: str) -> str:
        """What psql prints."""
        argv = ["exec", self.postgres, "psql", "-XAtq", "-U", USER, "-d", DATABASE, "-c", statement]
        return self.engine.docker(*argv).stdout.strip()


@pytest.fixture(scope="module")
def servers(
    engine: Engine, unique_name: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    names = {what: unique_name(what) for what in ("postgres", "redis", "data")}
    (folder / "pg").write_text(PG_PASSWORD)
    engine.docker(
        "run", "-d", "--name", names["postgres"], "-m", "256m", "--cpus", "0.5",
        "-e", f"POSTGRES_USER={USER}", "-e", f"POSTGRES_DB={DATABASE}", "-e", f"MY_TOKEN={TOKEN}",
        "-e", "POSTGRES_PASSWORD_FILE=/run/secrets/postgres_password",
        "-v", f"{folder}/pg:/run/secrets/postgres_password:ro",
        "-v", f"{names['data']}:/var/lib/postgresql/data", "postgres:15-alpine",
    )  # fmt: skip
    engine.docker(
        "run", "-d", "--name", names["redis"], "-e", f"REDIS_PASSWORD={REDIS_PASSWORD}",
        "--health-cmd", f"redis-cli -a {REDIS_PASSWORD} ping | grep -q PONG", "--health-interval", "1s",
        "redis:7-alpine", "redis-server", "--requirepass", REDIS_PASSWORD,
    )  # fmt: skip
    made = Servers(
        engine=engine,
        root=folder / "calm",
        postgres=names["postgres"],
        redis=names["redis"],
        volume=names["data"],
    )
    try:
        effect(made.root, {"do": "folder", "path": "."})
        wait_for(lambda: made.sql("SELECT 1") == "1")
        yield made
    finally:
        engine.docker("rm", "-fv", made.postgres, made.redis, check=False)
        engine.docker("volume", "rm", "-f", made.volume, check=False)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Waits until a condition holds; an error of its own counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except Exception:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline
        time.sleep(0.1)


def states(servers: Servers) -> list[str]:
    shown = "{{.Id}} {{.State.Status}} {{.State.StartedAt}} {{.RestartCount}} {{.HostConfig.Memory}}"
    return servers.engine.lines("inspect", "-f", shown, servers.postgres, servers.redis)


def test_the_probe_reads_the_containers(servers: Servers) -> None:
    answer = servers.probe()
    assert answer["docker"]["status"] == "answers"
    assert answer["docker"]["socket"] == servers.engine.socket
    assert answer["docker"]["compose"][0] == "2"
    found = {one["name"]: one for one in answer["containers"]}
    assert set(found) == {servers.postgres, servers.redis}
    postgres = found[servers.postgres]
    assert postgres["limits"]["memory"] == postgres["cgroup_memory"] == 256 << 20
    assert postgres["limits"]["nano_cpus"] == 500_000_000
    assert postgres["env"]["POSTGRES_USER"] == USER
    assert postgres["env"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    assert set(postgres["env"]["MY_TOKEN"]) == {"digest"}
    mounts = {mount["destination"]: mount for mount in postgres["mounts"]}
    assert mounts["/var/lib/postgresql/data"]["name"] == servers.volume
    assert answer["volumes"][servers.volume]["pg_version"] == "15"
    assert answer["volumes"]["no-such-volume"]["exists"] is False
    assert answer["images"]["postgres:15-alpine"].startswith("sha256:")
    assert answer["images"]["no-such-image:1"] is None
    assert found[servers.redis]["healthcheck"]["interval"] == 1.0
    assert answer["docker"]["gateway"]


def test_the_probe_reads_running_values(servers: Servers) -> None:
    running = servers.probe()["running"]
    assert running["redis"]["parameters"]["maxmemory-policy"] == "noeviction"
    assert running["redis"]["parameters"]["no-such"] is None
    assert running["postgres"]["parameters"]["max_connections"] == "100"
    assert running["postgres"]["sources"]["max_connections"] == "configuration file"
    assert running["postgres"]["reset_by"] == {}
    assert running["postgres"]["version"].startswith("15")


def test_the_probe_changes_nothing_and_events_show_exec_alone(servers: Servers) -> None:
    before, containers, since = tree(servers.root), states(servers), time.time()
    servers.probe()
    assert tree(servers.root) == before
    assert states(servers) == containers
    events = servers.engine.lines(
        "events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}", "--format", "{{json .}}"
    )
    ours = [
        event
        for event in map(json.loads, events)
        if event["Actor"]["Attributes"].get("name") in (servers.postgres, servers.redis)
    ]
    kinds = {event["Action"].split(":")[0] for event in ours if "grep -q PONG" not in event["Action"]}
    assert kinds <= {"exec_create", "exec_start", "exec_die", "health_status"}
    assert "exec_create" in kinds
    probed = [event["Action"] for event in ours if "grep -q PONG" not in event["Action"]]
    assert [secret for secret in SECRETS if secret in " ".join(probed)] == []


def test_a_role_that_overrides_the_server_is_seen_and_reset(servers: Servers) -> None:
    servers.sql(f"ALTER ROLE {USER} SET work_mem = '1GB'")
    servers.sql(f"ALTER ROLE {USER} IN DATABASE {DATABASE} SET max_parallel_workers = 3")
    running = servers.probe()["running"]["postgres"]
    assert running["parameters"]["work_mem"] == "1GB"
    assert running["sources"]["work_mem"] == "user"
    assert running["reset_by"] == {"work_mem": [{"role": USER, "database": None, "value": "1GB"}]}
    reset = {"do": "postgres_reset_role", "container": servers.postgres, "user": USER, "database": DATABASE}
    parameters = ["work_mem", "max_parallel_workers", "max_connections"]
    assert statuses(servers.effect({**reset, "parameters": parameters})) == ["done"]
    assert servers.sql("SELECT count(*) FROM pg_db_role_setting") == "0"
    assert statuses(servers.effect({**reset, "parameters": parameters})) == ["unchanged"]


def test_passwords_are_taken_over_proven_and_rotated(servers: Servers) -> None:
    """Taken from a file that the server's environment names, and from a command line."""
    login = {"do": "prove_login", "container": servers.postgres, "user": USER, "database": DATABASE}
    redis_login = {"do": "prove_login", "container": servers.redis, "kind": "redis"}
    take = {"do": "take_secret", "name": "postgres_password", "container": servers.postgres}
    results = servers.effect(
        {**take, "env": "POSTGRES_PASSWORD"},
        {
            "do": "take_secret",
            "name": "redis_password",
            "container": servers.redis,
            "argument": "--requirepass",
        },
        login,
        redis_login,
    )
    assert statuses(results) == ["done", "done", "unchanged", "unchanged"]
    assert (servers.root / "secrets/postgres_password").read_text() == PG_PASSWORD
    assert (servers.root / "secrets/redis_password").read_text() == REDIS_PASSWORD

    rotate = {"do": "secret", "name": "postgres_password", "rotate": True}
    wrong = servers.effect(rotate, login)
    assert statuses(wrong) == ["done", "failed"]
    assert "password authentication failed" in wrong[1]["message"]
    change = {"do": "postgres_password", "container": servers.postgres, "user": USER, "database": DATABASE}
    assert statuses(servers.effect(change, login, change)) == ["done", "unchanged", "unchanged"]

    redis_rotate = {"do": "secret", "name": "redis_password", "rotate": True}
    assert statuses(servers.effect(redis_rotate, redis_login)) == ["done", "failed"]
    told = {"requirepass": {"secret": "redis_password"}}
    redis_change = {"do": "redis_set", "container": servers.redis, "parameters": told}
    assert statuses(servers.effect(redis_change, redis_login)) == ["done", "unchanged"]
    assert servers.probe()["running"]["redis"]["parameters"]["maxmemory"] == "0"


def test_a_password_is_given_where_postgres_asks_for_none(servers: Servers) -> None:
    """A login proves nothing there; a user that may not read what postgres keeps is left to the login."""
    give = {"do": "postgres_password", "container": servers.postgres, "user": USER, "database": DATABASE}
    guest = {**give, "user": "guest"}
    hba = servers.sql("SHOW hba_file")
    inside = ["exec", "-u", "postgres", servers.postgres, "sh", "-c"]
    kept = servers.engine.docker(*inside, f"cat {hba}").stdout
    servers.engine.docker(*inside, f"echo 'host all all all trust' > {hba}.new; cat {hba} >> {hba}.new")
    servers.engine.docker(*inside, f"cp {hba}.new {hba}")
    servers.sql("SELECT pg_reload_conf()")
    servers.sql("CREATE ROLE guest LOGIN")
    try:
        wait_for(lambda: "trust" in servers.sql("SELECT auth_method FROM pg_hba_file_rules LIMIT 1"))
        rotate = {"do": "secret", "name": "postgres_password", "rotate": True}
        assert statuses(servers.effect(rotate, give, give)) == ["done", "done", "unchanged"]
        assert statuses(servers.effect(guest)) == ["unchanged"]
        assert servers.probe()["running"]["postgres"]["has_password"] is True
        servers.sql(f"ALTER ROLE {USER} PASSWORD NULL")
        assert servers.probe()["running"]["postgres"]["has_password"] is False
        assert statuses(servers.effect(give, give)) == ["done", "unchanged"]
        # It warns of this at every login, as after a change of its image.
        servers.sql(f"UPDATE pg_database SET datcollversion = '0' WHERE datname = '{DATABASE}'")
        argv = ["exec", servers.postgres, "psql", "-U", USER, "-d", DATABASE, "-c", "SELECT 1"]
        assert "WARNING" in servers.engine.docker(*argv).stderr
        servers.sql(f"ALTER ROLE {USER} PASSWORD NULL")
        assert statuses(servers.effect(give, give)) == ["done", "unchanged"]
        assert servers.probe()["running"]["postgres"]["has_password"] is True
    finally:
        (servers.root.parent / "hba").write_text(kept)
        servers.engine.docker("cp", str(servers.root.parent / "hba"), f"{servers.postgres}:{hba}")
        servers.sql("SELECT pg_reload_conf()")
        servers.sql("DROP ROLE IF EXISTS guest")
        servers.sql("UPDATE pg_database SET datcollversion = NULL")


def test_redis_is_told_what_differs_alone(servers: Servers) -> None:
    wanted = {"do": "redis_set", "container": servers.redis}
    parameters = {"maxmemory": "104857600", "maxmemory-policy": "allkeys-lru"}
    assert statuses(servers.effect({**wanted, "parameters": parameters})) == ["done"]
    assert statuses(servers.effect({**wanted, "parameters": parameters})) == ["unchanged"]
    assert servers.probe()["running"]["redis"]["parameters"]["maxmemory"] == "104857600"
    [refused] = servers.effect({**wanted, "parameters": {"maxmemory-policy": "nonsense"}})
    assert "redis" in refused["message"]
    assert refused["status"] == "failed"


def test_limits_change_live_and_swap_goes_along(servers: Servers) -> None:
    before = states(servers)[1].split()[:3]
    update = {"do": "container", "name": servers.redis, "action": "update"}
    limits = {"memory": 128 << 20, "nano_cpus": 250_000_000, "pids_limit": 77, "restart": "unless-stopped"}
    assert statuses(servers.effect({**update, **limits}, {**update, "memory": 192 << 20})) == ["done", "done"]
    found = next(one for one in servers.probe()["containers"] if one["name"] == servers.redis)
    assert found["limits"]["memory"] == found["limits"]["memory_swap"] == found["cgroup_memory"] == 192 << 20
    assert (found["limits"]["pids_limit"], found["limits"]["restart"]) == (77, "unless-stopped")
    assert states(servers)[1].split()[:3] == before
    [refused] = servers.effect({**update, "memory": 1 << 20})
    assert refused["status"] == "failed"


def test_stop_start_pause_and_wait(servers: Servers) -> None:
    act = {"do": "container", "name": servers.redis}
    stop, start = {**act, "action": "stop"}, {**act, "action": "start"}
    wait = {"do": "wait_healthy", "container": servers.redis, "deadline_s": 20}
    assert statuses(servers.effect(stop, stop)) == ["done", "unchanged"]
    assert servers.probe()["running"]["redis"]["error"].endswith("is exited")
    servers.engine.docker("start", servers.redis)
    servers.engine.docker("pause", servers.redis)
    assert servers.probe()["running"]["redis"]["error"].endswith("is paused")
    unpause = {**act, "action": "unpause"}
    assert statuses(servers.effect(unpause, unpause, start)) == ["done", "unchanged", "unchanged"]
    changed = {**start, "expect_id": "0" * 64}
    [refused] = servers.effect(changed)
    assert "made anew since the plan" in refused["message"]
    assert statuses(servers.effect({**act, "action": "restart", "timeout_s": 5}, wait)) == ["done", "done"]


def test_a_container_that_does_not_get_healthy_is_told_with_its_last_lines(
    servers: Servers, unique_name: Callable[[str], str]
) -> None:
    name = unique_name("sick")
    command = f"echo starting with MY_SECRET=abc; echo {TOKEN}; exit 3"
    more = ["--tmpfs", "/data", "-e", f"MY_TOKEN={TOKEN}"]  # no volume of its own, which calm would leave
    servers.engine.docker("run", "-d", "--name", name, *more, "redis:7-alpine", "sh", "-c", command)
    try:
        [result] = servers.effect({"do": "wait_healthy", "container": name, "deadline_s": 10})
        assert result["status"] == "failed"
        assert "exited, exit code 3" in result["message"]
        assert "starting with MY_SECRET=(hidden)" in result["message"]
        assert TOKEN not in result["message"]
        refused = {"do": "container", "name": name, "action": "remove", "v": True}
        assert "never removes a volume" in servers.effect(refused)[0]["message"]
        remove = {"do": "container", "name": name, "action": "remove"}
        assert statuses(servers.effect(remove, remove)) == ["done", "unchanged"]
    finally:
        servers.engine.docker("rm", "-fv", name, check=False)


def test_a_container_that_ends_over_and_over_is_not_waited_for(
    servers: Servers, unique_name: Callable[[str], str]
) -> None:
    name = unique_name("loop")
    more = ["--tmpfs", "/data", "--restart", "unless-stopped"]
    servers.engine.docker("run", "-d", "--name", name, *more, "redis:7-alpine", "sh", "-c", "exit 4")
    try:
        began = time.monotonic()
        [result] = servers.effect({"do": "wait_healthy", "container": name, "deadline_s": 55})
        assert time.monotonic() - began < 45
        assert result["status"] == "failed"
        assert "exit code 4" in result["message"]
        assert "after 55 s" not in result["message"]
    finally:
        servers.engine.docker("rm", "-fv", name, check=False)


@pytest.mark.parametrize("heals", [False, True], ids=["stays sick", "gets well"])
def test_one_that_was_sick_before_is_given_a_few_checks_more(
    servers: Servers, unique_name: Callable[[str], str], heals: bool
) -> None:
    name = unique_name("sick")
    check = ["--health-cmd", "test -f /tmp/well", "--health-interval", "1s", "--health-retries", "1"]
    script = "trap 'exit 0' TERM; sleep 1000 & wait"
    servers.engine.docker(
        "run", "-d", "--name", name, *check, "--tmpfs", "/data", "redis:7-alpine", "sh", "-c", script
    )
    health = ("inspect", "-f", "{{.State.Health.Status}}", name)
    try:
        wait_for(lambda: servers.engine.lines(*health) == ["unhealthy"])
        if heals:
            servers.engine.docker("exec", "-d", name, "sh", "-c", "sleep 0.5; touch /tmp/well")
        began = time.monotonic()
        [result] = servers.effect({"do": "wait_healthy", "container": name, "deadline_s": 55})
        assert time.monotonic() - began < 45
        assert result["status"] == ("done" if heals else "failed")
        assert heals or "running, unhealthy" in result["message"]
    finally:
        servers.engine.docker("rm", "-fv", name, check=False)


def test_volumes_are_made_once_with_their_label(servers: Servers, unique_name: Callable[[str], str]) -> None:
    name = unique_name("volume")
    wanted = {"do": "volume", "name": name, "labels": {"calm.project": "mine"}}
    try:
        assert statuses(servers.effect(wanted, wanted)) == ["done", "unchanged"]
        shown = servers.engine.docker("volume", "inspect", "-f", "{{json .Labels}}", name).stdout
        assert json.loads(shown) == {"calm.project": "mine"}
    finally:
        servers.engine.docker("volume", "rm", name, check=False)


def test_a_network_goes_only_when_nobody_is_on_it(
    servers: Servers, unique_name: Callable[[str], str]
) -> None:
    """A container that is stopped, too, could not start again without its network."""
    name, guest = unique_name("network"), unique_name("guest")
    servers.engine.docker("network", "create", name)
    servers.engine.docker("create", "--name", guest, "--network", name, "--tmpfs", "/data", "redis:7-alpine")
    try:
        found = servers.probe()["networks"][name]
        assert found["containers"] == [guest]
        remove = {"do": "network_remove", "name": name, "expect_id": found["id"]}
        [refused] = servers.effect(remove)
        assert guest in refused["message"]
        assert servers.probe()["networks"][name]["id"] == found["id"]
        servers.engine.docker("rm", guest)
        [other] = servers.effect({**remove, "expect_id": "0" * 64})
        assert "made anew since the plan" in other["message"]
        assert statuses(servers.effect(remove, remove)) == ["done", "unchanged"]
    finally:
        servers.engine.docker("rm", "-f", guest, check=False)
        servers.engine.docker("network", "rm", name, check=False)


def test_compose_brings_up_one_service_and_says_what_is_wrong(
    servers: Servers, unique_name: Callable[[str], str]
) -> None:
    project = unique_name("compose")
    service = {"image": "redis:7-alpine", "network_mode": "none", "container_name": f"{project}-a"}
    document = {"services": {"a": service, "b": {**service, "container_name": f"{project}-b"}}}
    file = servers.root / "docker" / "docker-compose.yml"
    up = {"do": "compose", "file": str(file), "project": project, "services": ["a"]}
    write = {"do": "write", "path": str(file), "content": json.dumps(document)}
    try:
        assert statuses(servers.effect(write, up)) == ["done", "done"]
        names = servers.engine.lines("ps", "--format", "{{.Names}}", "--filter", f"name={project}")
        assert names == [f"{project}-a"]
        argv = ["-f", str(file), "-p", project, "up", "-d", "--no-deps", "nonsense"]
        [refused] = servers.effect({"do": "compose", "argv": argv})
        assert "no such service: nonsense" in refused["message"]
        assert statuses(servers.effect({"do": "compose", "argv": ["-p", project, "down", "-v"]})) == [
            "failed"
        ]
    finally:
        servers.engine.docker("rm", "-fv", f"{project}-a", f"{project}-b", check=False)


def test_a_taken_over_compose_file_comes_without_its_passwords(servers: Servers, tmp_path: Path) -> None:
    text = f"services:\n  db:\n    environment:\n      - PASSWORD={PG_PASSWORD}\n    command: x {TOKEN}\n"
    (tmp_path / "compose.yml").write_text(text)
    request = servers.request
    request["docker"]["directory"] = str(tmp_path)
    found = probe(servers.root, servers.engine.env, **request)["compose_file"]
    servers.seen.append(json.dumps(found))
    assert found["path"] == str(tmp_path / "compose.yml")
    assert found["masked"] is True
    assert "services:\n  db:" in found["content"]


def test_dial_stdio_reaches_the_engine_where_a_socket_does_not(servers: Servers) -> None:
    """As for an engine behind SSH or a named pipe: the docker command makes the connection."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from calm.onhost.docker_api import Endpoint, Engine\n"
        "from calm.onhost.programs import docker_command\n"
        "engine = Engine(Endpoint('command', ''), docker_command())\n"
        "print(engine.running(sys.argv[2], ['cat'], b'over there\\n').out.strip(), engine.api_version())\n"
    )
    checkout = str(Path(__file__).parents[2])
    done = subprocess.run(
        [python(), "-", checkout, servers.redis],
        input=code, env=servers.engine.env, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    said, version = done.stdout.rsplit(" ", 1)
    assert said == "over there"
    assert version.startswith("1.")


def test_no_secret_was_in_any_answer(servers: Servers) -> None:
    """Runs last: over all that the tests above were answered, and over stderr."""
    assert len(servers.seen) > 10
    known = [*SECRETS, *(path.read_text() for path in (servers.root / "secrets").iterdir())]
    assert [secret for secret in known if any(secret in answer for answer in servers.seen)] == []
    done = push(
        "probe", {"root": str(servers.root), "digest_key": KEY, **servers.request}, servers.engine.env
    )
    assert [secret for secret in known if secret in done.stdout + done.stderr] == []
