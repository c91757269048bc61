#!/bin/sh
# log_stderr.sh LOG COMMAND...: runs a command with its stderr in LOG, and shows that if it fails.
log=$1
shift
"$@" 2>"$log" && exit
status=$?
cat "$log" >&2
exit $status
