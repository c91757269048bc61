#!/usr/bin/env bash
# The program as a user meets it: tests/data/generate.sh <paths of generate, prepare_corpus, train_demo_sm_r>
set -euo pipefail

program=$1 prepare_corpus=$2 trainer=$3
source "${BASH_SOURCE%/*}/program_test.sh"

# refuse <words> <arguments>...: expects an error and no text.
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

# A model generates only tokens of its tokenizer: without training, nine in ten would be beyond. The same seed
# gives the same text.
"$program" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 >text
[[ $(head -c 9 text) == "def relu(" && $(wc -c <text) -gt 100 ]] || fail "no text after the prompt: $(cat text)"
"$program" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 | cmp - text || fail "the same seed gives another text"
"$program" "${arguments[@]}" --tokens 100 --temperature 1 --top-k 0 --seed 1 >other_seed
! cmp -s other_seed text || fail "another seed gives the same text"
[[ $("$program" "${arguments[@]}" --tokens 0) == "def relu(" ]] || fail "--tokens 0 does not give back the prompt"

# Text that cannot be written is an error, and goes nowhere else.
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
"$trainer" --plan-only --json plan.json >/dev/full && [[ -s plan.json ]] || fail "--plan-only --json does not write its file when standard output is full"
"$trainer" --steps 0 --out closed <&- >&- 2>&- || fail "a trainer without standard streams ended with status $?"
for file in model.safetensors config.json; do
  cmp run/checkpoint/$file closed/checkpoint/$file || fail "what a trainer prints is in its $file"
done

refuse "has 4097 tokens, more than the model's 4096" "${arguments[@]::2}" --tokenizer large/tokenizer.model --prompt x
"$prepare_corpus" --input sources --vocab-size 390 --held-out 0 --tokenizer-sample-bytes 1000000 --out second >/dev/null
"$trainer" --steps 1 --batch-size 1 --train small/train.bin --out trained >/dev/null
"$program" --checkpoint trained/checkpoint --tokenizer small/tokenizer.model --prompt x --tokens 1 >/dev/null || fail "the tokenizer that the model was trained with is refused"
refuse "is not the tokenizer of small/train.bin" --checkpoint trained/checkpoint --tokenizer second/tokenizer.model --prompt x
refuse "--prompt is empty" "${arguments[@]::4}" --prompt ""
refuse "--foo is not an option" --foo
refuse "--checkpoint is required" --prompt x
refuse "-1 is not a whole number of 0 or more" "${arguments[@]}" --top-k -1
refuse "one of --prompt, --prompts and --interactive is required" "${arguments[@]::4}"
refuse "--prompts cannot be used with --prompt" "${arguments[@]}" --prompts file
refuse "top-p must be more than 0" "${arguments[@]}" --top-p 0
refuse "1.5 is not a number from 0 to 1" "${arguments[@]}" --min-p 1.5
refuse "float16 is neither float32 nor bfloat16" "${arguments[@]}" --dtype float16
refuse "has no tokenizer.json or tokenizer.model" "${arguments[@]::2}" --prompt x
refuse "128 positions, too few for a context of 129" "${arguments[@]}" --context 129
refuse "cannot read nowhere/config.json" --checkpoint nowhere "${arguments[@]:2}"
refuse "cannot read nowhere/config.json" --checkpoint nowhere --prompt x
for tokenizer in "" "--tokenizer=small/tokenizer.model"; do
  refuse "model.safetensors is a file; give the folder of a model, $PWD/run/checkpoint" \
    --checkpoint run/checkpoint/model.safetensors ${tokenizer:+"$tokenizer"} --prompt x
  refuse "run is the folder of a run; give its checkpoint, run/checkpoint" --checkpoint run ${tokenizer:+"$tokenizer"} --prompt x
done
# Links that lead nowhere or in a circle, names that are too long, and what is not a file.
ln -s loop loop
ln -s missing dangling
mkfifo fifo
for bad in loop loop/below "$(printf 'x%.0s' {1..300})"; do
  for option in --checkpoint --tokenizer --prompts; do
    given=(--checkpoint run/checkpoint --tokenizer small/tokenizer.model --prompts prompts)
    for ((i = 0; i < 6; i += 2)); do [[ ${given[i]} != "$option" ]] || given[i + 1]=$bad; done
    refuse "${bad:0:100}" "${given[@]}"
    grep -Eq "Too many levels of symbolic links|File name too long" stderr || fail "$option $bad: $(cat stderr)"
  done
