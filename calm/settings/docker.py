"""The Docker Compose stack: postgres, redis, the agent API and what users add."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from calm.settings.base import (
    AbsolutePath,
    Address,
    DockerName,
    Enabled,
    Identifier,
    ImageName,
    Names,
    PathText,
    Port,
    ProjectName,
    Section,
    VariableName,
    environment_text,
    matching,
)
from calm.settings.units import MIB, Seconds, Size, size_bytes

SMALLEST_MEMORY = 6 * MIB
"""The least memory limit that Docker Engine takes."""

BUILT_IN = ("postgres", "redis", "agent-api")
"""The services that calm itself declares, by their Compose names."""

Restart = Annotated[
    str,
    matching(
        r"no|always|unless-stopped|on-failure(:[1-9]\d*)?",
        'a restart policy; write "no", "always", "unless-stopped", "on-failure" or "on-failure:5"',
    ),
]
Variable = Annotated[str, BeforeValidator(environment_text)]


class Health(Section):
    """How Docker finds out whether a service works."""

    interval: Seconds = Field(default=10, gt=0, description="Seconds between two checks.")
    timeout: Seconds = Field(default=5, gt=0, description="Seconds after which one check has failed.")
    retries: int = Field(
        default=5, ge=1, description="Failed checks in a row that make it unhealthy (count)."
    )
    start_period: Seconds = Field(
        default=30, description="Seconds at the start in which failures do not count."
    )
    start_interval: Seconds = Field(
        default=1,
        gt=0,
        description="Seconds between two checks during start_period (Docker Engine 25 and newer).",
    )


class AgentApiHealth(Health):
    """The agent API starts slower than the others and is asked less often."""

    interval: Seconds = Field(default=30, gt=0, description="Seconds between two checks.")
    timeout: Seconds = Field(default=10, gt=0, description="Seconds after which one check has failed.")
    retries: int = Field(
        default=3, ge=1, description="Failed checks in a row that make it unhealthy (count)."
    )
    start_period: Seconds = Field(
        default=40, description="Seconds at the start in which failures do not count."
    )


class Service(Section):
    """What every service has: its limits, how it restarts and how its health is seen."""

    cpus: float = Field(default=1, gt=0, le=1024, description="CPU limit, in CPUs.")
    memory: Size = Field(
        default=size_bytes("1G"),
        ge=SMALLEST_MEMORY,
        description="Memory limit (size), at least 6M.",
    )
    swap: Size = Field(default=0, description="Swap on top of memory (size); 0 means none.")
    memory_reserved: Size = Field(
        default=size_bytes("512M"),
        description="Memory kept for the service when the host runs short (size), at most memory.",
    )
    pids: int = Field(default=200, ge=1, description="Most processes and threads (count).")
    restart: Restart = Field(default="unless-stopped", description="Docker's restart policy.")
    health: Health = Field(default_factory=Health, description="The health check.")


class Postgres(Service):
    """The database."""

    image: ImageName = Field(default="postgres:15-alpine", description="Image; postgres 13 or newer.")
    port: Port = Field(default=5432, description="Port on the host (TCP).")
    user: Identifier = Field(default="agent_user", description="Role that owns the database.")
    database: Identifier = Field(default="agent_system", description="Database.")
    max_connections: int = Field(
        default=50,
        ge=5,
        le=10000,
        description="Most connections (count); the other memory settings are derived from this and memory.",
    )


class Redis(Service):
    """The cache."""

    image: ImageName = Field(default="redis:7-alpine", description="Image; redis 6 or newer.")
    cpus: float = Field(default=0.5, gt=0, le=1024, description="CPU limit, in CPUs.")
    memory: Size = Field(default=size_bytes("512M"), ge=SMALLEST_MEMORY, description="Memory limit (size).")
    memory_reserved: Size = Field(
        default=size_bytes("256M"),
        description="Memory kept for the service when the host runs short (size), at most memory.",
    )
    port: Port = Field(default=6379, description="Port on the host (TCP).")
    persistence: Literal["none", "rdb", "aof"] = Field(
        default="rdb",
        description="What survives a restart: nothing, snapshots, or every write. rdb and aof copy memory "
        "while "
        "they save, so less of the limit is left for data.",
    )
    maxmemory: Size | None = Field(
        default=None,
        description="Memory for data (size); None derives the most that survives a save under write load. "
        "A value that would get redis killed is refused.",
    )
    maxmemory_policy: Literal[
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] = Field(default="allkeys-lru", description="What redis drops when maxmemory is reached.")


class AgentApi(Service):
    """The application's API: the reference one in stack/agent_api, or your own image or build context."""

    enabled: bool = Field(default=True, description="Whether the stack has an agent API.")
    image: ImageName | None = Field(
        default=None, description="Your own image; None with build None: stack/agent_api."
    )
    build: PathText | None = Field(
        default=None,
        description="Your own build context, a folder on the machine that runs calm; not with image.",
    )
    cpus: float = Field(default=2, gt=0, le=1024, description="CPU limit, in CPUs.")
    memory: Size = Field(default=size_bytes("2G"), ge=SMALLEST_MEMORY, description="Memory limit (size).")
    memory_reserved: Size = Field(
        default=size_bytes("1G"),
        description="Memory kept for the service when the host runs short (size), at most memory.",
    )
    port: Port = Field(default=5000, description="Port on the host (TCP).")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="LOG_LEVEL of the API."
    )
    database_pool_size: int = Field(
        default=10, ge=1, description="Connections to postgres that each worker keeps (count)."
    )
    health_check_interval: Seconds = Field(
        default=60, gt=0, description="Seconds between two checks that the API makes of its own back ends."
    )
    workers: int = Field(default=1, ge=1, le=256, description="Worker processes of the API (count).")
    environment: dict[VariableName, Variable] = Field(
        default_factory=dict,
        description="Further environment variables. Not for secrets: these are not hidden.",
    )
    secrets_as: Literal["files", "env"] = Field(
        default="files",
        description="How the API gets its secrets: as files under /run/secrets, or in environment "
        "variables, which "
        "everybody with access to Docker can read.",
    )
    health: AgentApiHealth = Field(default_factory=AgentApiHealth, description="The health check.")


