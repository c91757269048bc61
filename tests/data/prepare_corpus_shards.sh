#!/usr/bin/env bash
# Splits of several shards: tests/data/prepare_corpus_shards.sh <path of prepare_corpus>
set -euo pipefail

program=$1
source "${BASH_SOURCE%/*}/program_test.sh"

# Nine megabytes: enough for a run to leave a note before it ends.
awk 'BEGIN { srand(1); for (i = 0; i < 600; ++i) words[i] = sprintf("%c%c%c%d", 97 + 26 * rand(), 97 + 26 * rand(), 97 + 26 * rand(), i)
  for (d = 0; d < 3000; ++d) { printf "{\"content\": \"# %d", d; for (j = 0; j < 500; ++j) printf " %s", words[int(600 * rand())]; print "\"}" } }' >corpus.jsonl
arguments=(--input corpus.jsonl --vocab-size 600 --context 32 --held-out 0.1 --tokenizer-sample-bytes 100000)
"$program" "${arguments[@]}" --out whole >/dev/null
[[ $(ls whole | tr '\n' ' ') == "corpus.json tokenizer.model train.bin train.json val.bin val.json " ]] || fail "the corpus of single shards has other files: $(ls whole)"
given=(--input corpus.jsonl --tokenizer whole/tokenizer.model --context 32 --held-out 0.1)
tokens=$((($(stat -c %s whole/train.bin) - 1024) / 2))
size=$((tokens / 3 / 32 * 32)) # almost four shards

# number <name> <file>: a number of a JSON file, where it first occurs.
number() { grep -o "\"$1\": *[0-9]*" "$2" | sed -n '1s/.*[^0-9]//p'; }