done
refuse "cannot read dangling: No such file or directory, it is a link to missing" "${arguments[@]::2}" --tokenizer dangling --prompt x
refuse "cannot read fifo: it is not a file" "${arguments[@]::2}" --tokenizer fifo --prompt x
refuse "cannot read dangling: No such file" "${arguments[@]::4}" --prompts dangling
cp -r run/checkpoint earlier  # when norm-free models were labeled gpt2
sed -i 's/"model_type": "lnfree"/"model_type": "gpt2"/' earlier/config.json
"$program" --checkpoint earlier "${arguments[@]:2}" --tokens 100 --temperature 1 --top-k 0 | cmp - text || fail "a checkpoint of an earlier version gives another text"
cp -r run/checkpoint other
sed -i 's/"n_layer": 8/"n_layer": 9/' other/config.json
refuse "tensor h.8.attn.c_attn.weight is missing" --checkpoint other "${arguments[@]:2}"
sed -i 's/"activation_function": "relu"/"activation_function": "mish"/' other/config.json
refuse "other/config.json: this program knows no activation mish; it knows gelu, " --checkpoint other "${arguments[@]:2}"
sed -i 's/"activation_function": "mish"/"activation_function": "relu"/; s/"vocab_size": 4096/"vocab_size": 200000000/' other/config.json
refuse "the files do not belong together" --checkpoint other "${arguments[@]:2}"
sed -i 's/"vocab_size": 200000000/"vocab_size": 4096/' other/config.json

# A whole text from standard input, several texts, and interactive input.
printf 'def relu(' | "$program" "${arguments[@]::4}" --prompt - --tokens 100 --temperature 1 --top-k 0 | cmp - text ||
  fail "the prompt from standard input gives another text"
printf '%s\n' 'def relu(' '{"prompt": "def relu("}' '"def relu("' >prompts
"$program" "${arguments[@]::4}" --prompts prompts --tokens 20 --temperature 0 >answers
"$program" "${arguments[@]::4}" --prompt "def relu(" --tokens 20 --temperature 0 >greedy
/usr/bin/python3 - <<'END' || fail "wrong answers to the prompts: $(cat answers)"
import json
answers = [json.loads(line) for line in open("answers")]
greedy = open("greedy", errors="replace").read().removesuffix("\n")
assert len(answers) == 3
for answer in answers:
    assert answer["prompt"] + answer["text"] == greedy and answer["tokens"] == 20, answer
END
# Prompts that advance together, of which some end early, give what each gives alone, in their order; a line that is
# wrong ends the program when those before it are answered.
for i in $(seq 20); do echo "def number_$i(self, $(printf 'x%.0s' $(seq $((i % 7 * 5))))"; done >prompts
together=("${arguments[@]::4}" --tokens 24 --temperature 1.2 --seed 5 --stop "0" --context 20)
"$program" "${together[@]}" --prompts prompts --batch-size 1 >one_by_one 2>/dev/null
[[ $(wc -l <one_by_one) == 20 && $(grep -c '"tokens":24' one_by_one) -lt 20 ]] || fail "expected 20 answers, some of which end early, got: $(cat one_by_one)"
for batch in 0 3 20; do
  "$program" "${together[@]}" --prompts prompts --batch-size $batch 2>/dev/null | cmp - one_by_one || fail "--batch-size $batch gives other answers than --batch-size 1"
done
"$program" "${together[@]}" --prompts - <prompts 2>/dev/null | cmp - one_by_one || fail "prompts from standard input give other answers than those from a file"
if "$program" "${arguments[@]::4}" --tokens 1 --dtype bfloat16 --prompt x >/dev/null 2>stderr; then
  "$program" "${together[@]}" --dtype bfloat16 --prompts prompts --batch-size 1 >one_by_one_in_bf16 2>/dev/null
  "$program" "${together[@]}" --dtype bfloat16 --prompts prompts 2>/dev/null | cmp - one_by_one_in_bf16 || fail "in bfloat16, prompts that are continued together give other answers"
else
  grep -Eq "no bf16 arithmetic|built without oneDNN" stderr || fail "--dtype bfloat16: $(cat stderr)"
