#!/usr/bin/env bash
# The program as a user meets it: tests/data/prepare_corpus.sh <path of prepare_corpus>
set -euo pipefail

program=$1
source "${BASH_SOURCE%/*}/program_test.sh"

# Sixty files of Python-like text, each with different words.
mkdir sources
for i in $(seq 60); do
  for j in $(seq 40); do
    word=$(printf '%s' "$((i * 7919 + j * 104729))" | tr 0123456789 aeioubdfgl)
    printf 'def %s_%s(self, value):\n    if value is None:\n        return self.%s + %d\n\n' "$word" "$j" "$word" "$i"
  done >"sources/file_$i.py"
done
printf '# marks: \xe2\x96\x81 \xe2\x96\x85, a NUL \0, \t, CRLF \r\n%0120d\n' 0 >sources/marks.py
cp sources/file_1.py sources/copy.py
arguments=(--input sources --vocab-size 600 --context 32 --held-out 0.2)

"$program" --help >help
grep -q -- "--context N=128 " help || fail "--help does not show the default of --context: $(cat help)"

"$program" "${arguments[@]}" --out corpus --json report.json >log
for file in train.bin train.json val.bin val.json tokenizer.model corpus.json; do
  [[ -s corpus/$file ]] || fail "corpus/$file is missing or empty"
done
[[ $(ls -A corpus | wc -l) == 6 ]] || fail "unexpected files: $(ls -A corpus)"
cmp -s corpus/corpus.json report.json || fail "the file of --json is not the report"
grep -q '"duplicates": 1' report.json || fail "the duplicate was not found"
grep -q '"seen": 62' report.json || fail "not all files were seen"
(($(stat -c %s corpus/train.bin) > 1024 + 2 * 32 * 100)) || fail "too little training data"
((($(stat -c %s corpus/train.bin) - 1024) % 64 == 0)) || fail "train.bin is not whole windows"