class Volumes(Section):
    """Where the data lives."""

    postgres: DockerName | None = Field(
        default=None,
        description="Volume of postgres; None: the running container's, else <project>_postgres_data.",
    )
    redis: DockerName | None = Field(
        default=None, description="Volume of redis; None: the running container's, else <project>_redis_data."
    )


class Logging(Section):
    """Rotation of the containers' logs (driver json-file, which keeps everything by default)."""

    max_size: Size = Field(
        default=size_bytes("10m"),
        gt=0,
        description="Size at which a log file is rotated (size).",
    )
    max_file: int = Field(default=3, ge=1, description="Log files kept per container (count).")


class Docker(Section):
    """The stack as a whole."""

    enabled: Enabled = Field(
        default="auto",
        description="True, False, or auto: left out where there is neither a docker command nor a socket.",
    )
    project: ProjectName = Field(
        default="agent-system", description="Compose project; container names begin with it."
    )
    bind: Address = Field(default="127.0.0.1", description="Address of the host that the ports listen on.")
    directory: AbsolutePath | None = Field(
        default=None,
        description="Folder of the Compose file; None: <root>/docker. A folder with a stack in it is taken "
        "over.",
    )
    volumes: Volumes = Field(default_factory=Volumes, description="Named volumes with the data.")
    postgres: Postgres = Field(default_factory=Postgres, description="The database.")
    redis: Redis = Field(default_factory=Redis, description="The cache.")
    agent_api: AgentApi = Field(default_factory=AgentApi, description="The application's API.")
    services: dict[DockerName, dict[str, Any]] = Field(
        default_factory=dict,
        description="Raw Compose keys by service, merged last: more keys for our services, or whole new "
        "services.",
    )
    retired: Names = Field(
        default=("nginx", "prometheus", "grafana"),
        description="Services of a taken-over stack that must not run. One that is declared in services is "
        "not retired.",
    )
    logging: Logging = Field(default_factory=Logging, description="Log rotation.")

    @field_validator("retired")
    @classmethod
    def _not_declared(cls, retired: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if wanted := [name for name in retired if name in BUILT_IN]:
            raise ValueError(f"{wanted[0]} is a service of calm's own and cannot be retired")
        return tuple(name for name in retired if name not in info.data.get("services", {}))
