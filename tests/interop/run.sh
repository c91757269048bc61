#!/usr/bin/env bash
# Checks exported models in current releases of transformers, lm-evaluation-harness and TransformerLens from
# PyPI, which need a PyTorch newer than Debian's: 6 GB and some minutes for the first run. Not part of
# tests/run.sh.
#
#   tests/interop/run.sh [BUILD_FOLDER]
#
# BUILD_FOLDER (default build/release) must be configured; the environment goes to BUILD_FOLDER/interop.
set -euo pipefail

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
  exit 0
fi
build=${1:-$here/../../build/release}
[[ -e $build/CMakeCache.txt ]] || {
  echo "${0##*/}: there is no configured build folder $build; run cmake --preset release first" >&2
  exit 1
}
build=$(realpath "$build")
environment=$build/interop

cmake --build "$build" --target convert interop_models parity_dump
if [[ ! -e $environment/installed ]]; then
  rm -rf "$environment"
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check torch transformers lm-eval "transformer_lens<4"
  touch "$environment/installed"
fi
"$environment/bin/python" - <<'END'
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in ("torch", "transformers", "lm-eval", "transformer-lens")), sep=", ")
END

programs=("$build/bin/convert" "$build/bin/interop_models")
status=0
"$environment/bin/python" -B "$here/test_transformers.py" "${programs[@]}" || status=1
"$environment/bin/python" -B "$here/check_tools.py" "${programs[@]}" "$build/bin/parity_dump" || status=1
exit "$status"
