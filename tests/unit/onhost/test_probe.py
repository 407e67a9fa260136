"""The probe reads a host as it is, writes nothing, and survives whatever stands there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from calm.onhost import lmstudio, parse, script
from calm.onhost.cgroups import memory_limit
from calm.onhost.docker_api import Endpoint, find_endpoint
from tests.unit.onhost.pushed import KEY, probe, python, tree

LMSTUDIO = {"lmstudio": {"enabled": "auto"}}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


def write(path: Path, text: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_host_and_its_root(tmp_path: Path) -> None:
    answer = probe(tmp_path / "calm", commands=["sh", "no-such-program"])
    assert answer["schema"] == 1
    assert answer["host"]["name"] == socket.gethostname()
    assert answer["host"]["uid"] == os.getuid()
    assert answer["host"]["path_commands"] == {"sh": True, "no-such-program": False}
    assert answer["host"]["memory_bytes"] > 1 << 28
    assert answer["root"]["status"] == "absent"
    assert answer["root"]["disk_free_bytes"] > 0
    assert abs(answer["host"]["now"] - time.time()) < 60


def test_documents_of_every_kind(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "a.yml", "a: 1\r\n").chmod(0o640)
    (tmp_path / "link").symlink_to("a.yml")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    write(home / "own.yaml", "token: t0ken-1\n")
    names = ["a.yml", "link", "folder", "pipe", "binary", "no/such", "~/own.yaml"]
    files = probe(tmp_path, {"HOME": str(home)}, documents={name: {"path": name} for name in names})["files"]
    kinds = {name: entry["status"] for name, entry in files.items()}
    assert kinds == {
        "a.yml": "file",
        "link": "link",
        "folder": "folder",
        "pipe": "other",
        "binary": "file",
        "no/such": "absent",
        "~/own.yaml": "file",
    }
    assert (files["a.yml"]["content"], files["a.yml"]["mode"]) == ("a: 1\r\n", "0640")
    assert files["a.yml"]["masked"] is False
    assert files["link"]["target"] == "a.yml"
    assert files["binary"]["content"] is None
    assert files["binary"]["sha256"]
    assert files["no/such"]["parent_exists"] is False
    assert files["~/own.yaml"]["path"] == str(home / "own.yaml")
    assert files["~/own.yaml"]["masked"] is True
    assert "t0ken-1" not in files["~/own.yaml"]["content"]


def test_nothing_is_written_and_no_pointer_left(tmp_path: Path, home: Path) -> None:
    write(home / ".lmstudio/settings.json")
    write(tmp_path / "calm/app.yaml", "a: 1\n")
    before = tree(tmp_path)
    documents = {"document:app.yaml": {"path": "app.yaml"}}
    probe(tmp_path / "calm", {"HOME": str(home)}, documents=documents, secrets=["jwt_secret"], **LMSTUDIO)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("files", "generation", "settings"),
    [
        ([], "none", ".lmstudio/settings.json"),
        ([".lmstudio/settings.json"], "new", ".lmstudio/settings.json"),
        ([".config/LM Studio/settings.json"], "old", ".config/LM Studio/settings.json"),
        ([".lmstudio/.internal/old-settings-migrated.marker"], "new", ".lmstudio/settings.json"),
        ([".lmstudio/settings.json", ".config/LM Studio/settings.json"], "both", ".lmstudio/settings.json"),
        ([".cache/lm-studio/settings.json"], "new", ".cache/lm-studio/settings.json"),
    ],
)
def test_lm_studio_of_both_generations(
    tmp_path: Path, home: Path, files: list[str], generation: str, settings: str
) -> None:
    for name in files:
        write(home / name, "{}")
    env = {"HOME": str(home), "XDG_CONFIG_HOME": ""}
    found = probe(tmp_path / "calm", env, **LMSTUDIO)["lmstudio"]
    assert found["generation"] == generation
    assert found["settings"]["path"] == str(home / settings)
    assert found["status"] == ("found" if files else "absent")
    assert (found["warning"] is not None) is (generation == "both")


def test_lm_studio_where_its_pointer_says_with_its_version(tmp_path: Path, home: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write(home / ".lmstudio-home-pointer", f"{elsewhere}\n")
    write(elsewhere / ".internal/historical-version-info.json", '{"lastRecorderdAppVersion": "0.4.7"}')
    write(elsewhere / ".internal/http-server-config.json", '{"port": 1234}')
    write(elsewhere / "settings.json", '{"hfDownloadToken": "hf-t0ken"}')
    found = probe(tmp_path / "calm", {"HOME": str(home)}, **LMSTUDIO)["lmstudio"]
    assert (found["home"], found["version"]) == (str(elsewhere), "0.4.7")
    assert found["server"]["content"] == '{"port": 1234}'
    assert found["settings"]["masked"] is True


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that lies where LM Studio's would, of the user whose home is ``tmp_path/home``."""
    path = tmp_path / "LM Studio" / "lm-studio"
    path.parent.mkdir()
    shutil.copy(os.path.realpath(shutil.which("sleep") or "/bin/sleep"), path)
    process = subprocess.Popen([path, "60"], env={"HOME": str(tmp_path / "home")})
    yield process
    process.kill()
    process.wait(timeout=10)


