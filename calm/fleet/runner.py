"""pyinfra, driven from inside this process: the only module that imports ``pyinfra_cli``.

One pass is: connect, run ``deploy.py`` for every host (which reads and plans), and, if asked to, execute.
pyinfra's stages cannot go back, so each pass has a new ``State``. Its own exit codes, prompts and output
are not used: a dry run of it ends with 0 whatever is pending, and so does an interrupted one.
"""

from __future__ import annotations

import os

os.environ.setdefault("PYINFRA_PROGRESS", "off")

import pyinfra_cli  # noqa: F401, I001  # first: it lets gevent patch the standard library

import importlib
import logging
import pkgutil
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import gevent  # type: ignore[import-untyped]
import pyinfra
from paramiko import SSHException
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.command import StringCommand
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operations import run_host_op
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.context import ctx_config, ctx_host, ctx_inventory, ctx_state
from pyinfra_cli.exceptions import UnexpectedExternalError
from pyinfra_cli.inventory import make_inventory
from pyinfra_cli.util import load_deploy_file

import calm.drift
from calm.fleet import board as boards
from calm.fleet import connection, pushed
from calm.fleet.board import Pass
from calm.fleet.interrupt import heard_while_waiting
from calm.fleet.layers import layers
from calm.fleet.patience import MARGIN_SECONDS
from calm.fleet.targets import InventoryError, NoHostError, Target, WrongSettingsError

if TYPE_CHECKING:
    from calm.settings import Settings
    from calm.settings.load import SettingsError

EFFECT_SECONDS = 30
LEASE_SECONDS = 120
LOCKING_SECONDS = 10
"""How long an interrupt waits for hosts that are taking their lock."""

LOGIN_SECONDS = 1.0
"""How long to wait for a host to get as far as the login before this process goes on with work of its own."""

_LOOK_SECONDS = 0.002
_ROUND_TRIPS = 4
"""Up to the login: TCP, the greetings, and two for the keys."""

_SLOW_TO_LOAD = ("pydantic_core", "pydantic.types", "pydantic.json_schema", "calm.settings.load")
"""What settings are made with. All else that a pass takes is there before it connects."""

_HELD = re.compile("locked by|at work on this host")
"""What an answer says where it is somebody else's lock that is in the way, and not a full disk, say."""

Progress = Callable[[str, str, str], None]
"""Called with host, resource id and ``start``, ``done`` or ``failed``."""


def validate(target: Target) -> dict[str, Settings | SettingsError]:
    """The settings of every host, or what is wrong with them; no host is touched.

    Raises:
        InventoryError, NoHostError
    """
    inventory, hosts = _hosts(target)
    return {host.name: _settings(inventory, host, target) for host in hosts}


def look(target: Target, board: boards.Board, *, strict: bool = False) -> Pass:
    """Read and compare every host. Nothing is written on any of them.

    With ``strict`` wrong settings of one host keep all from being read; else they are told of that one.

    Raises:
        InventoryError, NoHostError, WrongSettingsError
    """
    return _pass(target, board, execute=False, progress=None, strict=strict)


def converge(target: Target, board: boards.Board, progress: Progress | None = None) -> Pass:
    """Lock, read, compare and change every host; the locks are freed whatever happens.

    Raises:
        InventoryError, NoHostError
    """
    return _pass(target, board, execute=True, progress=progress, strict=False)


def effects(target: Target, wanted: Callable[[Settings], dict[str, Any]]) -> dict[str, tuple[bool, str]]:
    """Run one effect request per host, outside of any deploy: ``calm unlock`` needs no plan.

    Returns whether it worked and what the host answered, by host name.
    """
    inventory, hosts = _hosts(target)
    state = _state(target, inventory, hosts)
    outcome: dict[str, tuple[bool, str]] = {}
    try:
        _connect(state)
        for host in state.activated_hosts:
            settings = _settings(inventory, host, target)
            if isinstance(settings, Exception):
                outcome[host.name] = (False, str(settings))
                continue
            outcome[host.name] = _command(state, host, wanted(settings))
    finally:
        disconnect_all(state)
    for host in hosts:
        outcome.setdefault(host.name, (False, "unreachable"))
    return outcome


