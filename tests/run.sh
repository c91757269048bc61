#!/usr/bin/env bash
# Builds lnfree and runs all its tests: with g++ for this machine, and with clang++ under AddressSanitizer and
# UndefinedBehaviorSanitizer; every warning is an error. Ends with the line "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."

passed=0 failed=0
jobs=$(nproc)

# stage NAME COMMAND...: a command that counts only when it fails.
stage() {
  local name=$1
  shift
  echo "== $name"
  "$@" && return
  echo "== $name: failed: $*"
  failed=$((failed + 1))
  return 1
}

# run_ctest NAME BUILD_DIR ARGUMENT...: counts every test that ctest runs.
run_ctest() {
  local name=$1 build=$2 report total failures
  shift 2
  echo "== $name"
  report=$(pwd)/$build/ctest.xml
  rm -f "$report"
  ctest --test-dir "$build" --output-on-failure --no-tests=error --output-junit "$report" "$@"
  total=$(sed -n 's/.*tests="\([0-9]*\)".*/\1/p;T;q' "$report" 2>/dev/null)
  failures=$(grep -c '<failure' "$report" 2>/dev/null)
  if [[ -z $total ]]; then
    echo "== $name: ctest ran nothing"
    failed=$((failed + 1))
    return
  fi
  failed=$((failed + failures))
  passed=$((passed + total - failures))
}

summary() {
  echo "== summary: ${SECONDS} s"
  echo "$passed passed, $failed failed"
  exit $((failed > 0))
}

stage "dependencies" examples/install_dependencies.sh build report test || summary

# By CXX, which counts for a new folder only: to name another compiler than a folder has makes CMake forget
# the rest of its choices, the preset's too.
stage "configure, g++" env CXX=g++ cmake --preset release -D LNFREE_WERROR=ON &&
  stage "build, g++" cmake --build build/release -j "$jobs" &&
  run_ctest "tests, g++" build/release -j "$jobs"

# Without -march=native, so that the narrower vectors are tested too.
export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
stage "configure, clang++ with sanitizers" env CXX=clang++ cmake --preset sanitize -D LNFREE_WERROR=ON &&
  stage "build, clang++ with sanitizers" cmake --build build/sanitize -j "$jobs" --target unit_tests &&
  run_ctest "tests, clang++ with sanitizers" build/sanitize -j "$jobs" -L unit

summary