def test_lm_studio_runs_if_its_program_does(
    tmp_path: Path, home: Path, program: subprocess.Popen[bytes]
) -> None:
    found = probe(tmp_path / "calm", {"HOME": str(home)}, **LMSTUDIO)["lmstudio"]
    assert found["running"] is True
    assert found["pids"] == [program.pid]
    other = tmp_path / "somebody"
    other.mkdir()
    assert probe(tmp_path / "calm", {"HOME": str(other)}, **LMSTUDIO)["lmstudio"]["running"] is False


def test_helpers_and_namesakes_are_no_instances() -> None:
    main = lmstudio.Process(10, 1, "/opt/LM Studio/lm-studio", "lm-studio")
    helper = lmstudio.Process(11, 10, "/opt/LM Studio/lm-studio", "lm-studio --type=renderer")
    orphan = lmstudio.Process(12, 1, "/opt/LM Studio/lm-studio", "lm-studio --type=gpu-process")
    namesake = lmstudio.Process(13, 1, "/usr/bin/lm-studio-backup", "lm-studio")
    windows = lmstudio.Process(14, 0, "C:\\Program Files\\LM Studio\\LM Studio.exe", "")
    support = lmstudio.Process(15, 0, "C:\\Program Files (x86)\\ASUS\\LM_Support.exe", "")
    own = lmstudio.Process(16, 1, "/srv/own/program", "")
    found = [main, helper, orphan, namesake, windows, support, own]
    assert [one.pid for one in lmstudio.roots(found, ["/srv/own/program"])] == [10, 14, 16]


def test_ports_that_are_taken_and_by_whom(tmp_path: Path) -> None:
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free.bind(("127.0.0.1", 0))
        busy, idle = taken.getsockname()[1], free.getsockname()[1]
        ports = probe(tmp_path, docker={"enabled": False, "ports": [busy, idle]})["ports"]
    assert ports[str(busy)]["taken"] is True
    assert ports[str(busy)]["by"] == Path("/proc/self/comm").read_text().strip()
    assert ports[str(idle)] == {"taken": False, "by": None}


def test_docker_that_does_not_answer_is_a_status(tmp_path: Path) -> None:
    for name, status in (("no.sock", "down"), ("plain", "down")):
        write(tmp_path / "plain")
        answer = probe(tmp_path, {"DOCKER_HOST": f"unix://{tmp_path}/{name}"}, docker={"enabled": "auto"})
        assert answer["docker"]["status"] == status
        assert answer["docker"]["error"].startswith("the Docker Engine ")
        assert answer["containers"] == []


