"""The values that redis and postgres run with, and how they are reached.

What only reads is asked over the published ports first (`direct.py`), all else by commands in their
containers. A command's argv shows in Docker's events, so it holds names alone; passwords and statements go
by stdin.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Mapping

from calm.onhost import direct, scram
from calm.onhost.direct import DirectError
from calm.onhost.errors import RefusedError

if TYPE_CHECKING:
    from calm.onhost.docker_api import Engine, Exec

EXEC_SECONDS = 8.0

_REDIS = r"""
IFS= read -r given
mounted=$(cat /run/secrets/redis_password 2>/dev/null)
written=$([ -n "$1" ] && sed -n 's/^ *requirepass *"\{0,1\}\([^" ]*\).*/\1/p' "$1" 2>/dev/null)
for one in "$given" "$mounted" "${REDISCLI_AUTH-}" "${REDIS_PASSWORD-}" "$written"; do
  [ -n "$one" ] && break
done
[ -n "$one" ] && export REDISCLI_AUTH="$one"
exec redis-cli
"""
_PSQL = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
_LOGIN = r"""
IFS= read -r PGPASSWORD; export PGPASSWORD PGCONNECT_TIMEOUT=5
address=$(hostname -i); address=${address%% *}
exec psql -X -q -A -t -w -h "$address" -U "$1" -d "$2" -c 'SELECT 1'
"""

_KEPT = "kept="
_PASSWORD = r"""
SELECT has_table_privilege('pg_authid', 'SELECT') AS may \gset
\if :may
SELECT {mark} || coalesce(rolpassword, '') FROM pg_authid WHERE rolname = {user};
\endif
"""
_REQUIRED = "requirepass"

_VALUES = """
SELECT json_build_object(
 'version', current_setting('server_version'),
 'parameters', (SELECT json_object_agg(name, current_setting(name)) FROM pg_settings WHERE name IN ({names})),
 'sources', (SELECT json_object_agg(name, source) FROM pg_settings WHERE name IN ({names})),
 'given', (SELECT json_agg(json_build_object('role', r.rolname, 'database', d.datname, 'set', s.setconfig))
   FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
   LEFT JOIN pg_database d ON d.oid = s.setdatabase
   WHERE (s.setrole = 0 OR r.rolname = {user}) AND (s.setdatabase = 0 OR d.datname = {database})));
"""


def read(
    name: str,
    engine: Engine,
    inspected: Mapping[str, Any],
    spec: Mapping[str, Any],
    passwords: Mapping[str, str],
) -> dict[str, Any]:
    """``{"parameters": {…}}`` and more of one server, or ``{"error": …}`` if it is not running.

    ``passwords`` are those that this host keeps, by server.
    """
    state = inspected["State"]["Status"]
    if state != "running":
        return {"error": f"the container {spec['container']} is {state}"}
    if name == "redis":
        return _redis_answer(engine, inspected, spec["parameters"], passwords["redis"])
    return _postgres(engine, inspected, spec, passwords["postgres"])


def _redis_answer(
    engine: Engine, inspected: Mapping[str, Any], names: list[str], password: str
) -> dict[str, Any]:
    found = _redis_values(engine, inspected, [*names, _REQUIRED], password)
    required = found.pop(_REQUIRED)
    known = bool(password) and required is not None
    return {
        "container": inspected["Id"],
        "parameters": found,
        "has_password": required == password if known else None,
    }


def _redis_values(
    engine: Engine, inspected: Mapping[str, Any], names: list[str], password: str
) -> dict[str, str | None]:
    try:
        return direct.redis(direct.place(engine, inspected, direct.REDIS_PORT), password, names)
    except DirectError:
        return redis_get(engine, inspected, names, password)


def redis_get(
    engine: Engine, inspected: Mapping[str, Any], names: list[str], spare: str
) -> dict[str, str | None]:
    """What ``CONFIG GET`` says; None for a parameter that this redis does not have."""
    asked = [name.lower() for name in names]
    commands = [f"CONFIG GET {quoted(name)}" for name in asked]
    lines = redis(engine, inspected, commands, spare=spare).split("\n")
    found: dict[str, str | None] = dict.fromkeys(names)
    for at, line in enumerate(lines[:-1]):
        if line in asked and found[names[asked.index(line)]] is None:
            found[names[asked.index(line)]] = lines[at + 1]
    return found


def redis(
    engine: Engine, inspected: Mapping[str, Any], commands: list[str], password: str = "", spare: str = ""
) -> str:
    """What redis answers to ``commands``, with the password that is given or that the container holds.

    ``spare`` is tried after that: a rotated password that this redis was told, while its container still
    holds the old one.
    """
    try:
        return _redis(engine, inspected, commands, password)
    except WrongPasswordError:
        if not spare:
            raise
        return _redis(engine, inspected, commands, spare)


class WrongPasswordError(RefusedError):
    """Redis wants another password."""


def _redis(engine: Engine, inspected: Mapping[str, Any], commands: list[str], password: str) -> str:
    argv = ["sh", "-c", _REDIS, "sh", _configuration(inspected)]
    stdin = "\n".join([password or _on_command_line(inspected), *commands, ""]).encode()
    said = _checked(engine.running(inspected["Id"], argv, stdin, EXEC_SECONDS), "redis", quiet=True)
    for line in said.splitlines():
        refused = re.match(r"(?:\(error\) )?(ERR|NOAUTH|WRONGPASS|NOPERM|LOADING|MISCONF|OOM)\b", line)
        if refused is not None:
            kind = WrongPasswordError if refused[1] in ("NOAUTH", "WRONGPASS") else RefusedError
            raise kind(f"redis in {_name(inspected)} says: {line}")
    return said


def quoted(value: str) -> str:
    """A word for redis-cli and for redis.conf, whatever is in it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char >= " " else f"\\x{ord(char):02x}" for char in escaped) + '"'


