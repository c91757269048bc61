#!/usr/bin/env bash
# Tests what tests/run.sh counts: no run passes by running nothing, and no failure of ctest itself is lost.
set -uo pipefail
unset CTEST_PARALLEL_LEVEL

tests=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong=0

# expect COUNTS WHAT: the counts "passed failed skipped" after a stage of the tests given on standard input.
expect() {
  local counts
  cat >"$work/CTestTestfile.cmake"
  counts=$(
    source "$tests/stages.sh"
    "${stage_under_test[@]}" >"$work/log" 2>&1
    echo "$passed $failed $skipped"
    summary >"$work/summary"
  )
  # The closing line and the exit status follow from the counts.
  local status=$? passed failed skipped closing
  read -r passed failed skipped <<<"$counts"
  closing="$passed passed, $failed failed"
  ((skipped == 0)) || closing+=", $skipped skipped"
  if [[ $counts != "$1" || $(tail -n 1 "$work/summary") != "$closing" ]] ||
    ((status != (failed > 0 || passed == 0))); then
    echo "$2: expected $1, found $counts, status $status, closing line '$(tail -n 1 "$work/summary")'"
    cat "$work/log"
    wrong=1
  fi
}

stage_under_test=(run_ctest stage "$work" -j 2)
expect "1 0 0" "a test that passes" <<<'add_test(a true)'
expect "1 1 0" "a test that fails" <<<'
  add_test(a true)
  add_test(b false)'
expect "0 1 0" "no tests" <<<''
expect "1 0 2" "tests that are skipped" <<<'
  add_test(a true)
  add_test(b sh -c "exit 77")
  set_tests_properties(b PROPERTIES SKIP_RETURN_CODE 77)
  add_test(c true)
  set_tests_properties(c PROPERTIES DISABLED ON)'
expect "1 3 0" "a program that is missing, one that crashes, one that hangs" <<<'
  add_test(a true)
  add_test(b /nonexistent/program)
  add_test(c sh -c "kill -SEGV $$")
  add_test(d sleep 60)
  set_tests_properties(d PROPERTIES TIMEOUT 0.1)'
expect "1 2 0" "a test that is not run because what it needs failed" <<<'
  add_test(a true)
  add_test(b false)
  set_tests_properties(b PROPERTIES FIXTURES_SETUP folder)
  add_test(c true)
  set_tests_properties(c PROPERTIES FIXTURES_REQUIRED folder)'
expect "0 1 0" "a build that ctest cannot read" <<<'add_test('

stage_under_test=(run_ctest stage "$work/missing" -j 2)
expect "0 1 0" "a build folder that is not there" <<<''
stage_under_test=(run_ctest stage "$work" -L unit)
expect "0 1 0" "no test with the label" <<<'add_test(a true)'
expect "1 0 0" "one of two tests with the label" <<<'
  add_test(a true)
  add_test(b true)
  set_tests_properties(b PROPERTIES LABELS unit)'
stage_under_test=(run_ctest stage "$work" --stop-on-failure)
expect "0 2 0" "tests that ctest does not get to" <<<'
  add_test(a false)
  add_test(b true)'
stage_under_test=(stage build false)
expect "0 1 0" "a command that fails" <<<''
stage_under_test=(stage build true)
expect "0 0 0" "a command that succeeds, which is no test" <<<''

# Background stages are counted as well, and only once.
with_background() {
  stage first false
  beside background_stages
  run_ctest stage "$work"
  join
}
mkdir "$work/other"
echo 'add_test(b true)' >"$work/other/CTestTestfile.cmake"
background_stages() {
  stage second false
  run_ctest stage "$work/other"
}
stage_under_test=(with_background)
expect "2 2 0" "stages in the background" <<<'add_test(a true)'
background_stages() { kill -KILL "$BASHPID"; }
expect "1 2 0" "stages in the background that are killed" <<<'add_test(a true)'
exit "$wrong"