# The shards hold the tokens of the single one in order, each with its own description; --shard-tokens is
# rounded down to whole windows.
"$program" "${given[@]}" --shard-tokens $((size + 31)) --out shards >/dev/null
files=(shards/train_*.bin)
((${#files[@]} == 4)) || fail "expected four training shards: $(ls shards)"
cmp <(for file in "${files[@]}"; do tail -c +1025 "$file"; done) <(tail -c +1025 whole/train.bin) || fail "the shards do not hold the tokens of the single shard in order"
cmp shards/val.bin whole/val.bin || fail "a split that fits in one shard has other contents"
documents=0
for file in "${files[@]}"; do
  [[ $(od -An -tu4 -j8 -N4 "$file" | tr -d ' ') == $(number tokens "${file/.bin/.json}") ]] || fail "$file and its description have different numbers of tokens"
  documents=$((documents + $(number documents "${file/.bin/.json}")))
  grep -q "\"$(basename "$file")\"" shards/corpus.json || fail "corpus.json does not list $file"
done
[[ $(number tokens shards/train_000001.json) == "$size" ]] || fail "the first shard does not have $size tokens: $(cat shards/train_000001.json)"
[[ $documents == $(number documents whole/train.json) ]] || fail "the shards have $documents documents, the single shard another number"
[[ $(ls -A shards | wc -l) == 12 ]] || fail "unexpected files: $(ls -A shards)"
grep -q '"train.bin"' whole/corpus.json || fail "corpus.json does not list train.bin"

# The same arguments again do nothing; another size is refused; a missing shard is noticed.
"$program" "${given[@]}" --shard-tokens "$size" --out shards >log
grep -q "nothing to do" log || fail "a second run with the same arguments prepared the corpus again"
expect_error "other arguments (shard_tokens)" "${given[@]}" --shard-tokens $((size - 32)) --out shards
expect_error "other arguments (shard_tokens)" "${given[@]}" --out shards
expect_error "other arguments (shard_tokens" "${arguments[@]}" --shard-tokens "$size" --out whole
expect_error "holds no window of 32; give a larger --shard-tokens" "${given[@]}" --shard-tokens 31 --out new
expect_error "from 1 to 2147483647" "${given[@]}" --shard-tokens 2147483648 --out new
[[ ! -e new ]] || fail "a refused run left files"
cp -r shards lacking && rm lacking/train_000003.json
"$program" "${given[@]}" --shard-tokens "$size" --out lacking >/dev/null 2>stderr && fail "a missing description was not noticed"
grep -q "lacks files" stderr || fail "the refusal does not say that files are missing: $(cat stderr)"
mkdir foreign && echo mine >foreign/train_000001.bin
expect_error "holds a train_000001.bin but no corpus.json" "${given[@]}" --out foreign

# A killed run continues in the middle of a later shard, and makes the same files.
mkdir killed
"$program" "${given[@]}" --shard-tokens "$size" --out killed >/dev/null &
run=$!
while kill -0 $run 2>/dev/null && [[ ! -e killed/.prepare_corpus.json ]]; do sleep 0.005; done
kill -KILL $run 2>/dev/null || true
wait $run 2>/dev/null || true
[[ -e killed/.prepare_corpus.json && ! -e killed/corpus.json ]] || fail "the run ended before it was killed"
at=$(number size killed/.prepare_corpus.json)
((at > size && at % size != 0)) || fail "the run was killed at token $at, which is not in the middle of a shard of $size"
[[ -z $(ls killed) ]] || fail "an incomplete corpus has its final names: $(ls killed)"
cp -r killed other
"$program" "${given[@]}" --shard-tokens "$size" --out killed >log
grep -q "continuing an interrupted run" log || fail "the interrupted run was not continued: $(cat log)"
for file in shards/*.json shards/*.bin; do
  [[ $file == shards/corpus.json ]] || cmp "$file" "killed/${file#*/}" || fail "killed/${file#*/} has other contents than expected"
done
cmp <(sed '/"folder"/d' shards/corpus.json) <(sed '/"folder"/d' killed/corpus.json) || fail "the continued run wrote another report"
[[ $(ls -A killed | wc -l) == 12 ]] || fail "unexpected files: $(ls -A killed)"
# With other shards it starts over, and nothing of the killed run stays.
"$program" "${given[@]}" --out other >log
! grep -q "continuing an interrupted" log || fail "a run with other arguments continued the interrupted one"
[[ $(ls -A other | wc -l) == 6 ]] || fail "unexpected files: $(ls -A other)"
cmp other/train.bin whole/train.bin || fail "the single shard has other tokens"

# --overwrite leaves no shard of the older corpus, which a pattern would match. More shards than a process may
# have open files are no problem.
(ulimit -n 40 && exec "$program" "${given[@]}" --shard-tokens $((size / 32 / 20 * 32)) --out shards --overwrite >/dev/null) || fail "the program fails if there are more shards than files that it may open"
((2 * $(ls shards/train_*.bin | wc -l) + 2 * $(ls shards/val_*.bin | wc -l) + 2 == $(ls -A shards | wc -l))) || fail "unexpected files: $(ls -A shards)"
cmp <(for file in shards/val_*.bin; do tail -c +1025 "$file"; done) <(tail -c +1025 whole/val.bin) || fail "the held-out shards have other tokens"
"$program" "${given[@]}" --out shards --overwrite >/dev/null
[[ $(ls -A shards | wc -l) == 6 ]] || fail "unexpected files: $(ls -A shards)"

# Shards may be links to files on another file system, which /dev/shm usually is; the links stay.
far=$(mktemp -d /dev/shm/lnfree-test-XXXXXX)
trap 'rm -rf "$far"; chmod -R u+w "$work"; rm -rf "$work"' EXIT
cp -r killed linked
for name in train_000001.bin train_000002.bin train_000003.json; do
  mv "linked/$name" "$far"
  ln -s "$far/$name" linked
done
ln -s "$far/train.bin" linked/train.bin # the name under which the first shard is begun
"$program" "${given[@]}" --shard-tokens "$size" --out linked --overwrite >/dev/null || fail "shards that are links: status $?"
for file in killed/*.bin killed/train_*.json; do cmp "$file" "linked/${file#*/}" || fail "linked/${file#*/} differs"; done
[[ -L linked/train_000001.bin && -L linked/train_000002.bin && -L linked/train_000003.json ]] || fail "links were replaced: $(ls -l linked)"
[[ $(ls -A linked | wc -l) == 12 ]] || fail "unexpected files: $(ls -A linked)"
[[ $(ls -A "$far" | wc -l) == 3 ]] || fail "unexpected files on the other file system: $(ls -A "$far")"

# A full disk leaves nothing.
before=$(stat -c '%n %i %Y %s' killed/*)
for out in new killed; do
  status=0
  (ulimit -f $((size * 2 / 1024 / 2)) && exec "$program" "${given[@]}" --shard-tokens "$size" --out $out --overwrite >/dev/null 2>stderr) || status=$?
  [[ $status == 1 && $(wc -l <stderr) == 1 ]] || fail "on a full disk: status $status, $(cat stderr)"
done
[[ ! -e new && $before == $(stat -c '%n %i %Y %s' killed/*) ]] || fail "a full disk spoiled a corpus"

echo "prepare_corpus and several shards: all checks passed"
