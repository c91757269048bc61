#!/usr/bin/env bash
# Inputs other than folders, and other outputs: tests/data/prepare_corpus_inputs.sh <path of prepare_corpus>
set -euo pipefail

program=$1
source "${BASH_SOURCE%/*}/program_test.sh"

# A corpus of JSON lines, also compressed in all formats, and with its text in another field; and a
# tokenizer.json with all bytes, pairs of letters of "return", and the end of a text.
/usr/bin/python3 - <<'END'
import gzip, json, random, struct
draw = random.Random(1)
documents = []
for i in range(300):
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 9))) for _ in range(60)]
    documents.append(f"# é {i}\n" + "".join(f"def {w}(x):\n    return x + {j}\n" for j, w in enumerate(words)))
lines = [json.dumps({"repo_name": "r", "path": f"{i}.py", "copies": "1", "content": d}) + "\n" for i, d in enumerate(documents)]
open("plain.jsonl", "w").writelines(lines)
with gzip.open("packed.json.gz", "wt") as file:
    file.writelines(lines[:200])
with gzip.open("second", "wt") as file:
    file.writelines(lines[200:])
open("packed.json.gz", "ab").write(open("second", "rb").read())  # of two members
open("text.jsonl", "w").writelines(json.dumps({"meta": {"text": 1, "content": "no"}, "text": d}) + "\n" for d in documents)
open("code.jsonl", "w").writelines(json.dumps({"text": "no", "the code": d}) + "\n" for d in documents)
open("expected_documents", "wb").write(b"".join(struct.pack("<I", len(d.encode())) + d.encode() for d in documents))

seen = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
names = {b: chr(b) for b in seen} | {b: chr(256 + n) for n, b in enumerate(sorted(set(range(256)) - set(seen)))}
vocabulary, merges = {names[b]: b for b in range(256)}, []
for left, right in ["re", "tu", "rn"]:
    vocabulary[left + right] = len(vocabulary)
    merges.append([left, right])
json.dump({"added_tokens": [{"id": 259, "content": "<|endoftext|>", "special": True, "normalized": False}],
           "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "decoder": {"type": "ByteLevel"},
           "model": {"type": "BPE", "vocab": vocabulary, "merges": merges}}, open("tokenizer.json", "w"))
END
arguments=(--tokenizer tokenizer.json --held-out 0.1 --context 32)

# tokens <shard>: its ids, one a line.
tokens() { tail -c +1025 "$1" | od -An -v -t u2 -w2 | tr -d ' '; }

# The tokenizer is copied under its name, and decodes the tokens.
"$program" --input plain.jsonl "${arguments[@]}" --out plain >/dev/null
cmp tokenizer.json plain/tokenizer.json || fail "tokenizer.json was not copied"
grep -q '"tokenizer": "tokenizer.json"' plain/train.json || fail "train.json does not name tokenizer.json: $(cat plain/train.json)"
[[ ! -e plain/tokenizer.model ]] || fail "there is a tokenizer.model besides tokenizer.json"
[[ $(tokens plain/train.bin | head -n 6 | tr '\n' ' ') == "35 32 195 169 32 "[0-9]* ]] || fail "the first tokens are wrong: $(tokens plain/train.bin | head)"
"$program" --input plain.jsonl "${arguments[@]}" --out plain | grep -q "nothing to do" || fail "a second run with the same arguments prepared the corpus again"
"$program" --input plain.jsonl --vocab-size 300 --held-out 0.1 --context 32 --out plain --overwrite >/dev/null
[[ -e plain/tokenizer.model && ! -e plain/tokenizer.json ]] || fail "the former tokenizer is still there: $(ls plain)"
"$program" --input plain.jsonl "${arguments[@]}" --out plain --overwrite >/dev/null

# Compressed files and other fields give the same corpus.
same_as_plain() {
  for file in train.bin val.bin train.json val.json; do cmp "plain/$file" "$1/$file" || fail "$1/$file has other contents than expected"; done
}
"$program" --input packed.json.gz "${arguments[@]}" --out gzip >/dev/null
same_as_plain gzip
"$program" --input text.jsonl "${arguments[@]}" --out text >/dev/null
same_as_plain text
"$program" --input code.jsonl --field "the code" "${arguments[@]}" --out code >/dev/null
same_as_plain code
OMP_NUM_THREADS=1 "$program" --input plain.jsonl "${arguments[@]}" --out one_thread >/dev/null
same_as_plain one_thread
if command -v zstd >/dev/null; then
  zstd -q plain.jsonl -o packed.jsonl.zst
  "$program" --input packed.jsonl.zst "${arguments[@]}" --out zstandard >/dev/null
  same_as_plain zstandard
  head -c 20000 packed.jsonl.zst >cut.jsonl.zst
  expect_error "cannot be read further: its Zstandard data end too early" --input cut.jsonl.zst "${arguments[@]}" --out new