def _pass(
    target: Target, board: boards.Board, *, execute: bool, progress: Progress | None, strict: bool
) -> Pass:
    inventory, hosts = _hosts(target)
    boards.begin(board)
    board.source = target.source
    state = _state(target, inventory, hosts)
    watcher = _Watcher(progress, board)
    state.add_callback_handler(watcher)
    result = Pass(board=board, hosts=tuple(host.name for host in hosts), unreachable=watcher.unreachable)
    try:
        with heard_while_waiting():
            _reach(state, target, hosts, strict=strict)
            if execute:
                _lock(state, board, target)
            if state.active_hosts:
                _deploy(state, target, execute=execute)
    except KeyboardInterrupt:
        state.pool.kill(timeout=EFFECT_SECONDS)  # else they would go on while their locks are freed
        raise
    finally:
        _close(state, board, progress)
    return result


def _deploy(state: State, target: Target, *, execute: bool) -> None:
    state.set_stage(StateStage.Prepare)
    try:
        with suppress(PyinfraError):  # "No hosts remaining!": each host's own reason is on the board
            load_deploy_file(state, str(target.checkout / "deploy.py"))
            if execute:
                _execute(state)
    except UnexpectedExternalError as error:
        raise error.exception from error


def _execute(state: State) -> None:
    """Take every host through its operations at its own pace.

    pyinfra's own ways either hold all up for the slowest at each operation or print a traceback for each
    host that fails.
    """
    state.set_stage(StateStage.Execute)
    state.is_executing = True
    jobs = [state.pool.spawn(_operations, state, host) for host in list(state.active_hosts)]
    try:
        gevent.joinall(jobs)
    finally:  # interrupted: no host begins another operation
        gevent.killall(jobs, block=False)


def _operations(state: State, host: Host) -> None:
    run = boards.current().host(host.name)
    with ctx_host.use(host):
        for op_hash in state.get_op_order():
            began = time.monotonic()
            try:
                okay = run_host_op(state, host, op_hash)
            except EOFError:  # paramiko's word for a connection that is gone
                okay = False
            if _silent(state, host, op_hash):
                waited_s = time.monotonic() - began
                run.error = _why_silent(host, _named(state, op_hash), waited_s)
            if not okay or run.error is not None:
                return


def _why_silent(host: Host, what: str, waited_s: float) -> boards.HostError | None:
    """The connection is gone, or the host is stuck; None for a command that has failed without a word."""
    if not connection.answers(host):
        return connection.lost(host, what)
    return connection.stuck(host, what, waited_s) if waited_s >= MARGIN_SECONDS else None


def _silent(state: State, host: Host, op_hash: str) -> bool:
    """Whether an operation has failed, or not come to its end, without a word from the host."""
    if op_hash not in state.ops[host]:
        return False
    meta = state.ops[host][op_hash].operation_meta
    return not meta.is_complete() or (meta.did_error() and not meta.stdout and not meta.stderr)


def _named(state: State, op_hash: str) -> str:
    return next(iter(state.op_meta[op_hash].names))


def _hosts(target: Target) -> tuple[Inventory, list[Host]]:
    pyinfra.is_cli = True
    logging.getLogger("pyinfra").addHandler(logging.NullHandler())
    logging.getLogger("pyinfra").propagate = False
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    inventory = _inventory(target)
    hosts = list(_limited(inventory, target))
    if not hosts:
        named = f"--limit {' '.join(target.limit)}" if target.limit else target.source
        raise NoHostError(
            f"{named} matches no host. The inventory has: {', '.join(inventory.hosts) or 'none'}."
        )
    connection.make_room(len(hosts))
    return inventory, hosts


def _inventory(target: Target) -> Inventory:
    state = State(check_for_changes=True)
    state.cwd = str(target.checkout)
    ctx_state.set(state)
    ctx_config.set(Config())
    try:
        inventory: Inventory = make_inventory(
            str(target.inventory),
            cwd=str(target.checkout),
            override_data=dict(target.data),
            group_data_directories=[],
        )
    except Exception as error:  # an inventory is a user's own Python: anything can come out of it
        cause = getattr(error, "exception", error)
        raise InventoryError(
            f"{target.source} cannot be read: {type(cause).__name__}: {cause}. Correct the file."
        ) from error
    return inventory


