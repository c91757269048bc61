#!/usr/bin/env bash
# Checks that every C++ and CUDA source is formatted by .clang-format, with the release of clang-format that
# CI uses. --fix formats them. The first run installs that release from PyPI into build/format.
set -euo pipefail

cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/.."
release=20.1.8
case ${1:-} in
  '') mode=(--dry-run -Werror) ;;
  --fix) mode=(-i) ;;
  *)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    [[ $1 == -h || $1 == --help ]]
    exit
    ;;
esac

formatter=build/format/bin/clang-format
if [[ $("$formatter" --version 2>/dev/null) != *" $release"* ]]; then
  rm -rf build/format
  python3 -m venv build/format
  build/format/bin/pip install --quiet --disable-pip-version-check --retries 10 "clang-format==$release"
fi
# The sources in options/ must be refused by a compiler, and spaces matter in them.
git ls-files -z '*.hpp' '*.cpp' '*.cu' ':!tests/compile_fail/options' | xargs -0 "$formatter" "${mode[@]}"
