#!/usr/bin/env bash
# The program as a user meets it: tests/downstream/downstream.sh <paths of downstream, prepare_corpus, train_demo_sm_r>
set -euo pipefail

program=$1 prepare_corpus=$2 trainer=$3
annotate=$(realpath "${BASH_SOURCE%/*}/../../examples/annotate_python.py")
source "${BASH_SOURCE%/*}/../data/program_test.sh"

mkdir sources held_out
for i in $(seq 30) 99; do
  folder=sources
  [[ $i != 99 ]] || folder=held_out
  awk -v seed="$i" 'BEGIN { srand(seed); for (i = 0; i < 300; ++i) { word = ""; for (j = 0; j < 6; ++j)
    word = word sprintf("%c", 97 + int(26 * rand())); print "def " word "(self): return [" word ", 1.5]  # " i } }' \
    >"$folder/file_$i.py"
done
"$prepare_corpus" --input sources --held-out-input held_out --vocab-size 400 --tokenizer-sample-bytes 1000000 --out corpus \
  --held-out-text corpus/held_out.jsonl >/dev/null
mv corpus/held_out.jsonl .
[[ $(wc -l <held_out.jsonl) == 1 ]] || fail "expected one held-out text, got $(wc -l <held_out.jsonl)"
# Also for an existing corpus.
"$prepare_corpus" --input sources --held-out-input held_out --vocab-size 400 --tokenizer-sample-bytes 1000000 --out corpus \
  --held-out-text again.jsonl >/dev/null
cmp held_out.jsonl again.jsonl || fail "the second run held out another text"
"$annotate" held_out.jsonl --out annotated.jsonl >/dev/null
"$trainer" --train corpus/train.bin --val corpus/val.bin --steps 2 --batch-size 2 --out run >/dev/null

model=(--checkpoint run/checkpoint --tokenizer corpus/tokenizer.model)
windows=$(/usr/bin/python3 -c 'import json; print(json.load(open("corpus/corpus.json"))["held_out"]["windows"])')
"$program" "${model[@]}" --annotated annotated.jsonl --json all.json >words
# The trainer evaluates on the whole windows of the held-out file.
"$program" "${model[@]}" --annotated annotated.jsonl --windows "$windows" --batch-size 3 --json whole.json >/dev/null
OMP_NUM_THREADS=1 "$program" "${model[@]}" --annotated annotated.jsonl --windows "$windows" --batch-size 3 --json one.json >/dev/null
cmp whole.json one.json || fail "the result depends on the number of threads"
"$program" "${model[@]}" --annotated annotated.jsonl --windows "$windows" --seed 1 --json seed.json >/dev/null
"$program" "${model[@]}" --annotated annotated.jsonl --induction-windows 0 --context 64 --json short.json | grep -q "up to 64 tokens" ||
  fail "--context 64 does not limit the windows to 64 tokens"
/usr/bin/python3 - "$windows" <<'END' || fail "wrong results; the program printed: $(cat words)"
import json, math, sys
every, whole, seed, short = (json.load(open(f"{name}.json")) for name in ("all", "whole", "seed", "short"))
then = [line for line in map(json.loads, open("run/metrics.jsonl")) if line["kind"] == "eval"][-1]
assert whole["windows"] == int(sys.argv[1]) and whole["all"]["targets"] == 127 * int(sys.argv[1])
assert math.isclose(whole["all"]["loss"], then["eval_loss"], rel_tol=1e-6), (whole["all"], then)
assert every["windows"] == whole["windows"] + 1 and every["texts"] == 1
classes = every["classes"]
assert sum(one["targets"] for one in classes.values()) == every["all"]["targets"]
for what in ("accuracy", "loss"):
    sums = sum(one["targets"] * one[what] for one in classes.values() if one["targets"])
    assert math.isclose(sums, every["all"]["targets"] * every["all"][what], rel_tol=1e-9)
assert classes["string"]["targets"] == 0 and classes["string"]["accuracy"] is None
assert classes["number"]["targets"] > 200 and classes["comment"]["targets"] > 200
assert every["brackets"]["all"]["targets"] == sum(every["brackets"][kind]["targets"] for kind in ")]}")
assert every["brackets"]["all"]["targets"] > 200 and every["brackets"]["}"]["targets"] == 0, every["brackets"]
assert every["names"]["first"]["targets"] > 200
# A model that has learned almost nothing.
assert 0.95 * math.log(4096) < every["output_entropy"] < math.log(4096), every["output_entropy"]
assert every["calibration"]["ece"] < 0.05 and len(every["calibration"]["bins"]) == 15
assert sum(one["targets"] for one in every["calibration"]["bins"]) == every["all"]["targets"]
shares = every["sinks"]["first_token_attention"]
assert len(shares) == 8 and all(0 < share < 0.5 for layer in shares for share in layer) and every["sinks"]["sink_rate"] == 0
assert len(every["attribution"]["parts"]) == 17
assert every["attribution"]["sum_error"] < 1e-4 < every["attribution"]["error"]  # the recipe has a final norm
assert every["induction"]["windows"] == 64 and every["induction"]["first"]["targets"] == 64 * 63
assert seed.pop("seed") == 1 and whole.pop("seed") == 0 and seed.pop("induction") != whole.pop("induction")
assert math.isclose(seed["all"]["loss"], whole["all"]["loss"], rel_tol=1e-6)
assert short["induction"] is None and short["context"] == 64
assert short["brackets"]["all"]["targets"] >= every["brackets"]["all"]["targets"] - short["windows"]
text = open("words").read()
assert f"{every['all']['loss']:.4f}" in text and "attention sinks: 0.00 %" in text and "operator" in text, text
END

expect_error "is required" "${model[@]}"
expect_error "cannot read nowhere.jsonl" "${model[@]}" --annotated nowhere.jsonl
expect_error "cannot read nowhere/config.json" --checkpoint nowhere --tokenizer corpus/tokenizer.model --annotated annotated.jsonl
expect_error "model.safetensors is a file; give the folder of a model" --checkpoint run/checkpoint/model.safetensors --annotated annotated.jsonl
expect_error "--json would overwrite annotated.jsonl, the file of --annotated" "${model[@]}" --annotated annotated.jsonl --json annotated.jsonl
expect_error "has no tokenizer.json or tokenizer.model" --checkpoint run/checkpoint --annotated annotated.jsonl
expect_error "line 1 is not a JSON object" "${model[@]}" --annotated held_out.jsonl
"$prepare_corpus" --input held_out --held-out 0 --vocab-size 320 --tokenizer-sample-bytes 1000000 --out other >/dev/null
expect_error "is not the tokenizer of" --checkpoint run/checkpoint --tokenizer other/tokenizer.model --annotated annotated.jsonl
echo '{"text": "x", "classes": "i"}' >one.jsonl
expect_error "no window of two tokens" "${model[@]}" --annotated one.jsonl

echo "downstream: all checks passed"
