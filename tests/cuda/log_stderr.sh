#!/bin/sh
# log_stderr.sh LOG COMMAND...: runs a command, what it says on stderr kept in LOG, and shown if it fails.
log=$1
shift
"$@" 2>"$log" && exit
status=$?
cat "$log" >&2
exit $status
