#!/usr/bin/env bash
# Builds lnfree and runs all its tests: with g++ for this machine, and the unit tests once more with clang++ under
# AddressSanitizer and UndefinedBehaviorSanitizer. Ends with the line "N passed, N failed".
#
# Installs what is missing (apt; sudo when not root). Takes 25 to 40 minutes on two cores, and a few minutes where
# ccache knows the sources. An existing build folder is used, whatever it was configured for. LNFREE_WERROR=ON
# in the environment makes every warning an error in a new build folder.
set -uo pipefail

tests=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
case ${1:-} in
  '') ;;
  -h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *)
    echo "${0##*/}: unknown option '$1'; the only one is --help." >&2
    exit 2
    ;;
esac
cd "$tests/.." || exit
source tests/stages.sh

jobs=$(nproc)
echo "${0##*/}: 25 to 40 minutes on two cores, less where ccache knows the sources: installs what is missing," \
  "builds and tests with g++, builds and tests with clang++ under sanitizers"

# configure PRESET COMPILER OPTION...: a build folder for the tests. The compiler is set by CXX, which matters
# only for a new folder: changing the compiler of a folder would make CMake discard its other settings,
# including the preset's.
configure() {
  CXX=$2 cmake --preset "$1" -D LNFREE_BUILD_TESTS=ON -D LNFREE_BUILD_BENCHMARKS=OFF -D LNFREE_GPU_TESTS=OFF "${@:3}"
}

with_gcc() {
  stage "configure, g++" configure release g++ -D LNFREE_BUILD_EXAMPLES=ON -D LNFREE_INSTALL=ON &&
    stage "build, g++" cmake --build build/release -j "$jobs" &&
    run_ctest "tests, g++" build/release -j "$jobs"
}

# Without -march=native, so that the narrower vectors are tested too.
with_clang() {
  export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
  # AddressSanitizer before clang 18 crashes at random where the kernel places memory with more than 28 random bits.
  if (($(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28) > 28)) && setarch -R true 2>/dev/null; then
    ctest() { setarch -R ctest "$@"; }
  fi
  stage "configure, clang++ with sanitizers" configure sanitize clang++ &&
    stage "build, clang++ with sanitizers" cmake --build build/sanitize -j "$jobs" --target unit_tests &&
    run_ctest "tests, clang++ with sanitizers" build/sanitize -j "$jobs" -L unit
}

if stage "dependencies" examples/install_dependencies.sh build report test; then
  stage "formatting" tests/check_format.sh
  # The second build uses cores that the first leaves idle; its output is shown after the first.
  beside with_clang
  with_gcc
  join
fi
summary
