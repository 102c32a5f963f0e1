#!/bin/sh
# Work of a known size: `task hash` and `task count` do as many percent more of it as /etc/task-percent says.
set -e
read -r percent < /etc/task-percent
case "$1" in
    hash)
        # Not in a pipe: two processes at once on shared processors take a time that says more of the host than of the work.
        head -c $((100000 * (100 + percent))) /dev/zero > /tmp/hashed
        sha256sum /tmp/hashed > /dev/null
        ;;
    count)
        left=$((500 * (100 + percent)))
        while [ "$left" -gt 0 ]; do left=$((left - 1)); done
        ;;
    *) echo "task hash|count" >&2; exit 2 ;;
esac
