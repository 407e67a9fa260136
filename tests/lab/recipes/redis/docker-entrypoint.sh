#!/bin/sh
# Starts redis as the official image does: as its own user, which is dropped to before redis reads any file, and
# with protected mode off unless a configuration file or an option says otherwise.
set -eu

case "${1:-}" in -* | *.conf) set -- redis-server "$@" ;; esac
[ "${1:-}" = redis-server ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
fi
umask 0077
case " $* " in
    *.conf* | *--protected-mode*) exec "$@" ;;
    *) exec "$@" --protected-mode no ;;
esac
