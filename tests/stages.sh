# What tests/run.sh is made of: named stages, and the counts of what they ran. Sourced.

passed=0 failed=0 skipped=0

# stage NAME COMMAND...: a command that counts only when it fails.
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
# counts each. Fails as a stage where ctest runs none or not all of them, or where it fails and no test did.
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
  # A test without its program was not run either, but nobody decided to skip it.
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

# The closing lines; fails where anything failed or nothing passed.
summary() {
  echo "== summary: ${SECONDS} s"
  if ((skipped)); then
    echo "$passed passed, $failed failed, $skipped skipped"
  else
    echo "$passed passed, $failed failed"
  fi
  ((failed == 0 && passed > 0))
}
