#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that this project needs and that are missing.
#
#   examples/install_dependencies.sh GROUP...
#
#   build      compiler, CMake, ccache, and the libraries that lnfree uses
#   report     Python with matplotlib and markdown, for the report and its figures
#   test       Boost.Test and Boost.Context, clang with its sanitizers, pkg-config, Doxygen, Open MPI, and PyTorch as a
#              reference
#   mpi        Open MPI, for training with several processes
#   benchmark  Google Benchmark, and PyTorch for comparison
#
# Needs root or sudo, unless nothing is missing.
set -euo pipefail

declare -A groups=(
  [build]="g++ cmake ninja-build ccache libeigen3-dev libopenblas-openmp-dev libdnnl-dev nlohmann-json3-dev
           libcli11-dev libsentencepiece-dev libxxhash-dev libpcre2-dev libutf8proc-dev
           zlib1g-dev libzstd-dev"
  [report]="python3 python3-markdown python3-matplotlib python3-numpy"
  [test]="libboost-test-dev libboost-context-dev clang libclang-rt-dev libomp-dev pkg-config doxygen libopenmpi-dev
          openmpi-bin python3 python3-venv python3-numpy python3-torch"
  [mpi]="libopenmpi-dev openmpi-bin"
  [benchmark]="libbenchmark-dev python3 python3-numpy python3-torch"
)

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

(($#)) || set -- --help
wanted=()
for group; do
  case $group in
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
  esac
  [[ -n ${groups[$group]:-} ]] || fail "unknown group '$group'; the groups are build, report, test, mpi and benchmark."
  read -r -d '' -a packages <<<"${groups[$group]}" || true
  wanted+=("${packages[@]}")
done

{ command -v dpkg-query && command -v apt-get; } >/dev/null ||
  fail "this machine has no apt; install the equivalents of these Debian packages by hand: ${wanted[*]}"

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed || " ${missing[*]-} " == *" $package "* ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null ||
    fail "packages are missing, and installing them needs root or sudo; run as root: apt-get install ${missing[*]}"
  as_root=(sudo)
fi

echo "$program: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1
}
# Stale package lists matter only if the installation then fails.
apt_get update || echo "$program: warning: the package lists could not be refreshed" >&2
apt_get install --no-install-recommends "${missing[@]}" || {
  tail -n 15 "$log" >&2
  fail "apt-get could not install ${missing[*]}; its last lines are above."
}