fi

# Packed chunks: every token of every document, an end of text after each.
"$program" --input plain.jsonl "${arguments[@]:0:2}" --held-out 0 --context 32 --chunking packed --out packed >/dev/null
/usr/bin/python3 - <<'END' || fail "the packed tokens are wrong"
import re, struct
content, documents, at = open("packed/train.bin", "rb").read(), [], 0
given = open("expected_documents", "rb").read()
while at < len(given):
    (size,) = struct.unpack_from("<I", given, at)
    documents.append(given[at + 4 : at + 4 + size])
    at += 4 + size
ids = struct.unpack(f"<{(len(content) - 1024) // 2}H", content[1024:])
texts = {256: b"re", 257: b"tu", 258: b"rn"}
back = b"".join(b"\xff" if i == 259 else texts.get(i) or bytes([i]) for i in ids)
assert back == b"".join(d + b"\xff" for d in documents), "not the documents"
END
grep -q '"context": 0' packed/train.json || fail "the context of packed tokens is not 0, which stands for any size: $(cat packed/train.json)"
"$program" --input plain.jsonl --tokenizer tokenizer.json --held-out 0 --context 32 --chunking packed --max-train-tokens 1000 --out capped >/dev/null
grep -q '"tokens": 992' capped/train.json || fail "--max-train-tokens 1000 does not give 992 packed tokens"
"$program" --input plain.jsonl --vocab-size 300 --held-out 0 --context 32 --chunking packed --out own >/dev/null
[[ $(tokens own/train.bin | grep -cx 1) == 300 ]] || fail "expected 300 end-of-text tokens of the trained tokenizer; corpus.json has: $(grep end_of own/corpus.json)"
"$program" --input plain.jsonl --tokenizer own/tokenizer.model --held-out 0 --context 32 --chunking packed --out again >/dev/null
cmp own/train.bin again/train.bin || fail "a given tokenizer.model with an end-of-text token gives other tokens"
"$program" --input plain.jsonl --vocab-size 300 --held-out 0 --context 32 --out without >/dev/null
expect_error "has no end-of-text token" --input plain.jsonl --tokenizer without/tokenizer.model --chunking packed --out new
expect_error "has no token </doc>" --input plain.jsonl "${arguments[@]}" --chunking packed --end-of-text "</doc>" --out new
expect_error "sliced is neither windows nor packed" --input plain.jsonl --chunking sliced --out new
expect_error "other arguments" --input plain.jsonl "${arguments[@]}" --chunking packed --out plain

# Invalid input is named with its line, or counted and skipped.
sed '5s/.*/{"content": 5}/' plain.jsonl >field.jsonl
sed '5s/.*/{"content": "x/' plain.jsonl >cut.jsonl
sed $'5s/def/\xff/' plain.jsonl >latin.jsonl
gzip -c plain.jsonl >damaged.json.gz
head -c 20000 damaged.json.gz >cut.jsonl.gz
printf '\377\377\377\377\377\377' | dd of=damaged.json.gz bs=1 seek=10000 conv=notrunc status=none
head -c 3 packed.json.gz >short.gz
expect_error 'field.jsonl:5 is not a JSON object with the document in a string "content" or "text"' --input field.jsonl "${arguments[@]}" --out new
expect_error 'plain.jsonl:1 is not a JSON object with the document in a string "code"' --input plain.jsonl --field code "${arguments[@]}" --out new
expect_error "cut.jsonl:5 is not JSON" --input cut.jsonl "${arguments[@]}" --out new
expect_error "latin.jsonl:5 is not UTF-8 at byte offset" --input latin.jsonl "${arguments[@]}" --out new
expect_error "its gzip data end too early" --input cut.jsonl.gz "${arguments[@]}" --out new
expect_error "its gzip data are damaged" --input damaged.json.gz "${arguments[@]}" --out new
expect_error "short.gz cannot be read further: its gzip data end too early" --input short.gz "${arguments[@]}" --out new
expect_error "neither a folder of *.py files nor a file of JSON lines" --input expected_documents "${arguments[@]}" --out new
for broken in field cut latin; do
  "$program" --input $broken.jsonl --skip-invalid "${arguments[@]}" --out "of_$broken" >log
  grep -q "300 seen, 299 kept, .* 1 invalid" log && grep -q "the first: $broken.jsonl:5 is not" log || fail "--skip-invalid does not count and name the line of $broken.jsonl that cannot be used: $(cat log)"
