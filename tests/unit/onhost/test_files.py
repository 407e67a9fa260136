"""Documents: one step, compared first, never through a link out of the root, never half."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from calm.onhost import script
from calm.onhost.files import Root
from tests.unit.onhost.pushed import KEY, effect, probe, python, statuses, tree

CONTENT = "services: {}\n"
PATH = "docker/docker-compose.yml"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: str | Path = PATH, content: str = CONTENT, **more: object) -> dict[str, object]:
    return {"do": "write", "path": str(path), "content": content, **more}


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob(".calm-*.tmp"))


def test_a_new_document_with_its_folders_and_mode(tmp_path: Path) -> None:
    root = tmp_path / "calm"
    assert statuses(effect(root, write(mode="0640", expect="absent"))) == ["done"]
    assert (root / PATH).read_text() == CONTENT
    assert (root / PATH).stat().st_mode & 0o777 == 0o640
    before = tree(root)
    assert statuses(effect(root, write(mode="0640", expect="absent"))) == ["unchanged"]
    assert tree(root) == before


def test_a_changed_document_is_backed_up_for_its_owner_alone(tmp_path: Path) -> None:
    effect(tmp_path, write(content="old\n"))
    assert statuses(effect(tmp_path, write(expect=sha("old\n")))) == ["done"]
    assert statuses(effect(tmp_path, write(content="new\n"))) == ["done"]
    backups = sorted((tmp_path / "backups").glob("docker-compose.yml.*.bak"))
    assert [backup.read_text() for backup in backups] == ["old\n", CONTENT]
    assert [backup.stat().st_mode & 0o777 for backup in backups] == [0o600, 0o600]
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700


def test_a_document_that_changed_since_the_plan_is_left_alone(tmp_path: Path) -> None:
    effect(tmp_path, write(content="somebody's\n"))
    for expected in (sha("what plan saw\n"), "absent", "link"):
        [result] = effect(tmp_path, write(expect=expected))
        assert result["status"] == "failed"
        assert "has changed since the plan was made" in result["message"]
    assert (tmp_path / PATH).read_text() == "somebody's\n"


def test_an_empty_file_counts_as_absent(tmp_path: Path) -> None:
    effect(tmp_path, write(content=""))
    assert statuses(effect(tmp_path, write(expect="absent"))) == ["done"]


def test_mode_alone_is_put_right(tmp_path: Path) -> None:
    effect(tmp_path, write())
    (tmp_path / PATH).chmod(0o666)
    inode = (tmp_path / PATH).stat().st_ino
    assert statuses(effect(tmp_path, write())) == ["done"]
    assert (tmp_path / PATH).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / PATH).stat().st_ino == inode


def test_a_link_in_place_of_an_owned_document_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs\n")
    (tmp_path / "calm" / "docker").mkdir(parents=True)
    (tmp_path / "calm" / PATH).symlink_to(other)
    assert statuses(effect(tmp_path / "calm", write(expect="link"))) == ["done"]
    assert not (tmp_path / "calm" / PATH).is_symlink()
    assert other.read_text() == "theirs\n"


def test_a_link_in_place_of_a_merged_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("a: 1\n")
    (tmp_path / "app.yaml").symlink_to("real.yaml")
    [result] = effect(tmp_path, write("app.yaml", keep=True))
    assert "symbolic link" in result["message"]
    assert (tmp_path / "app.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "a: 1\n"


def test_a_merged_document_keeps_mode_and_gets_its_secrets_back(tmp_path: Path) -> None:
    theirs = 'llm:\n  api_key: "s3cret-1"  # mine\n  timeout: 1\n'
    path = tmp_path / "home" / "app.yaml"
    path.parent.mkdir()
    path.write_text(theirs)
    path.chmod(0o600)
    root = tmp_path / "calm"
    seen = probe(root, documents={"document:app.yaml": {"path": str(path)}})["files"]["document:app.yaml"]
    assert seen["masked"] is True
    assert "s3cret-1" not in seen["content"]
    wanted = seen["content"].replace("timeout: 1", "timeout: 30")
    merged = write(path, wanted, keep=True, unmask=True, digest_key=KEY, expect=seen["sha256"])
    assert statuses(effect(root, merged)) == ["done"]
    assert path.read_text() == theirs.replace("timeout: 1", "timeout: 30")
    assert path.stat().st_mode & 0o777 == 0o600
    [backup] = (root / "backups").glob("app.yaml.*.bak")
    assert backup.read_text() == theirs
    assert statuses(effect(root, merged)) == ["unchanged"]


def test_secrets_of_another_file_are_put_into_an_extra_one(tmp_path: Path) -> None:
    stack = tmp_path / "stack"
    stack.mkdir()
    (stack / "docker-compose.yml").write_text(
        "services:\n  own:\n    environment:\n      MY_TOKEN: t0ken-1\n"
    )
    seen = probe(tmp_path / "calm", docker={"enabled": False, "directory": str(stack)})["compose_file"]
    assert "t0ken-1" not in seen["content"]
    extra = write("docker/extra.yml", seen["content"], unmask=True, unmask_from=[seen["path"]])
    assert statuses(effect(tmp_path / "calm", extra)) == ["done"]
    assert "t0ken-1" in (tmp_path / "calm/docker/extra.yml").read_text()


def test_a_secret_that_changed_since_the_plan_is_not_overwritten_with_a_placeholder(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("api_key: new-secret\n")
    [result] = effect(tmp_path, write(path, "api_key: calm-masked-0123456789ab\n", keep=True, unmask=True))
    assert "holds a secret that changed" in result["message"]
    assert path.read_text() == "api_key: new-secret\n"


@pytest.mark.parametrize("path", ["../out.yml", "docker/../../out.yml", "escape/x.yml"])
def test_nothing_leads_out_of_the_root(tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "calm"
    root.mkdir()
    (root / "escape").symlink_to(outside)
    [result] = effect(root, write(path))
    assert "out of" in result["message"]
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "out.yml").exists()
    assert probe(root, documents={"x": {"path": path}})["files"]["x"]["status"] == "leads_out"


def test_a_root_that_is_a_link_is_resolved_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "calm").symlink_to("real")
    assert statuses(effect(tmp_path / "calm", write(tmp_path / "calm" / PATH))) == ["done"]
    assert (tmp_path / "real" / PATH).read_text() == CONTENT
    assert Root(str(tmp_path / "calm")).path == str(tmp_path / "real")


def test_a_folder_in_place_of_a_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / PATH).mkdir(parents=True)
    assert "is not a file" in effect(tmp_path, write())[0]["message"]


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("")
    assert "file where a folder should be" in effect(tmp_path, write())[0]["message"]
    assert "is not a folder" in effect(tmp_path, {"do": "folder", "path": "docker"})[0]["message"]


def test_a_root_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "calm").write_text("")
    assert probe(tmp_path / "calm")["root"]["status"] == "file"
    results = effect(tmp_path / "calm", write(), write())
    assert "is a file where calm's folder should be" in results[0]["message"]
    assert statuses(results) == ["failed", "skipped"]


def test_a_missing_folder_elsewhere_is_not_made(tmp_path: Path) -> None:
    [result] = effect(tmp_path / "calm", write(tmp_path / "wrong" / "app.yaml"))
    assert "does not exist" in result["message"]
    assert not (tmp_path / "wrong").exists()


def test_folder_puts_its_mode_right(tmp_path: Path) -> None:
    wanted = {"do": "folder", "path": "a/b", "mode": "0700"}
    assert statuses(effect(tmp_path, wanted)) == ["done"]
    assert statuses(effect(tmp_path, wanted)) == ["unchanged"]
    (tmp_path / "a/b").chmod(0o755)
    assert statuses(effect(tmp_path, wanted)) == ["done"]
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700


def test_remove_file_keeps_a_backup_and_refuses_what_changed(tmp_path: Path) -> None:
    effect(tmp_path, write())
    gone = {"do": "remove_file", "path": PATH}
    assert statuses(effect(tmp_path, {**gone, "expect": sha("else")})) == ["failed"]
    assert statuses(effect(tmp_path, {**gone, "expect": sha(CONTENT)})) == ["done"]
    assert statuses(effect(tmp_path, gone)) == ["unchanged"]
    assert len(list((tmp_path / "backups").glob("docker-compose.yml.*.bak"))) == 1
    assert statuses(effect(tmp_path, {"do": "restore", "path": PATH})) == ["done"]
    assert (tmp_path / PATH).read_text() == CONTENT


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the system refuses to write on."""
    effect(tmp_path, write())
    request = {"root": str(tmp_path), "effects": [write(content="x" * 300_000, backup=False)]}
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    done = subprocess.run(
        [python(), "-I", "-"],
        input=limited + script("effect", request),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot write docker/docker-compose.yml: File too large" in done.stderr
    assert (tmp_path / PATH).read_text() == CONTENT
    assert unfinished(tmp_path) == []


def test_a_killed_write_leaves_old_or_new_and_the_next_run_sweeps(tmp_path: Path) -> None:
    """Killed at moments all over its run."""
    old, new = "old\n" * 200_000, "new\n" * 200_000
    effect(tmp_path, write(content=old))
    moments = random.Random(4711)
    text = script("effect", {"root": str(tmp_path), "effects": [write(content=new, backup=False)] * 2})
    for _ in range(8):
        process = subprocess.Popen(
            [python(), "-I", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        time.sleep(moments.uniform(0.02, 0.14))
        process.kill()
        process.wait(timeout=10)
        assert (tmp_path / PATH).read_text() in (old, new)
        os.utime(tmp_path / PATH)
        assert statuses(effect(tmp_path, write(content=old, backup=False)))[0] in ("done", "unchanged")
        assert unfinished(tmp_path) == []


def test_what_a_killed_run_left_is_swept_but_not_what_another_run_writes(tmp_path: Path) -> None:
    root, foreign = tmp_path / "calm", tmp_path / "foreign"
    (root / "docker").mkdir(parents=True)
    foreign.mkdir()
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = [
        root / ".calm-1-aa.tmp",
        root / f"docker/.calm-{dead.pid}-bb.tmp",
        foreign / f".calm-{dead.pid}-cc.tmp",
    ]
    alive = foreign / f".calm-{os.getpid()}-dd.tmp"
    for path in [*left, alive]:
        path.write_text("half")
    effect(root, write(), write(foreign / "app.yaml"))
    assert [path for path in left if path.exists()] == []
    assert alive.exists()


def test_a_root_without_the_right_to_write_is_said(tmp_path: Path) -> None:
    """As a user who owns nothing there; root may write everywhere, so it changes into nobody first."""
    tmp_path.chmod(0o755)
    (tmp_path / "calm").mkdir(mode=0o755)
    nobody = 65534
    drop = f"import os\nos.getuid() or (os.setgroups([]), os.setgid({nobody}), os.setuid({nobody}))\n"
    (tmp_path / "calm").chmod(0o555)
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    request = {"root": str(tmp_path / "calm"), "effects": [write()]}
    done = subprocess.run(
        [python(), "-I", "-"],
        input=drop + script("effect", request),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no right to write" in done.stderr
    done = subprocess.run(
        [python(), "-I", "-"],
        input=drop + script("probe", request),
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"status":"unwritable"' in done.stdout
