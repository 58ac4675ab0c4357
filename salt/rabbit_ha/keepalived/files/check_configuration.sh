#!/bin/sh
# Written by Salt. Lets keepalived judge a configuration before it is used:
#   check_configuration.sh FILE FOLDER_THAT_IT_INCLUDES PROGRAM
set -eu
umask 077
version=$("$3" --version 2>&1 | sed -n 's/^Keepalived v\([0-9.]*\).*/\1/p')
if [ "$(printf '%s\n' 2.2.8 "$version" | sort --version-sort | head -n 1)" = 2.2.8 ]; then
    exec "$3" --config-test --use-file "$1"
fi
# Older ones kill themselves while they test a file whose scripts run as another
# user than root, so they are shown a copy with root.
# Named so that what is left of a killed one is discarded by rabbit_configuration.stage.
copy=$(mktemp -d --tmpdir "rabbit_ha.$$.XXXXXX")
trap 'rm -rf "$copy"' EXIT
cp --parents "$1" "$copy"
[ ! -d "$2" ] || cp --recursive --parents "$2" "$copy"
find "$copy" -type f -exec sed -i 's/^\([[:space:]]*\(script_user\|user\)\) .*/\1 root/' {} +
"$3" --config-test --use-file "$copy$1"