done
"$program" --input cut.jsonl.gz --skip-invalid "${arguments[@]}" --out of_cut_gzip >log
grep -q " 1 unreadable" log || fail "a truncated file is not counted: $(cat log)"
grep -q "note: some documents could not be used; the first: cut.jsonl.gz:[0-9]* cannot be read further: its gzip data end too early" log ||
  fail "a truncated file is not named: $(cat log)"
sed 's/"BPE"/"WordPiece"/' tokenizer.json >other.json
expect_error "other.json has a model of type WordPiece; only BPE is supported" --input plain.jsonl --tokenizer other.json --out new
[[ ! -e new ]] || fail "unexpected files: $(ls -A new)"

# A run that is killed continues where it stopped, and gives the same files.
/usr/bin/python3 - <<'END'
import json
lines = open("plain.jsonl").read().splitlines()
with open("large.jsonl", "w") as file:
    for i in range(20):
        for line in lines:
            given = json.loads(line)
            file.write(json.dumps({"content": f"# {i}\n" + given["content"]}) + "\n")
        file.write(lines[0] + "\n")  # duplicates, near and far
END
large=(--input large.jsonl --held-out 0.1 --context 32)
"$program" "${large[@]}" --tokenizer tokenizer.json --out whole >/dev/null
# kill_once <out> <arguments>...: kills a run once it has written its note.
kill_once() {
  local out=$1
  shift
  "$program" "$@" --out "$out" >/dev/null &
  local run=$!
  while kill -0 $run 2>/dev/null && [[ ! -e $out/.prepare_corpus.json ]]; do sleep 0.005; done
  kill -KILL $run 2>/dev/null || true
  wait $run 2>/dev/null || true
  [[ -e $out/.prepare_corpus.json && ! -e $out/corpus.json ]] || fail "the run into $out ended before it was killed"
}
kill_once killed "${large[@]}" --tokenizer tokenizer.json
mkdir elsewhere && cp tokenizer.json elsewhere # the same tokenizer
"$program" "${large[@]}" --tokenizer elsewhere/tokenizer.json --out killed >log
grep -q "continuing an interrupted run" log || fail "the interrupted run was not continued: $(cat log)"
for file in train.bin val.bin train.json val.json tokenizer.json; do cmp "whole/$file" "killed/$file" || fail "killed/$file has other contents than expected"; done
cmp <(sed '/"folder"/d' whole/corpus.json) <(sed '/"folder"/d; s|/elsewhere/|/|' killed/corpus.json) || fail "the continued run wrote another report"
[[ $(ls -A killed | wc -l) == 6 ]] || fail "unexpected files: $(ls -A killed)"
# So does one that has trained its tokenizer; one with other arguments starts over; changed inputs are
# reported.
"$program" "${large[@]}" --vocab-size 300 --chunking packed --out whole_own >/dev/null
kill_once killed_own "${large[@]}" --vocab-size 300 --chunking packed
"$program" "${large[@]}" --vocab-size 300 --chunking packed --out killed_own | grep -q "continuing an interrupted" || fail "the interrupted run was not continued"
for file in train.bin val.bin tokenizer.model; do cmp "whole_own/$file" "killed_own/$file" || fail "killed_own/$file has other contents than expected"; done
kill_once other "${large[@]}" --tokenizer tokenizer.json
"$program" --input large.jsonl --held-out 0 --context 16 --tokenizer tokenizer.json --out other >log
! grep -q "continuing an interrupted" log || fail "a run with other arguments continued the interrupted one"
[[ $(ls -A other | wc -l) == 4 ]] || fail "unexpected files: $(ls -A other)"
kill_once changed "${large[@]}" --tokenizer tokenizer.json
sed -i '1s/def/fed/' large.jsonl
expect_error "the inputs are not those of the run that was interrupted" "${large[@]}" --tokenizer tokenizer.json --out changed
"$program" "${large[@]}" --tokenizer tokenizer.json --out changed >log
! grep -q "continuing an interrupted" log || fail "a run with other inputs continued the interrupted one"

echo "prepare_corpus and its inputs: all checks passed"
