#!/bin/sh
# Written by Salt. Lets keepalived judge a configuration file before it is used:
#   check_configuration.sh FILE
# keepalived 2.2.7 kills itself while it tests a file whose scripts run as
# another user than root (fixed in 2.2.8), so it is shown a copy with root,
# whose scripts it judges more strictly still.
set -eu
umask 077
copy=$(mktemp)
trap 'rm -f "$copy"' EXIT
sed 's/^\( *script_user\) .*/\1 root/' "$1" >"$copy"
keepalived --config-test --use-file "$copy"
