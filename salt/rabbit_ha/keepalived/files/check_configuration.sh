#!/bin/sh
# Written by Salt. Lets keepalived judge a configuration before it is used:
#   check_configuration.sh FILE FOLDER_THAT_IT_INCLUDES PROGRAM
# keepalived 2.2.7 kills itself while it tests a file whose scripts run as
# another user than root (fixed in 2.2.8), so it is shown a copy with root,
# whose scripts it judges more strictly still.
set -eu
umask 077
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp --parents "$1" "$copy"
[ ! -d "$2" ] || cp --recursive --parents "$2" "$copy"
find "$copy" -type f -exec sed -i 's/^\([[:space:]]*\(script_user\|user\)\) .*/\1 root/' {} +
"$3" --config-test --use-file "$copy$1"
