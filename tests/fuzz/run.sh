#!/usr/bin/env bash
# Fuzzes the readers of files with libFuzzer, each for some seconds: tests/fuzz/run.sh SECONDS [PROGRAM]
#
# PROGRAM is fuzz_readers; without it, the preset `sanitize` builds one. Inputs that break a reader, or that
# reach new code, are kept in build/fuzz. Starts from the inputs in tests/fuzz/corpus. With 0 seconds, each reader
# gets the same 10,000 inputs every time.
set -euo pipefail

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
if [[ ! ${1:-} =~ ^[0-9]+$ ]]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
  [[ ${1:-} == -h || ${1:-} == --help ]]
  exit
fi
seconds=$1 program=${2:-}
root=$here/../..
if [[ -z $program ]]; then
  cd "$root"
  CXX=clang++ cmake --preset sanitize >/dev/null
  cmake --build build/sanitize --target fuzz_readers
  program=build/sanitize/bin/fuzz_readers
fi
program=$(realpath "$program")
mkdir -p "$root/build/fuzz"
cd "$root/build/fuzz"
known=.
budget=(-max_total_time="$seconds")
if ((seconds == 0)); then
  known=$(mktemp -d)
  trap 'rm -rf "$known"' EXIT
  budget=(-runs=10000 -seed=1)
fi

export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1
export LSAN_OPTIONS=suppressions=$here/../leaks.supp:print_suppressions=0
status=0
for corpus in "$here"/corpus/*/; do
  reader=$(basename "$corpus")
  mkdir -p "$known/$reader"
  # The limit for an input is in seconds of the clock, also if others use the machine.
  arguments=("${budget[@]}" -timeout=300 -rss_limit_mb=2048 -max_len=20000 -print_final_stats=1 -artifact_prefix="$reader-")
  if "$program" "$reader" "${arguments[@]}" "$known/$reader" "$corpus" >"$reader.log" 2>&1; then
    echo "$reader: $(sed -n 's/stat::number_of_executed_units: *//p' "$reader.log") inputs"
  else
    tail -n 40 "$reader.log"
    echo "FAILED: $reader; its input is in $PWD" >&2
    status=1
  fi
done
exit $status