def _words(inspected: Mapping[str, Any]) -> list[str]:
    config = inspected["Config"]
    return [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]


def _configuration(inspected: Mapping[str, Any]) -> str:
    return next((word for word in _words(inspected) if word.endswith(".conf")), "")


def _on_command_line(inspected: Mapping[str, Any]) -> str:
    """The password of a server that was started with ``--requirepass``."""
    return argument(inspected, "--requirepass") or ""


def argument(inspected: Mapping[str, Any], name: str) -> str | None:
    """The value after ``name`` on the container's command line, a variable of its environment resolved."""
    match = re.search(re.escape(name) + r"[=\s]+[\"']?([^\s\"']+)", " ".join(_words(inspected)))
    if match is None:
        return None
    variable = re.fullmatch(r"\$\{?(\w+)\}?", match[1])
    if variable is None:
        return match[1]
    pairs = (entry.partition("=") for entry in inspected["Config"].get("Env") or ())
    return next((value for key, _, value in pairs if key == variable[1]), None)


def _postgres(
    engine: Engine, inspected: Mapping[str, Any], spec: Mapping[str, Any], password: str
) -> dict[str, Any]:
    names = ", ".join(literal(name) for name in spec["parameters"]) or "''"
    user, database = spec["user"], spec["database"]
    statement = _VALUES.format(names=names, user=literal(user), database=literal(database))
    has_password: bool | None = True
    try:
        place = direct.place(engine, inspected, direct.POSTGRES_PORT)
        said = direct.postgres(place, user, database, password, statement)
    except DirectError:
        said, kept = _psql_kept(engine, inspected, user, database, statement)
        has_password = scram.is_of(kept, user, password) if password else None
    found = json.loads(said)
    return {
        "container": inspected["Id"],
        "version": found["version"],
        "major": found["version"].split(".")[0],
        "parameters": found["parameters"] or {},
        "sources": found["sources"] or {},
        "reset_by": _overrides(found["given"] or [], spec["parameters"]),
        "has_password": has_password,
    }


def _overrides(given: list[dict[str, Any]], names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The settings of a role or a database that win over the server's, by parameter."""
    out: dict[str, list[dict[str, Any]]] = {}
    for one in given:
        for pair in one["set"] or ():
            name, _, value = pair.partition("=")
            if name in names:
                entry = {"role": one["role"], "database": one["database"], "value": value}
                out.setdefault(name, []).append(entry)
    return out


def psql(engine: Engine, inspected: Mapping[str, Any], user: str, database: str, statements: str) -> str:
    """What psql prints for ``statements``, over the server's own socket, which trusts."""
    return _checked(_psql(engine, inspected, user, database, statements), "postgres")


def _psql(engine: Engine, inspected: Mapping[str, Any], user: str, database: str, statements: str) -> Exec:
    argv = [*_PSQL, "-U", user, "-d", database, "-f", "-"]
    return engine.running(inspected["Id"], argv, statements.encode(), EXEC_SECONDS)


def has_password(
    engine: Engine, inspected: Mapping[str, Any], user: str, database: str, password: str
) -> bool | None:
    """Whether this is the password of the role in postgres; None where only a login tells.

    By what postgres keeps of it: a login proves nothing where postgres asks for no password.
    """
    return scram.is_of(_psql_kept(engine, inspected, user, database, "")[1], user, password)


def _psql_kept(
    engine: Engine, inspected: Mapping[str, Any], user: str, database: str, statements: str
) -> tuple[str, str | None]:
    """What psql prints, and apart from it what postgres keeps of the role's password.

    That is None if this user may not read it.
    """
    asked = _PASSWORD.format(mark=literal(_KEPT), user=literal(user)) + statements
    done = _psql(engine, inspected, user, database, asked)
    kept, rest = None, done.out
    if rest.startswith(_KEPT):
        line, _, rest = rest.removeprefix(_KEPT).partition("\n")
        kept = line.strip()
    return _checked(done._replace(out=rest), "postgres"), kept


def login(engine: Engine, inspected: Mapping[str, Any], user: str, database: str, password: str) -> Exec:
    """Tries a login with a password over the container's own address, where postgres asks for it."""
    argv = ["sh", "-c", _LOGIN, "sh", user, database]
    return engine.running(inspected["Id"], argv, password.encode() + b"\n", EXEC_SECONDS)


def literal(value: str) -> str:
    """A string of SQL."""
    return "'" + value.replace("'", "''") + "'" if "\\" not in value else _escaped(value)


def _escaped(value: str) -> str:
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _checked(done: Exec, what: str, *, quiet: bool = False) -> str:
    """What a client printed. ``quiet``: one that ends with 0, a word on stderr and no other has failed, too.

    What it printed is not told with an error: it may hold a password.
    """
    said = done.err.strip()
    if done.code == 0 and not (quiet and said and not done.out.strip()):
        return done.out
    if done.code in (126, 127) or "executable file not found" in done.out + said:
        raise RefusedError(f"the container has no client of {what} in it: {(said or done.out.strip())[:200]}")
    raise RefusedError(f"{what} does not answer: {said[:300] or f'its client ended with {done.code}'}")


def _name(inspected: Mapping[str, Any]) -> str:
    return str(inspected["Name"]).lstrip("/")
