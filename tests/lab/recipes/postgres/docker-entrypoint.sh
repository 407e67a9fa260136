#!/bin/sh
# Starts postgres as the official image does: an empty data directory is initialised from POSTGRES_*, one that
# holds a cluster is left as it is, and root's rights are dropped before anything of postgres runs.
set -eu

case "${1:-}" in -*) set -- postgres "$@" ;; esac
[ "${1:-}" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chmod 0700 "$PGDATA"
    find "$PGDATA" /run/postgresql \! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

# A value is given by the variable NAME or by a file that NAME_FILE names, not by both.
value() {
    eval "plain=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$plain" ] && [ -n "$file" ]; then
        echo "error: both $1 and $1_FILE are set" >&2
        exit 1
    fi
    if [ -n "$file" ]; then cat "$file"; else printf '%s' "${plain:-${2:-}}"; fi
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=$(value POSTGRES_USER postgres)
    database=$(value POSTGRES_DB "$user")
    password=$(value POSTGRES_PASSWORD)
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo "Error: Database is uninitialized and superuser password is not specified." >&2
        echo "       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser." >&2
        exit 1
    fi
    given=$(mktemp)
    printf '%s\n' "$password" > "$given"
    # shellcheck disable=SC2086  # several options in one variable, as in the official image
    initdb --username="$user" ${password:+--pwfile="$given"} ${POSTGRES_INITDB_ARGS:-}
    rm -f "$given"
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"

    pg_ctl -D "$PGDATA" -w start -o "-c listen_addresses='' -p 5432"
    if [ "$database" != postgres ]; then
        createdb --username="$user" --no-password --maintenance-db=postgres "$database"
    fi
    for script in /docker-entrypoint-initdb.d/*; do
        case "$script" in
            *.sh) sh "$script" ;;
            *.sql) psql -v ON_ERROR_STOP=1 --no-psqlrc -U "$user" -d "$database" -f "$script" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
    echo "PostgreSQL init process complete; ready for start up."
fi
exec "$@"
