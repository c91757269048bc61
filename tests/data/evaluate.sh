#!/usr/bin/env bash
# The program as a user meets it: tests/data/evaluate.sh <paths of evaluate, prepare_corpus, train_demo_sm_r>
set -euo pipefail

program=$1 prepare_corpus=$2 trainer=$3
source "${BASH_SOURCE%/*}/program_test.sh"

mkdir sources
for i in $(seq 40); do
  awk -v seed="$i" 'BEGIN { srand(seed); for (i = 0; i < 300; ++i) { word = ""; for (j = 0; j < 6; ++j)
    word = word sprintf("%c", 97 + int(26 * rand())); print "def " word "(self):" } }' >"sources/file_$i.py"
done
"$prepare_corpus" --input sources --vocab-size 400 --held-out 0.2 --tokenizer-sample-bytes 1000000 --out corpus >/dev/null
"$trainer" --train corpus/train.bin --val corpus/val.bin --steps 2 --batch-size 2 --out run >/dev/null

# The trainer's own evaluation at the end, to all digits that do not depend on the batch size.
"$program" --checkpoint run/checkpoint --data corpus/val.bin --batch-size 3 --json result.json >words
/usr/bin/python3 - <<'END' || fail "wrong results; the program printed: $(cat words)"
import json, math
lines = [json.loads(line) for line in open("run/metrics.jsonl")]
then = next(line for line in reversed(lines) if line["kind"] == "eval")
now = json.load(open("result.json"))
assert math.isclose(now["eval_loss"], then["eval_loss"], rel_tol=1e-6), (now["eval_loss"], then["eval_loss"])
assert math.isclose(now["perplexity"], math.exp(now["eval_loss"]), rel_tol=1e-12)
assert now["context"] == 128 and now["targets"] % 127 == 0
def flat(x):
    return [y for z in x for y in flat(z)] if isinstance(x, list) else [x]
found, expected = flat(now["head_entropy"]), flat(then["head_entropy"])
assert len(found) == len(expected) == 32
assert all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(found, expected))
words = open("words").read()
assert f"loss {now['eval_loss']:.6f}, perplexity {now['perplexity']:.4f} on {now['targets']} tokens" in words
assert words.count("layer") == 8, words
END

# Names may have any bytes.
cp -r run/checkpoint $'latin \xE9'
"$program" --checkpoint $'latin \xE9' --data corpus/val.bin --json result.json >/dev/null
grep -qF '"checkpoint": "latin \\xe9"' result.json || fail "a name that is not UTF-8: $(head -3 result.json)"

"$program" --checkpoint run/checkpoint --data corpus/val.bin --context 64 | grep -q "in windows of 64" || fail "--context 64 does not evaluate windows of 64 tokens"
expect_error "is required" --checkpoint run/checkpoint
expect_error "nowhere.bin" --checkpoint run/checkpoint --data nowhere.bin
expect_error "cannot read nowhere/config.json" --checkpoint nowhere --data corpus/val.bin
expect_error "model.safetensors is a file; give the folder of a model" --checkpoint run/checkpoint/model.safetensors --data corpus/val.bin

# A result that cannot be written is reported before the work, and replaces no input.
expect_error "nowhere/result.json cannot be written" --checkpoint nothing --data corpus/val.bin --json nowhere/result.json
before=$(cksum corpus/val.bin)
for data in corpus/val.bin 'corpus/v*.bin'; do
  expect_error "--json would overwrite corpus/val.bin, the file of --data" --checkpoint run/checkpoint --data "$data" --json corpus/val.bin
done
ln -s corpus/val.bin link
expect_error "--json would overwrite link, the file of --data" --checkpoint run/checkpoint --data corpus/val.bin --json link
[[ $(cksum corpus/val.bin) == "$before" ]] || fail "--json has overwritten a shard"
"$program" --checkpoint run/checkpoint --data corpus/val.bin --json lost.json >/dev/full && [[ -s lost.json ]] || fail "--json does not write its file when standard output is full"
expect_error "is not a multiple of the model's context of 100" --checkpoint run/checkpoint --data corpus/val.bin --context 100

echo "evaluate: all checks passed"
