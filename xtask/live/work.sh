#!/bin/sh
# Work of a known size: `work hash` and `work count` do as many percent more of it as /etc/work-percent says.
set -e
read -r percent < /etc/work-percent
case "$1" in
    hash) head -c $((120000 * (100 + percent))) /dev/zero | sha256sum > /dev/null ;;
    count)
        left=$((1200 * (100 + percent)))
        while [ "$left" -gt 0 ]; do left=$((left - 1)); done
        ;;
    *) echo "work hash|count" >&2; exit 2 ;;
esac