# The same arguments give the same files; a second run does nothing; other arguments are refused.
"$program" "${arguments[@]}" --out again >/dev/null
for file in train.bin val.bin tokenizer.model; do cmp corpus/$file again/$file || fail "$file differs between runs"; done
before=$(stat -c '%n %i %Y' corpus/*)
"$program" "${arguments[@]}" --out corpus | grep -q "nothing to do" || fail "the second run does not say that there is nothing to do"
expect_error "other arguments (context, vocab_size, tokenizer_sample_bytes)" --input sources --vocab-size 500 --context 16 --held-out 0.2 --out corpus
[[ $before == $(stat -c '%n %i %Y' corpus/*) ]] || fail "a refused or needless run changed files"
"$program" --input sources --vocab-size 500 --context 16 --held-out 0.2 --out corpus --overwrite >/dev/null
grep -q '"vocab_size": 500' corpus/train.json || fail "--overwrite did not replace the corpus"

# Numbers are decimal, or refused.
"$program" --input sources --vocab-size 0600 --context 032 --held-out 0.2 --out corpus_of_zeros >/dev/null
cmp -s again/train.bin corpus_of_zeros/train.bin || fail "leading zeros change a number"
for number in 0x20 +32 32.0 3e1 " 32" "32 " 0b11 1_000 32k 99999999999999999999; do
  expect_error "$number is not a whole number from 2" --input sources --out new --context "$number"
done

# A corpus that was moved together with its inputs is still the same; without them it is not.
mkdir -p here there
cp -r sources here
"$program" --input here/sources --vocab-size 600 --context 32 --out here/corpus >/dev/null
mv here there
"$program" --input there/here/sources --vocab-size 600 --context 32 --out there/here/corpus | grep -q "nothing to do" || fail "a corpus that was moved with its inputs was prepared again"
mv there/here/sources there
expect_error "other arguments (inputs)" --input there/sources --vocab-size 600 --context 32 --out there/here/corpus

# Changed inputs are detected without reading them again.
cp -r sources grown
"$program" --input grown --vocab-size 600 --context 32 --out of_grown >/dev/null
"$program" --input grown --vocab-size 600 --context 32 --out of_grown | grep -q "from 62 files of" || fail "the second run does not name its inputs"
before=$(stat -c '%n %i %Y' of_grown/*)
printf 'x = 1\n' >>grown/file_1.py
expect_error "other contents of the inputs (62 files of" --input grown --vocab-size 600 --context 32 --out of_grown
cp grown/file_2.py grown/file_0.py
expect_error "bytes then, 63 files of" --input grown --vocab-size 600 --context 32 --out of_grown
[[ $before == $(stat -c '%n %i %Y' of_grown/*) ]] || fail "a refused or needless run changed files"
"$program" --input grown --vocab-size 600 --context 32 --out of_grown --overwrite >/dev/null
"$program" --input grown --vocab-size 600 --context 32 --out of_grown | grep -q "63 files" || fail "--overwrite did not replace the corpus"

# Fingerprints distinguish corpora and tokenizers, and are equal if both are the same.
fingerprint() { # <file> [which]: of the tokenizer in a description, or of a shard in a report
  grep -o "\"${2-tokenizer_}fingerprint\": \"[0-9a-f]\{16\}\"" "$1"
}
fingerprint corpus/train.json >/dev/null || fail "no fingerprint of the tokenizer: $(cat corpus/train.json)"
[[ $(fingerprint again/train.json) == "$(fingerprint again/val.json)" ]] || fail "the two splits have different fingerprints of one tokenizer"
[[ $(fingerprint again/train.json) == "$(fingerprint again/corpus.json)" ]] || fail "corpus.json has another fingerprint of the tokenizer"
[[ $(fingerprint again/train.json) == "$(fingerprint report.json)" ]] || fail "the same tokenizer has two fingerprints"
[[ $(fingerprint again/train.json) != "$(fingerprint corpus/train.json)" ]] || fail "two tokenizers have the same fingerprint"
[[ $(fingerprint again/corpus.json '' | sort -u | wc -l) == 2 ]] || fail "corpus.json does not have the fingerprints of the two shards"
[[ $(fingerprint again/corpus.json '') == "$(fingerprint report.json '')" ]] || fail "the same shards have different fingerprints"
[[ $(fingerprint again/corpus.json '') != "$(fingerprint corpus/corpus.json '')" ]] || fail "different shards have the same fingerprints"

# A given tokenizer; a maximum number of tokens; nothing held out.
"$program" --input sources --tokenizer again/tokenizer.model --context 32 --held-out 0 --max-train-tokens 1000 --out capped >/dev/null
grep -q '"tokens": 992' capped/train.json || fail "--max-train-tokens 1000 does not give 992 tokens"
cmp -s again/tokenizer.model capped/tokenizer.model || fail "the tokenizer was not copied"
[[ ! -e capped/val.bin ]] || fail "there is a val.bin without held-out documents"

# A given tokenizer is compared by its content: the same file may lie elsewhere, another is refused, also
# where the first one was.
mkdir elsewhere && cp again/tokenizer.model elsewhere/renamed
given=(--input sources --context 32 --held-out 0 --max-train-tokens 1000 --out capped)
before=$(stat -c '%n %i %Y' capped/*)
"$program" "${given[@]}" --tokenizer elsewhere/renamed | grep -q "nothing to do" || fail "the same tokenizer at another path was not accepted"
expect_error "other arguments (tokenizer)" "${given[@]}" --tokenizer corpus/tokenizer.model
cp corpus/tokenizer.model elsewhere/renamed
expect_error "other arguments (tokenizer)" "${given[@]}" --tokenizer elsewhere/renamed
expect_error "other arguments (seed, tokenizer)" "${given[@]}" --seed 1 --tokenizer elsewhere/renamed
mv again/tokenizer.model elsewhere/kept && cp corpus/tokenizer.model again
expect_error "other arguments (tokenizer)" "${given[@]}" --tokenizer again/tokenizer.model
mv elsewhere/kept again/tokenizer.model
# Arguments that only one of the two runs has are named, too.
expect_error "other arguments (field)" "${given[@]}" --tokenizer again/tokenizer.model --field text
expect_error "other arguments (vocab_size, tokenizer_sample_bytes, tokenizer)" "${given[@]}" --vocab-size 600
[[ $before == $(stat -c '%n %i %Y' capped/*) ]] || fail "a refused or needless run changed files"
# Names of fields and tokens are not paths.
"$program" "${given[@]::8}" --out of_field --tokenizer again/tokenizer.model --field content >/dev/null
expect_error "other arguments (field)" "${given[@]::8}" --out of_field --tokenizer again/tokenizer.model --field text
expect_error "other arguments (field)" "${given[@]::8}" --out of_field --tokenizer again/tokenizer.model

# A table that is one long word, as in generated code, is a document like others.
mkdir tables && cp sources/file_[1-3].py tables
{ printf 'data = "'; awk 'BEGIN { for (i = 0; i < 70000; ++i) printf "%c", 65 + i * i % 23 }'; printf '"\n'; } >tables/table.py
{ printf '\xef\xbb\xbf#'; LC_ALL=C awk 'BEGIN { for (i = 0; i < 20000; ++i) printf "\xe4\xb8%c\r\n", 128 + i * i % 23 }'; } >tables/han.py
"$program" --input tables --vocab-size 600 --context 32 --held-out 0 --out of_tables >/dev/null || fail "documents with long words: status $?"
grep -q '"kept": 5' of_tables/corpus.json || fail "documents with long words were left out"

# The same documents as JSON lines, with a separate held-out file.
for i in 1 2; do
  printf '{"repo_name": "r", "path": "f%d.py", "copies": "1", "content": "' "$i"
  sed ':a;N;$!ba;s/\n/\\n/g' "sources/file_$i.py" | tr -d '\n'
  printf '"}\n'
done >held_out.jsonl
"$program" --input sources --held-out-input held_out.jsonl --vocab-size 600 --context 32 --out split >/dev/null
grep -q '"documents": 2' split/val.json || fail "--held-out-input does not hold out its two documents"

# Errors: one sentence, status 1, and the output folder as it was.
before=$(stat -c '%n %i %Y' again/*)
mkdir empty latin
printf '# caf\xe9\n%0120d\n' 0 >latin/latin.py
cp sources/file_3.py latin/
printf '{"content": "x"}\n{"content": \n' >broken.jsonl
expect_error "--out is required" --input sources
expect_error "--no-such-option is not an option" --out new --no-such-option
expect_error "1 is not a whole number from 2" "${arguments[@]}" --out new --context 1
expect_error "does not exist" --input nowhere --out new
expect_error "is empty" --input empty --out new
expect_error "latin/latin.py is not UTF-8 at byte offset 5" --input latin --out new
expect_error "broken.jsonl:2 is not JSON" --input broken.jsonl --out new
expect_error "at most" --input sources --vocab-size 50000 --out new
expect_error "not a SentencePiece model" "${arguments[@]}" --tokenizer sources/file_1.py --out new
expect_error "vocabulary of 600, not of 700" --input sources --tokenizer again/tokenizer.model --vocab-size 700 --out new
expect_error "gives one window of 1000000 tokens" --input sources --vocab-size 600 --context 1000000 --out new
expect_error "cannot be created" "${arguments[@]}" --out sources/file_1.py/new
expect_error "is not UTF-8" --input latin --out again --overwrite
[[ $before == $(stat -c '%n %i %Y' again/*) ]] || fail "a failed run changed the corpus that was there"
[[ ! -e new ]] || fail "a failed run left files: $(ls -A new)"
expect_error "is not UTF-8" --input latin --out new/below/new
[[ ! -e new ]] || fail "a failed run left folders"
expect_error "an empty one" --input "" --out new
mkdir foreign && echo mine >foreign/train.bin
expect_error "holds a train.bin but no corpus.json" "${arguments[@]}" --out foreign
[[ $(cat foreign/train.bin) == mine ]] || fail "a foreign train.bin was overwritten"
if ((EUID != 0)); then
  mkdir locked && chmod a-w locked
  expect_error "cannot be written" "${arguments[@]}" --out locked
fi
"$program" --input latin --skip-invalid --vocab-size 360 --held-out 0 --context 32 --out skipped >/dev/null
grep -q '"invalid": 1' skipped/corpus.json || fail "--skip-invalid does not count the invalid document"

echo "prepare_corpus: all checks passed"
