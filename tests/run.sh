#!/usr/bin/env bash
# Builds lnfree and runs all its tests: with g++, with clang++, and under AddressSanitizer and
# UndefinedBehaviorSanitizer, every warning an error. Ends with the line "N passed, N failed".
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
stage "configure, clang++" cmake -S . -B build/clang -G Ninja -D CMAKE_CXX_COMPILER=clang++ \
  -D CMAKE_BUILD_TYPE=Release -D CMAKE_CXX_FLAGS_RELEASE=-O1 -D LNFREE_WERROR=ON -D LNFREE_BUILD_EXAMPLES=OFF &&
  stage "build, clang++" cmake --build build/clang -j "$jobs" --target unit_tests &&
  run_ctest "tests, clang++" build/clang -j "$jobs" -L unit

export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
stage "configure, sanitizers" env CXX=g++ cmake --preset sanitize -D LNFREE_WERROR=ON &&
  stage "build, sanitizers" cmake --build build/sanitize -j "$jobs" --target unit_tests &&
  run_ctest "tests, sanitizers" build/sanitize -j "$jobs" -L unit

summary