def test_an_engine_that_hangs_up_is_a_status(tmp_path: Path) -> None:
    path = str(tmp_path / "d.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(16)
        server.settimeout(0.01)
        server.shutdown(socket.SHUT_RDWR)
        answer = probe(tmp_path, {"DOCKER_HOST": f"unix://{path}"}, docker={"enabled": "auto"})
    assert answer["docker"]["status"] == "down"


def test_a_socket_without_the_right_to_it_is_denied(tmp_path: Path) -> None:
    """As nobody where the tests run as root, who may connect to anything."""
    path = str(tmp_path / "d.sock")
    drop = "import os\nos.getuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))\n"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        Path(path).chmod(0)
        request = {"root": str(tmp_path), "docker": {"enabled": "auto"}}
        done = subprocess.run(
            [python(), "-I", "-"],
            input=drop + script("probe", request),
            env={**os.environ, "DOCKER_HOST": f"unix://{path}"},
            capture_output=True,
            text=True,
            check=True,
        )
    found = parse(done.stdout)["docker"]
    assert found["status"] == "denied"
    assert found["error"] == f"this user has no right to the Docker Engine's socket {path}"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("{}", True),
        ('{"services": {"redis": {}}, "documents": null}', True),
        ("{garbage", False),
        ("[]", False),
        ('{"secrets": "x"}', False),
        ('{"documents": 3}', False),
    ],
)
def test_a_record_that_is_none_is_told(tmp_path: Path, text: str, good: bool) -> None:
    write(tmp_path / "record.json", text)
    answer = probe(tmp_path)
    assert (answer["record"] is not None) is good
    assert (answer["record_error"] is None) is good
    assert good or str(tmp_path / "record.json") in answer["record_error"]


def test_the_engine_that_the_docker_command_would_use(tmp_path: Path) -> None:
    write(tmp_path / "config.json", '{"currentContext": "desktop-linux"}')
    meta = "fe9c6bd7a66301f49ca9b6a70b217107cd1284598bfc254700c989b916da791e"
    host = '{"Endpoints": {"docker": {"Host": "unix:///home/me/.docker/desktop/docker.sock"}}}'
    write(tmp_path / "contexts/meta" / meta / "meta.json", host)
    env = {"DOCKER_CONFIG": str(tmp_path)}
    assert find_endpoint(env) == Endpoint("unix", "/home/me/.docker/desktop/docker.sock")
    assert find_endpoint({**env, "DOCKER_HOST": "tcp://1.2.3.4:2375"}) == Endpoint("tcp", "1.2.3.4:2375")
    assert find_endpoint({"DOCKER_HOST": "ssh://me@there"}) == Endpoint("command", "ssh://me@there")


def test_the_limit_that_the_kernel_enforces(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "1/cgroup", "0::/docker/abc\n")
    write(root / "docker/abc/memory.max", "536870912\n")
    write(proc / "2/cgroup", "12:cpu:/x\n4:memory:/docker/def\n")
    write(root / "memory/docker/def/memory.limit_in_bytes", "9223372036854771712\n")
    limits = [memory_limit(pid, str(root), str(proc)) for pid in (0, 1, 2, 3)]
    assert limits == [None, 536870912, 0, None]


def test_a_helper_that_is_ending_is_no_lm_studio_of_its_own(tmp_path: Path) -> None:
    """Its arguments are gone before it is, and those alone tell that it is a helper."""
    program = "/opt/LM Studio/lm-studio"
    for pid, arguments in {"10": f"{program}\0", "11": f"{program}\0--type=gpu\0", "12": ""}.items():
        write(tmp_path / pid / "cmdline", arguments)
        write(tmp_path / pid / "stat", f"{pid} (lm-studio) S 1 0 0\n")
        (tmp_path / pid / "exe").symlink_to(program)
    write(tmp_path / "13" / "cmdline", f"{program}\0")  # ended between two looks: there is no stat any more
    (tmp_path / "13" / "exe").symlink_to(program)
    (tmp_path / "self").mkdir()
    found = lmstudio.processes([], proc=str(tmp_path))
    assert found is not None
    assert sorted(one.pid for one in found) == [10, 11]
    assert [one.pid for one in lmstudio.roots(found, [])] == [10]


def test_the_key_of_the_run_decides_what_digests_look_like(tmp_path: Path) -> None:
    write(tmp_path / "app.yaml", "api_key: k3y-one\n")
    documents = {"x": {"path": "app.yaml"}}
    one, same = (probe(tmp_path, documents=documents)["files"]["x"]["content"] for _ in range(2))
    other = probe(tmp_path, documents=documents, digest_key="ab" * 32)["files"]["x"]["content"]
    assert one == same != other
    assert KEY != "ab" * 32
