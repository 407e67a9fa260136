"""The list of effects as a whole: order, failures, commands, record and generations."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.unit.onhost.pushed import effect, probe, push, statuses

WRITE = {"do": "write", "path": "app.yaml", "content": "a: 1\n"}


def run(*argv: str, **more: object) -> dict[str, object]:
    return {"do": "run", "argv": list(argv), **more}


def test_the_first_failure_skips_the_rest(tmp_path: Path) -> None:
    results = effect(tmp_path, WRITE, run("false"), run("touch", f"{tmp_path}/never"), WRITE)
    assert statuses(results) == ["done", "failed", "skipped", "skipped"]
    assert not (tmp_path / "never").exists()
    assert results[0]["target"] == "app.yaml"
    assert results[0]["took_ms"] > 0


def test_an_unknown_effect_is_named(tmp_path: Path) -> None:
    assert "does not know the effect explode" in effect(tmp_path, {"do": "explode"})[0]["message"]


def test_an_incomplete_effect_fails_without_a_traceback(tmp_path: Path) -> None:
    assert "failed unexpectedly (KeyError at" in effect(tmp_path, {"do": "write"})[0]["message"]


def test_a_command_gets_stdin_environment_and_folder(tmp_path: Path) -> None:
    command = 'cat > "$NAME"; pwd >> "$NAME"'
    wanted = run("sh", "-c", command, stdin="héllo\n", env={"NAME": "out"}, cwd=str(tmp_path))
    assert statuses(effect(tmp_path, wanted)) == ["done"]
    assert (tmp_path / "out").read_text(encoding="utf-8") == f"héllo\n{tmp_path}\n"


def test_a_command_may_end_otherwise_if_told(tmp_path: Path) -> None:
    assert statuses(effect(tmp_path, run("sh", "-c", "exit 3", okay=[0, 3]))) == ["done"]


def test_a_failed_command_says_why_and_no_secret(tmp_path: Path) -> None:
    effect(tmp_path, {"do": "secret", "name": "jwt_secret", "value": "s3cret-value"})
    [result] = effect(
        tmp_path, run("sh", "-c", "cat >&2; exit 4", stdin="token s3cret-value; API_KEY=another-1\n")
    )
    assert "ended with 4: token (hidden); API_KEY=(hidden)" in result["message"]


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    [result] = effect(tmp_path, run("sh", "-c", f"sleep 30 & echo $! > {tmp_path}/pid; wait", timeout_s=0.4))
    assert time.monotonic() - began < 10
    assert "took longer than 0.4 s" in result["message"]
    pid = (tmp_path / "pid").read_text().strip()
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_missing_command_is_named(tmp_path: Path) -> None:
    assert effect(tmp_path, run("no-such-program"))[0]["message"] == "no-such-program does not exist"


@pytest.mark.parametrize(
    "argv",
    [
        ["docker", "volume", "rm", "x"],
        ["docker", "volume", "prune", "-f"],
        ["docker", "compose", "-f", "x.yml", "down", "-v"],
        ["docker", "compose", "down", "--volumes"],
        ["docker", "rm", "-fv", "x"],
        ["docker", "system", "prune", "--volumes"],
        ["/usr/bin/docker", "compose", "up", "-V"],
    ],
)
def test_no_command_removes_a_volume(tmp_path: Path, argv: list[str]) -> None:
    assert "calm never removes a volume" in effect(tmp_path, run(*argv))[0]["message"]


def test_record_puts_keys_and_takes_them_away(tmp_path: Path) -> None:
    effect(tmp_path, {"do": "record", "values": {"documents": {"a": 1, "b": 2}, "agent": {"wheel": "x"}}})
    effect(tmp_path, {"do": "record", "values": {"documents": {"a": 3}, "agent": None}})
    assert probe(tmp_path)["record"] == {"schema": 1, "documents": {"a": 3}}
    assert statuses(effect(tmp_path, {"do": "record", "values": {"documents": {"a": 3}}})) == ["unchanged"]
    effect(tmp_path, {"do": "record", "values": {"generation": 2}, "replace": True})
    assert probe(tmp_path)["record"] == {"schema": 1, "generation": 2}


def test_a_broken_record_is_said_and_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{half")
    answer = probe(tmp_path)
    assert answer["record"] is None
    assert answer["record_error"] == f"{tmp_path}/record.json is no record of calm's"
    effect(tmp_path, {"do": "record", "values": {"generation": 1}})
    assert probe(tmp_path)["record"]["generation"] == 1
    assert [path.read_text() for path in (tmp_path / "backups").glob("record.json.*.bak")] == ["{half"]


def test_a_generation_keeps_its_documents_and_settings(tmp_path: Path) -> None:
    generation = {
        "do": "backup_generation",
        "documents": {"document:app.yaml": "app.yaml", "x": "absent.yml"},
    }
    results = effect(tmp_path, WRITE, {**generation, "settings": {"root": "~/calm"}})
    assert results[1]["generation"] == 1
    kept = json.loads((tmp_path / "backups/generation-1.json").read_text())
    assert kept["settings"] == {"root": "~/calm"}
    assert Path(kept["documents"]["document:app.yaml"]["backup"]).read_text() == "a: 1\n"
    assert kept["documents"]["x"]["backup"] is None
    effect(tmp_path, generation)
    assert len(list((tmp_path / "backups").glob("app.yaml.*.bak"))) == 1


def test_restore_of_a_document_of_ours_takes_it_away_or_brings_the_old_one_back(tmp_path: Path) -> None:
    path, restore = tmp_path / "stack.yml", {"do": "restore", "path": "stack.yml", "mark": "# Ours."}
    for content in ("# Ours. 1\n", "# Ours. 2\n"):
        effect(tmp_path, {"do": "write", "path": "stack.yml", "content": content})
    assert statuses(effect(tmp_path, restore)) == ["done"]
    assert not path.exists()
    assert statuses(effect(tmp_path, restore)) == ["unchanged"]
    for backup in (tmp_path / "backups").iterdir():
        backup.unlink()
    path.write_text("by hand, password: old-one\n")
    effect(tmp_path, {"do": "write", "path": "stack.yml", "content": "# Ours. 3\n"})
    assert statuses(effect(tmp_path, restore)) == ["done"]
    assert path.read_text() == "by hand, password: old-one\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_restore_brings_back_what_stood_there_before_calm(tmp_path: Path) -> None:
    foreign = tmp_path / "lmstudio" / "settings.json"
    foreign.parent.mkdir()
    foreign.write_text('{"theirs": 1}')
    root = tmp_path / "calm"
    for content in ('{"first": 1}', '{"second": 1}'):
        effect(root, {"do": "write", "path": str(foreign), "content": content, "keep": True})
    effect(root, {"do": "write", "path": "settings.json", "content": "ours"})
    assert statuses(effect(root, {"do": "restore", "path": str(foreign)})) == ["done"]
    assert foreign.read_text() == '{"theirs": 1}'
    assert statuses(effect(root, {"do": "restore", "path": "never-backed-up"})) == ["unchanged"]


def test_docker_that_is_not_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    env = {"DOCKER_HOST": f"unix://{tmp_path}/no.sock", "PATH": os.environ["PATH"]}
    [result] = effect(tmp_path, {"do": "volume", "name": "x"}, env=env)
    assert f"does not answer at {tmp_path}/no.sock: start it" in result["message"]


def test_an_agent_effect_that_fails_is_a_failure_in_words(tmp_path: Path) -> None:
    [result] = effect(tmp_path, {"do": "agent_remove", "folder": "agent"})
    assert (result["status"], result["message"]) == ("done", "removed")


def test_the_answer_is_one_line_of_json(tmp_path: Path) -> None:
    done = push("effect", {"root": str(tmp_path), "effects": [WRITE]})
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["schema"] == 1


def test_keys_are_set_in_json_that_its_owner_has_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"mine": 1, "developer": {"own": true}}')
    file.chmod(0o640)
    wanted = {"do": "merge_json", "path": str(file), "values": {"developer": {"ttl": 5}}}
    assert statuses(effect(tmp_path, wanted)) == ["done"]
    assert json.loads(file.read_text()) == {"mine": 1, "developer": {"own": True, "ttl": 5}}
    assert file.stat().st_mode & 0o777 == 0o640
    assert statuses(effect(tmp_path, wanted)) == ["unchanged"]


@pytest.mark.parametrize("text", ["", "[]", "{ not json"])
def test_what_is_no_json_object_is_never_written_over(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text(text)
    answer = effect(tmp_path, {"do": "merge_json", "path": str(file), "values": {"a": 1}})
    assert statuses(answer) == ["failed"]
    assert file.read_text() == text
