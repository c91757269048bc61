# The parts of tests/run.sh: named stages, and the counts of the tests they ran. Sourced.

passed=0 failed=0 skipped=0

# stage NAME COMMAND...: a command that is counted only if it fails.
stage() {
  local name=$1
  shift
  echo "== $name (at ${SECONDS} s)"
  "$@" && return
  fail_stage "$name" "$*"
}

fail_stage() {
  echo "== $1: failed: $2"
  failed=$((failed + 1))
  return 1
}

# run_ctest NAME BUILD_DIR ARGUMENT...: runs the tests that BUILD_DIR registers and that the arguments select, and
# counts each. Fails as a stage if ctest runs none or not all of them, or fails although no test did.
run_ctest() {
  local name=$1 build=$2 report=$2/ctest.xml registered ran ran_well skips failures status=0
  shift 2
  rm -f "$report"
  registered=$(ctest --test-dir "$build" --show-only "$@" 2>/dev/null | sed -n 's/^Total Tests: //p')
  echo "== $name: ${registered:=0} tests (at ${SECONDS} s)"
  ctest --test-dir "$build" --output-on-failure --no-tests=error --output-junit "$(realpath "$build")/ctest.xml" "$@" ||
    status=$?
  count() { grep -c "$1" "$report" 2>/dev/null; }
  ran=$(count '<testcase ')
  ran_well=$(count '<testcase .* status="run"')
  # A test without its program was not run either, but not intentionally skipped.
  skips=$(count '<skipped message="SKIP_\|<testcase .* status="disabled"')
  failures=$((ran - ran_well - skips))
  passed=$((passed + ran_well)) failed=$((failed + failures)) skipped=$((skipped + skips))

  if ((ran == 0)); then
    fail_stage "$name" "no test ran"
  elif ((ran != registered)); then
    fail_stage "$name" "$ran of $registered tests ran"
  elif ((status != 0 && failures == 0)); then
    fail_stage "$name" "ctest ended with status $status although no test failed"
  fi
}

# beside FUNCTION: runs stages in the background, with a lower priority, until join.
beside() {
  output=$(mktemp -d)
  trap 'kill -- "-$background" 2>/dev/null; rm -rf "$output"' EXIT
  set -m # a process group of its own, so that all of it can be ended
  {
    renice -n 10 "$BASHPID" >/dev/null
    passed=0 failed=0 skipped=0
    "$1"
    echo "$passed $failed $skipped" >"$output/counts"
  } </dev/null >"$output/log" 2>&1 &
  background=$!
  set +m
}

# Shows the output of background stages until they are done, and adds their counts.
join() {
  tail -n +1 -f --pid="$background" "$output/log"
  local counts
  if read -r -a counts 2>/dev/null <"$output/counts"; then
    passed=$((passed + counts[0])) failed=$((failed + counts[1])) skipped=$((skipped + counts[2]))
  else
    fail_stage "stages in the background" "they were ended from outside"
  fi
}

# The closing lines; fails if anything failed or nothing passed.
summary() {
  echo "== summary: ${SECONDS} s"
  if ((skipped)); then
    echo "$passed passed, $failed failed, $skipped skipped"
  else
    echo "$passed passed, $failed failed"
  fi
  ((failed == 0 && passed > 0))
}
