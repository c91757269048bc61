#!/usr/bin/env bash
# Runs a Python script with transformers, from an environment in FOLDER on top of the system's PyTorch. The
# first run creates it. Exits with 77 if PyTorch is not installed or the packages cannot be downloaded.
#
#   with_transformers.sh FOLDER SCRIPT [ARGUMENT...]
set -uo pipefail

# The last release that works with Debian 12's PyTorch, and its dependencies.
packages=(transformers==4.46.3 tokenizers==0.20.3)
folder=$1
shift
stamp=$folder/installed.$(IFS=,; echo "${packages[*]}")
[[ ! -e $stamp ]] || exec "$folder/bin/python" -B "$@"

/usr/bin/python3 -c 'import torch' 2>/dev/null || {
  echo "${0##*/}: skipped, since torch is not installed (Debian: apt install python3-torch)"
  exit 77
}
rm -rf "$folder"
log=$(mktemp)
{
  /usr/bin/python3 -m venv --system-site-packages "$folder" &&
    "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 10 --no-compile "${packages[@]}" &&
    touch "$stamp"
} >"$log" 2>&1 || {
  tail -n 5 "$log"
  echo "${0##*/}: skipped, since ${packages[*]} could not be installed from PyPI"
  exit 77
}
rm -f "$log"
exec "$folder/bin/python" -B "$@"