def _limited(inventory: Inventory, target: Target) -> Iterable[Host]:
    for host in inventory:
        names = (host.name, *host.groups)
        if target.names is not None and host.name not in target.names:
            continue
        if not target.limit or any(fnmatch(name, pattern) for pattern in target.limit for name in names):
            yield host


def _all_settings(
    inventory: Inventory, hosts: list[Host], target: Target
) -> Iterator[Settings | SettingsError]:
    for host in hosts:
        gevent.sleep(0)
        yield _settings(inventory, host, target)


def _insist(found: Iterable[Settings | SettingsError]) -> None:
    wrong = [str(one) for one in found if isinstance(one, Exception)]
    if wrong:
        raise WrongSettingsError("\n".join(dict.fromkeys(wrong)))


def _settings(inventory: Inventory, host: Host, target: Target) -> Settings | SettingsError:
    from calm.settings.load import SettingsError, load

    try:
        return load(layers(inventory, host.name, host.groups, source=target.source), host=host.name)
    except SettingsError as error:
        return error


def _state(target: Target, inventory: Inventory, hosts: list[Host]) -> State:
    state = State(check_for_changes=True)
    state.cwd = str(target.checkout)
    config = Config(CONNECT_TIMEOUT=connection.CONNECT_SECONDS)
    ctx_state.set(state)
    ctx_config.set(config)
    ctx_inventory.set(inventory)
    state.init(inventory, config, initial_limit=hosts)
    connection.prepare(state)
    return state


def _connect(state: State) -> None:
    state.set_stage(StateStage.Connect)
    with suppress(PyinfraError):
        connect_all(state)


def _reach(state: State, target: Target, hosts: list[Host], *, strict: bool) -> None:
    """Connect to every host; read the settings, and load what a pass takes, while hosts log in.

    Raises:
        WrongSettingsError: with ``strict`` alone. No connection is left behind by this or any other error.
    """
    connecting = gevent.spawn(_connect, state)
    try:
        _wait_for_login(connecting, hosts)
        _load_ahead()
        if strict:
            _insist(_all_settings(state.inventory, hosts, target))
        connecting.get()
    except BaseException:
        connecting.kill()  # first, or it would go on to further hosts
        state.pool.kill(timeout=EFFECT_SECONDS)
        for host in hosts:
            if host.connected and host not in state.activated_hosts:
                with suppress(OSError, EOFError, SSHException):
                    host.disconnect()
        raise


def _wait_for_login(connecting: gevent.Greenlet, hosts: list[Host]) -> None:
    """Give way to the connections until the first host has a login to check, or all are through.

    Up to there an answer follows upon an answer, and all of them would wait for whatever is done meanwhile.
    Then a host is busy for a hundred milliseconds, as Linux is that begins a session of a user.
    """
    began = time.monotonic()
    while not connecting.ready() and time.monotonic() < began + LOGIN_SECONDS:
        if any(connection.logs_in(host) for host in hosts):
            # The login begins with a question that is answered at once.
            gevent.sleep((time.monotonic() - began) / _ROUND_TRIPS)
            return
        gevent.sleep(_LOOK_SECONDS)


def _load_ahead() -> None:
    """Load what settings and comparing need; the connections are heard in between."""
    parts = pkgutil.iter_modules(calm.drift.__path__, "calm.drift.")
    for name in (*_SLOW_TO_LOAD, *(module.name for module in parts)):
        gevent.sleep(0)
        importlib.import_module(name)


def _lock(state: State, board: boards.Board, target: Target) -> None:
    """Lock every host in parallel; one that somebody else holds takes no part in this pass."""
    request = {"do": "lock", "lease_s": LEASE_SECONDS, "force": board.force}
    board.lock_held = True  # on some hosts already while others are still asked
    jobs = {
        host: state.pool.spawn(_lock_one, state, host, board, target, request) for host in state.active_hosts
    }
    try:
        gevent.joinall(list(jobs.values()))
    except KeyboardInterrupt:  # a lock that is freed first and taken then would stay
        gevent.joinall(list(jobs.values()), timeout=LOCKING_SECONDS)
        raise
    held = {host for host, job in jobs.items() if not job.get()}
    with suppress(PyinfraError):
        state.fail_hosts(held)


