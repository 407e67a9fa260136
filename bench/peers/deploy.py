"""What calm enforces on a host, as a deploy of plain pyinfra would: its own operations, one per resource."""

import os
from pathlib import Path

from pyinfra.operations import files, server

ROOT = "/root/calm"
RENDERED = Path(os.environ["CALM_BENCH_RENDERED"])
DOCUMENTS = {
    "app.yaml": "app.yaml",
    "settings.json": "settings.json",
    "redis.conf": "docker/redis.conf",
    "docker-compose.yml": "docker/docker-compose.yml",
}

for path, mode in {"": "755", "docker": "755", "secrets": "700"}.items():
    files.directory(name=f"folder {path}", path=f"{ROOT}/{path}".rstrip("/"), mode=mode)

for secret in ("postgres_password", "redis_password", "jwt_secret"):
    files.file(name=f"secret {secret}", path=f"{ROOT}/secrets/{secret}", mode="444")

for source, target in DOCUMENTS.items():
    files.put(name=f"document {target}", src=str(RENDERED / source), dest=f"{ROOT}/{target}", mode="644")

# pyinfra's docker.compose runs `docker compose up` each time, too; this waits as calm does.
server.shell(
    name="stack",
    commands=[
        f"docker compose -f {ROOT}/docker/docker-compose.yml -p agent-system up -d --wait --quiet-pull"
    ],
)
