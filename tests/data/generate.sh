#!/usr/bin/env bash
# The program as a user meets it: tests/data/generate.sh <paths of generate, prepare_corpus, train_demo_sm_r>
set -euo pipefail

program=$1 prepare_corpus=$2 trainer=$3
source "${BASH_SOURCE%/*}/program_test.sh"

# refuse <words> <arguments>...: an error, and no text.
refuse() {
  expect_error "$@"
  [[ ! -s stdout ]] || fail "$*: wrote $(cat stdout)"
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
"$program" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 >text
[[ $(head -c 9 text) == "def relu(" && $(wc -c <text) -gt 100 ]] || fail "no text after the prompt: $(cat text)"
"$program" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 | cmp - text || fail "the same seed gives another text"
"$program" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 --seed 1 | cmp -s - text && fail "another seed, the same text"
[[ $("$program" "${arguments[@]}" --tokens 0) == "def relu(" ]] || fail "--tokens 0 is not the prompt"

# A text that does not arrive is no success, and nothing else receives it.
for stdout in full broken closed; do
  status=0
  case $stdout in
    full) "$program" "${arguments[@]}" --tokens 5 >/dev/full 2>stderr || status=$? ;;
    broken)
      exec 3> >(:)
      wait $!
      "$program" "${arguments[@]}" --tokens 5 >&3 2>stderr || status=$?
      ;;
    closed) "$program" "${arguments[@]}" --tokens 5 >&- 2>stderr || status=$? ;;
  esac
  [[ $status == 1 && $(wc -l <stderr) == 1 ]] || fail "stdout $stdout: status $status, $(cat stderr)"
  grep -q "could not be written to standard output" stderr || fail "stdout $stdout: $(cat stderr)"
done
status=0
"$trainer" --plan-only >/dev/full 2>stderr || status=$?
[[ $status == 1 && $(wc -l <stderr) == 1 ]] || fail "--plan-only on a full disk: status $status, $(cat stderr)"
"$trainer" --plan-only --json plan.json >/dev/full && [[ -s plan.json ]] || fail "--plan-only --json on a full disk"
"$trainer" --steps 0 --out closed <&- >&- 2>&- || fail "a trainer without standard streams: status $?"
for file in model.safetensors config.json; do
  cmp run/checkpoint/$file closed/checkpoint/$file || fail "a trainer's words are in its $file"
done

refuse "has 4097 tokens, more than the model's 4096" "${arguments[@]::2}" --tokenizer large/tokenizer.model --prompt x
"$prepare_corpus" --input sources --vocab-size 390 --held-out 0 --tokenizer-sample-bytes 1000000 --out second >/dev/null
"$trainer" --steps 1 --batch-size 1 --train small/train.bin --out trained >/dev/null
"$program" --checkpoint trained/checkpoint --tokenizer small/tokenizer.model --prompt x --tokens 1 >/dev/null || fail "its own tokenizer"
refuse "is not the tokenizer of small/train.bin" --checkpoint trained/checkpoint --tokenizer second/tokenizer.model --prompt x
refuse "--prompt is empty" "${arguments[@]::4}" --prompt ""
refuse "--foo is no option" --foo
refuse "--checkpoint is required" --prompt x
refuse "-1 is not a whole number of 0 or more" "${arguments[@]}" --top-k -1
refuse "cannot read nowhere/config.json" --checkpoint nowhere "${arguments[@]:2}"
cp -r run/checkpoint earlier  # norm-free models called themselves gpt2
sed -i 's/"model_type": "lnfree"/"model_type": "gpt2"/' earlier/config.json
"$program" --checkpoint earlier "${arguments[@]:2}" --tokens 100 --temperature 1 --top-k 0 | cmp - text || fail "an earlier checkpoint"
cp -r run/checkpoint other
sed -i 's/"n_layer": 8/"n_layer": 9/' other/config.json
refuse "other/config.json describes none of the models" --checkpoint other "${arguments[@]:2}"
# A model of another objective has more tensors, whether config.json names the objective or not, as in earlier versions.
cp -r run/checkpoint guided
sed -i 's/"activation_function": "relu"/"activation_function": "gelu"/' guided/config.json
/usr/bin/python3 - guided/model.safetensors <<'END'
import json, struct, sys
content = open(sys.argv[1], "rb").read()
(size,) = struct.unpack("<Q", content[:8])
header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
header["entropy_threshold"] = {"dtype": "F32", "shape": [4], "data_offsets": [len(data), len(data) + 16]}
text = json.dumps(header).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data + struct.pack("<4f", 0.5, 0.5, 0.5, 0.5))
END
cp -r guided earlier_guided
sed -i 's/"layout": "pre_norm"/"objective": "entropy_penalty", &/' guided/config.json
sed -i '/"layout": "pre_norm"/d' earlier_guided/config.json
for checkpoint in guided earlier_guided; do
  "$program" --checkpoint $checkpoint "${arguments[@]:2}" --tokens 1 >/dev/null || fail "$checkpoint"
done
# Other shapes are known, too: a config.json of Pythia's asks for Pythia's tensors.
sed -e 's/"n_layer": 9/"n_layer": 8/; s/"n_ctx": 128/"n_ctx": 256/; s/"n_positions": 128/"n_positions": 256/' \
  -e 's/"biases": "query_key"/"biases": "all"/; s/"rotary_dims": 0/"rotary_dims": 4/' \
  -e 's/"tie_word_embeddings": true/"tie_word_embeddings": false/; s/"parallel_residual": false/"parallel_residual": true/; s/"layout": "pre_norm"/"layout": "parallel"/' \
  -i other/config.json
refuse "other/model.safetensors is of another architecture than this program: tensor h.0.attn.c_proj.bias is missing" \
  --checkpoint other "${arguments[@]:2}"
"$program" --help >help
grep -q "^Usage: generate " help || fail "--help: $(cat help)"

echo "generate: all checks passed"