def _lock_one(state: State, host: Host, board: boards.Board, target: Target, effect: dict[str, Any]) -> bool:
    run = board.host(host.name)
    settings = _settings(state.inventory, host, target)
    if isinstance(settings, Exception):
        return True  # deploy.py says it, with the rest
    run.settings = settings
    done, said = _command(state, host, _request(settings, board, effect))
    if not done:
        code = "locked" if _HELD.search(said) else "lock"
        run.error = boards.HostError(code=code, message=said, hint="Nothing was changed there.")
    return done


def _request(settings: Settings, board: boards.Board, effect: dict[str, Any]) -> dict[str, Any]:
    run = {"id": board.run_id, "who": board.who}
    return {"schema": 1, "root": settings.root, "run": run, "effects": [effect]}


def _command(state: State, host: Host, request: dict[str, Any]) -> tuple[bool, str]:
    """Run one effect request on one host; the answer's messages, or what stood on stderr."""
    with ctx_state.use(state), ctx_host.use(host):
        arguments, _ = pop_global_arguments(state, host, {})
        connector = {key: value for key, value in arguments.items() if key in CONNECTOR_ARGUMENT_KEYS}
        connector["_stdin"] = pushed.payload(host, "effect", request)
        connector["_timeout"] = EFFECT_SECONDS
        try:
            done, output = host.run_shell_command(StringCommand(f"{pushed.python(host)} -I -"), **connector)
        except (OSError, EOFError, SSHException) as error:
            return False, str(error) or "the host gave no answer"
    return done, output.stderr.strip() or output.stdout


def _close(state: State, board: boards.Board, progress: Progress | None) -> None:
    """Free the locks that this pass holds, and say so where one could not be freed."""
    if board.lock_held:
        jobs = {host.name: gevent.spawn(_unlock, state, host, board) for host in state.activated_hosts}
        gevent.joinall(list(jobs.values()))
        for name, job in jobs.items():
            if job.value is not None and progress is not None:
                progress(name, "lock", f"still held: {job.value}")
    disconnect_all(state)


def _unlock(state: State, host: Host, board: boards.Board) -> str | None:
    """Free the lock of one host if this pass has it; why that failed."""
    run = board.host(host.name)
    if run.settings is None or (run.error is not None and run.error.code == "locked"):
        return None
    done, said = _command(state, host, _request(run.settings, board, {"do": "unlock"}))
    return None if done else said


class _Watcher(BaseStateCallback):
    """Hears what pyinfra does: why a host cannot be reached, and when an operation begins and ends."""

    def __init__(self, progress: Progress | None, board: boards.Board) -> None:
        self.progress = progress
        self.board = board
        self.unreachable: dict[str, boards.HostError] = {}

    def host_connect(self, state: State, host: Host) -> None:  # type: ignore[override]  # noqa: ARG002
        connection.settle(host)

    def host_connect_error(self, state: State, host: Host, error: Exception) -> None:  # type: ignore[override]  # noqa: ARG002
        self.unreachable[host.name] = connection.reason(host, error)

    def operation_host_start(self, state: State, host: Host, op_hash: str) -> None:  # type: ignore[override]
        self._tell(state, host, op_hash, "start")

    def operation_host_success(  # type: ignore[override]
        self,
        state: State,
        host: Host,
        op_hash: str,
        retry_count: int = 0,  # noqa: ARG002
    ) -> None:
        self._tell(state, host, op_hash, "done")

    def operation_host_error(  # type: ignore[override]
        self,
        state: State,
        host: Host,
        op_hash: str,
        retry_count: int = 0,  # noqa: ARG002
        max_retries: int = 0,  # noqa: ARG002
    ) -> None:
        self._tell(state, host, op_hash, "failed")

    def _tell(self, state: State, host: Host, op_hash: str, event: str) -> None:
        if self.progress is None or op_hash not in state.ops[host]:
            return
        identity = _named(state, op_hash)
        drift = self.board.host(host.name).drift
        if drift is not None and any(resource.id == identity for resource in drift.pending):
            self.progress(host.name, identity, event)
