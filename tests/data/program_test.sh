# Shared by the tests of programs; sourced after `program` is set. Changes to an empty folder that is removed
# at the end.
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"

fail() {
  echo "FAILED: $*" | cut -c -300 >&2
  exit 1
}

# expect_error <words> <arguments>...: exit status 1, and one sentence on stderr that contains the words;
# other output is in the file stdout.
expect_error() {
  local words=$1 status=0 start=${program##*/}": "
  shift
  "$program" "$@" >stdout 2>stderr || status=$?
  [[ $status == 1 ]] || fail "$*: exit status $status instead of 1"
  grep -qF -- "$words" stderr || fail "$*: expected '$words', got: $(cat stderr)"
  [[ $(wc -l <stderr) == 1 && $(cat stderr) == "$start"* ]] || fail "$*: expected a single sentence, got: $(cat stderr)"
}
