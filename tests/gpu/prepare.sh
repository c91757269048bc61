# Sourced by scripts that run programs for a GPU: reads the options --build DIR and --out DIR and FLAGS, and
# builds.
#
#   source prepare.sh TARGET OUT FLAGS "$@"
#
# TARGET is what to build, OUT the default of --out within out/, FLAGS the program's own options, as '--quick --other'. Leaves
# the folders build and out, and flags, which holds the given ones.

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

project=$(realpath "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../..")
target=$1 out=$project/out/$2 known_flags=" $3 " build='' flags=()
shift 3
while (($#)); do
  case $1 in
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
      exit 0
      ;;
    --build | --out)
      [[ -n ${2:-} ]] || fail "$1 needs a folder; see --help."
      declare "${1#--}=$(realpath -m "$2")"
      shift
      ;;
    --*)
      [[ $known_flags == *" $1 "* ]] || fail "unknown option '$1'; see --help."
      flags+=("$1")
      ;;
    *) fail "unknown option '$1'; see --help." ;;
  esac
  shift
done
[[ ! -e $out || -d $out ]] || fail "$out is a file; --out needs a folder."

if [[ -z $build ]]; then
  build=$project/build/gpu
  compute_cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sed -n '1s/\.//p') || true
  [[ -n $compute_cap ]] ||
    fail "there is no NVIDIA GPU that nvidia-smi can see; look at the driver, or use a machine with a GPU."
  if command -v apt-get >/dev/null; then "$project/examples/install_dependencies.sh" build test; fi
  mkdir -p "$project/build"
  # Built without a BLAS, so that the programs start on machines without one; nothing on the GPU needs it.
  cmake -S "$project" -B "$build" -G Ninja -D CMAKE_BUILD_TYPE=Release -D CMAKE_CUDA_ARCHITECTURES="$compute_cap" \
    -D LNFREE_CUDA=ON -D LNFREE_GPU_TESTS=ON -D LNFREE_BLAS=OFF -D LNFREE_BUILD_EXAMPLES=OFF >"$build.log" 2>&1 || {
    cat "$build.log" >&2
    fail "the build could not be configured; CMake's output is above."
  }
  cmake --build "$build" --target "$target" || fail "the build failed; the compiler's output is above."
fi
