#!/usr/bin/env bash
# Trains the paper's four configurations at GPT-2's size on this machine's NVIDIA GPU, 100 million tokens each, and writes the
# report: examples/reproduce.sh --scale gpt2_100m --device cuda, for machines that are available only for
# minutes and have no network.
#
#   tests/gpu/paper.sh [--minutes M] [--seed N] [--build DIR] [--sources FILE] [--tokenizer FILE] [--out DIR]
#
#   --minutes M       stop after so many minutes, everything saved; the same command continues (default: no
#   limit)
#   --seed N          as in reproduce.sh (default 0)
#   --build DIR       use the programs in DIR/bin instead of building them; nothing is installed then
#   --sources FILE    unpack the corpus from this tar archive instead of fetching it: a folder made by
#                     examples/fetch_corpus.sh --set scientific, as `tar -cJf FILE -C FOLDER .` packs it
#   --tokenizer FILE  use this tokenizer instead of training one on the corpus, which takes minutes
#   --out DIR         where everything goes (default out/gpt2_100m)
set -euo pipefail

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

project=$(realpath "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../..")
minutes='' seed=0 build='' sources='' tokenizer='' out=$project/out/gpt2_100m
while (($#)); do
  case $1 in
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --minutes | --seed | --build | --sources | --tokenizer | --out)
      [[ -n ${2:-} ]] || fail "$1 needs a value; see --help."
      declare "${1#--}=$2"
      shift 2
      ;;
    *) fail "unknown option '$1'; see --help." ;;
  esac
done
[[ -z $minutes || $minutes =~ ^[0-9]+([.][0-9]+)?$ ]] || fail "--minutes '$minutes' is not a number of minutes."
[[ -z $sources || -r $sources ]] || fail "$sources cannot be read; --sources needs a tar archive."
[[ -z $build || -x $build/bin/prepare_corpus ]] || fail "$build/bin has no prepare_corpus; build the programs there first."

corpus=$project/out/corpus/sources-scientific
if [[ -n $sources && ! -e $corpus/sources.json ]]; then
  mkdir -p "$(dirname "$corpus")"
  staging=$(mktemp -d "$corpus.XXXXXX")
  trap 'rm -rf "$staging"' EXIT
  tar -xf "$sources" -C "$staging"
  [[ -f $staging/sources.json ]] || fail "$sources holds no sources.json, so fetch_corpus.sh did not write what is in it."
  mv -T "$staging" "$corpus"
fi

job=(--scale gpt2_100m --device cuda --seed "$seed" --out "$(realpath -m "$out")")
[[ -z $tokenizer ]] || job+=(--tokenizer "$(realpath "$tokenizer")")
if [[ -n $build ]]; then
  # The interpreter that has the packages for the report.
  python=python3
  "$python" -c 'import markdown, matplotlib' 2>/dev/null || python=/usr/bin/python3
  job=("$python" -B "$project/examples/reproduce" "${job[@]}" --programs "$(realpath "$build")/bin")
else
  job=("$project/examples/reproduce.sh" "${job[@]}")
fi
[[ -z $minutes ]] || job=(timeout --signal=TERM --kill-after=90 "${minutes}m" "${job[@]}")
exec "${job[@]}"