fi
sed -n 20p one_by_one >last
"$program" "${together[@]:0:8}" --seed 24 "${together[@]:10}" --prompt "$(sed -n 20p prompts)" >alone 2>/dev/null
/usr/bin/python3 - <<'END' || fail "the last prompt alone gives another answer: $(cat alone)"
import json
answer = json.loads(open("last").read())
ascii_of = lambda text: "".join(c for c in text if c.isascii())
assert ascii_of(answer["prompt"] + answer["text"]) == ascii_of(open("alone", errors="replace").read().removesuffix("\n"))
END
{ head -3 prompts && echo && head -3 prompts; } >interrupted
status=0
"$program" "${together[@]}" --prompts interrupted >stdout 2>stderr || status=$?
[[ $status == 1 ]] && head -3 one_by_one | cmp - stdout && grep -q "interrupted, line 4 is empty" stderr ||
  fail "an empty line should end the program after the answers before it; status $status, $(cat stdout stderr)"
# Who writes a prompt and waits for its answer gets it.
coproc conversation { "$program" "${together[@]}" --prompts - 2>/dev/null; }
conversation_pid=$conversation_PID # Bash unsets its own variable when the program ends.
head -1 prompts >&"${conversation[1]}"
read -r -t 60 answer <&"${conversation[0]}" && [[ "$answer" == "$(head -1 one_by_one)" ]] || fail "whoever waits for the answer to a prompt got: $answer"
exec {conversation[1]}>&-
wait "$conversation_pid" || fail "at the end of its input the program ended with status $?"

refuse "cannot read sources; a file of prompts was expected" "${arguments[@]::4}" --prompts sources
printf 'def relu(\r\n"def relu("\r\n' >windows
"$program" "${arguments[@]::4}" --prompts windows --tokens 20 --temperature 0 2>stderr | cmp - <(tail -n 2 answers) || fail "lines of Windows"
echo >no_prompt
refuse "no_prompt, line 1 is empty" "${arguments[@]::4}" --prompts no_prompt
printf 'def relu(\n' | "$program" "${arguments[@]::4}" --interactive --tokens 20 --temperature 0 >typed
[[ "def relu($(cat typed)" == "$(cat greedy)" ]] || fail "the answer to a typed line is another: $(cat typed)"

# The text ends before a stop string, whatever the token boundaries.
stop=$(tail -c +16 greedy | head -c 3)
"$program" "${arguments[@]}" --tokens 20 --temperature 0 --stop "$stop" --stop "nowhere in it" >stopped
[[ "$(cat stopped)" != *"$stop"* && "$(cat greedy)" == "$(cat stopped)$stop"* ]] || fail "the text does not end before the stop string: $(cat stopped)"

# It ends with the tokenizer's end of text, whatever its name.
"$prepare_corpus" --input sources --vocab-size 300 --held-out 0 --chunking packed --end-of-text "</s>" --out packed >/dev/null
"$program" "${arguments[@]::2}" --tokenizer packed/tokenizer.model --prompt x --tokens 2000 --temperature 1 --top-k 0 --speed \
  >ended 2>stderr
[[ $(cat ended) != *"</s>"* && $(grep -o "^[0-9]* tokens" stderr) != "2000 tokens" ]] || fail "goes on behind the end: $(cat stderr)"

# There is one note when the text exceeds the context; --speed prints tokens per second.
"$program" "${arguments[@]}" --tokens 200 --context 16 --speed >/dev/null 2>stderr
[[ $(grep -c "longer than the model's context of 16 tokens" stderr) == 1 ]] || fail "expected one note about the context, got: $(cat stderr)"
grep -Eq "^200 tokens in .* tokens/s" stderr || fail "--speed does not print the speed: $(cat stderr)"
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
  "$program" --checkpoint $checkpoint "${arguments[@]:2}" --tokens 1 >/dev/null || fail "the model in $checkpoint, which has an objective of its own, is refused"
done
# Other shapes also work: a Pythia config.json requires Pythia's tensors.
sed -e 's/"n_layer": 9/"n_layer": 8/; s/"n_ctx": 128/"n_ctx": 256/; s/"n_positions": 128/"n_positions": 256/' \
  -e 's/"biases": "query_key"/"biases": "all"/; s/"rotary_dims": 0/"rotary_dims": 4/' \
  -e 's/"tie_word_embeddings": true/"tie_word_embeddings": false/; s/"parallel_residual": false/"parallel_residual": true/; s/"layout": "pre_norm"/"layout": "parallel"/' \
  -i other/config.json
refuse "other is of another architecture than this program: tensor h.0.attn.c_proj.bias is missing" \
  --checkpoint other "${arguments[@]:2}"
"$program" --help >help
grep -q "^Usage: generate " help || fail "--help does not begin with the usage: $(cat help)"

echo "generate: all checks passed"
