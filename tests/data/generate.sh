#!/usr/bin/env bash
# The program as a user meets it: tests/data/generate.sh <paths of generate, prepare_corpus, train_demo_sm_r>
set -euo pipefail

generate=$1 prepare_corpus=$2 trainer=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# expect_error <words> <arguments>...: exit status 1, one sentence on stderr that holds the words, and no text.
expect_error() {
  local words=$1 status=0
  shift
  "$generate" "$@" >stdout 2>stderr || status=$?
  [[ $status == 1 ]] || fail "$*: exit status $status"
  [[ ! -s stdout ]] || fail "$*: wrote $(cat stdout)"
  grep -qF -- "$words" stderr || fail "$*: expected '$words', got: $(cat stderr)"
  [[ $(wc -l <stderr) == 1 && $(head -c 10 stderr) == "generate: " ]] || fail "$*: no single sentence: $(cat stderr)"
}

# prepare <out> <pieces>: a corpus of words drawn from 26 letters.
mkdir sources
for i in $(seq 40); do
  awk -v seed="$i" 'BEGIN { srand(seed); for (i = 0; i < 500; ++i) { word = ""; for (j = 0; j < 6; ++j)
    word = word sprintf("%c", 97 + int(26 * rand())); print "def " word "(self):" } }' >"sources/file_$i.py"
done
prepare() {
  "$prepare_corpus" --input sources --vocab-size "$2" --held-out 0 --tokenizer-sample-bytes 1000000 --out "$1" >/dev/null
}
prepare small 400
prepare large 4097
"$trainer" --steps 0 --out run >/dev/null
arguments=(--checkpoint run/checkpoint --tokenizer small/tokenizer.model --prompt "def relu(")

# A model says only what its tokenizer knows: without training, nine tokens in ten would lie beyond. One seed, one text.
"$generate" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 >text
[[ $(head -c 9 text) == "def relu(" && $(wc -c <text) -gt 100 ]] || fail "no text after the prompt: $(cat text)"
"$generate" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 | cmp - text || fail "the same seed gives another text"
"$generate" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 --seed 1 | cmp -s - text && fail "another seed, the same text"
[[ $("$generate" "${arguments[@]}" --tokens 0) == "def relu(" ]] || fail "--tokens 0 is not the prompt"

expect_error "has 4097 tokens, more than the model's 4096" "${arguments[@]::2}" --tokenizer large/tokenizer.model --prompt x
expect_error "--prompt is empty" "${arguments[@]::4}" --prompt ""
expect_error "--foo is no option" --foo
expect_error "--checkpoint is required" --prompt x
expect_error "-1 is not a whole number of 0 or more" "${arguments[@]}" --top-k -1
expect_error "cannot read nowhere/config.json" --checkpoint nowhere "${arguments[@]:2}"
cp -r run/checkpoint earlier  # norm-free models called themselves gpt2
sed -i 's/"model_type": "lnfree"/"model_type": "gpt2"/' earlier/config.json
"$generate" --checkpoint earlier "${arguments[@]:2}" --tokens 100 --temperature 1 --top-k 0 | cmp - text || fail "an earlier checkpoint"
cp -r run/checkpoint other
sed -i 's/"n_layer": 8/"n_layer": 9/' other/config.json
expect_error "other/config.json describes none of the models" --checkpoint other "${arguments[@]:2}"
"$generate" --help >help
grep -q "^Usage: generate " help || fail "--help: $(cat help)"

echo "generate: all checks passed"
