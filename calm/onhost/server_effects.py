"""What redis and postgres are told while they run. Passwords and statements go by stdin alone."""

from __future__ import annotations

import base64
import os
from typing import Any

from calm.onhost import running, scram
from calm.onhost.container_effects import existing
from calm.onhost.errors import RefusedError
from calm.onhost.run import Outcome, Run, secrets


def redis_set(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{container, parameters}``: ``CONFIG SET`` of what differs.

    A value may be ``{"secret": name}``, for the password.
    """
    found = existing(run, effect["container"])
    wanted = {name: _value(run, value) for name, value in effect["parameters"].items()}
    spare = secrets(run.root, ("redis_password",)).get("redis_password", "")
    have = running.redis_get(run.engine, found, list(wanted), spare)
    differing = {name: value for name, value in wanted.items() if have[name] != value}
    if not differing:
        return Outcome("unchanged")
    commands = [f"CONFIG SET {running.quoted(name)} {running.quoted(v)}" for name, v in differing.items()]
    said = running.redis(run.engine, found, commands, spare=spare).split()
    if said != ["OK"] * len(commands):
        raise RefusedError(f"redis in {effect['container']} did not take it: {' '.join(said)[:200]}")
    return Outcome("done", ", ".join(sorted(differing)))


def _value(run: Run, value: Any) -> str:
    return run.secret(value["secret"]) if isinstance(value, dict) else str(value)


def postgres_password(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{container, user, database, secret}``: gives the role the host's password unless it has it."""
    found = existing(run, effect["container"])
    user, database = effect["user"], effect.get("database") or effect["user"]
    password = run.secret(effect.get("secret") or "postgres_password")
    has = running.has_password(run.engine, found, user, database, password)
    if has or (has is None and running.login(run.engine, found, user, database, password).code == 0):
        return Outcome("unchanged")
    unlogged = "" if password.isascii() else "SET log_statement TO 'none';\n"
    statement = f"{unlogged}ALTER ROLE {identifier(user)} PASSWORD {running.literal(verifier(password))};\n"
    running.psql(run.engine, found, user, database, statement)
    return Outcome("done")


def prove_login(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{container, user, database, secret}`` for postgres, ``{container, kind: "redis", secret}`` for redis.

    Over the container's own address: postgres trusts its socket and 127.0.0.1 and would let anybody in there.
    """
    found = existing(run, effect["container"])
    if effect.get("kind") == "redis":
        return _prove_redis(run, found, effect)
    secret = effect.get("secret") or "postgres_password"
    user, database = effect["user"], effect.get("database") or effect["user"]
    done = running.login(run.engine, found, user, database, run.secret(secret))
    if done.code == 0:
        return Outcome("unchanged", "the login works")
    said = " ".join((done.err or done.out).split())[:300]
    raise RefusedError(f"{user} cannot log in to {effect['container']} with the secret {secret}: {said}")


def _prove_redis(run: Run, found: dict[str, Any], effect: dict[str, Any]) -> Outcome:
    secret = effect.get("secret") or "redis_password"
    try:
        said = running.redis(run.engine, found, ["PING"], run.secret(secret))
    except RefusedError as refusal:
        raise RefusedError(
            f"the login to {effect['container']} with the secret {secret} fails: {refusal}"
        ) from None
    if said.strip() != "PONG":
        raise RefusedError(f"redis in {effect['container']} answers {said.strip()[:100]} instead of PONG")
    return Outcome("unchanged", "the login works")


def postgres_reset_role(run: Run, effect: dict[str, Any]) -> Outcome:
    """``{container, user, database, parameters}``: takes a role's or database's own settings away.

    They would win over the server's. Only those are reset that are set and that touch this user there.
    """
    found = existing(run, effect["container"])
    names = ", ".join(running.literal(name) for name in effect["parameters"]) or "''"
    user, database = effect["user"], effect["database"]
    statement = _RESETS.format(names=names, user=running.literal(user), database=running.literal(database))
    resets = running.psql(run.engine, found, user, database, statement).strip()
    if not resets:
        return Outcome("unchanged")
    running.psql(run.engine, found, user, database, resets + "\n")
    return Outcome("done", "; ".join(resets.splitlines()))


_RESETS = """
SELECT CASE
  WHEN s.setrole = 0 AND s.setdatabase = 0 THEN format('ALTER ROLE ALL RESET %I;', p.name)
  WHEN s.setrole = 0 THEN format('ALTER DATABASE %I RESET %I;', d.datname, p.name)
  WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I RESET %I;', r.rolname, p.name)
  ELSE format('ALTER ROLE %I IN DATABASE %I RESET %I;', r.rolname, d.datname, p.name) END
FROM pg_db_role_setting s
CROSS JOIN LATERAL (SELECT split_part(one, '=', 1) AS name FROM unnest(s.setconfig) AS one) p
LEFT JOIN pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_database d ON d.oid = s.setdatabase
WHERE p.name IN ({names}) AND (s.setrole = 0 OR r.rolname = {user})
  AND (s.setdatabase = 0 OR d.datname = {database});
"""


def identifier(name: str) -> str:
    """A name of SQL."""
    return '"' + name.replace('"', '""') + '"'


def verifier(password: str) -> str:
    """What postgres stores of a password (RFC 5803), so that no log of statements holds the password.

    Beyond ASCII a password would have to be normalised first; postgres does that itself if it gets it plain.
    """
    if not password.isascii():
        return password
    salt = os.urandom(16)
    keys = scram.keys(password.encode(), salt)
    shown = [base64.b64encode(part).decode() for part in (salt, keys.stored, keys.server)]
    return f"SCRAM-SHA-256${scram.ITERATIONS}:{shown[0]}${shown[1]}:{shown[2]}"
