#!/usr/bin/env bash
# The program with unusual or broken files: tests/data/prepare_corpus_files.sh <path of prepare_corpus>
set -euo pipefail

program=$1
source "${BASH_SOURCE%/*}/program_test.sh"

mkdir sources
for i in 1 2 3 4 5; do
  awk -v seed="$i" 'BEGIN { srand(seed); for (i = 0; i < 60; ++i) { word = ""; for (j = 0; j < 6; ++j)
    word = word sprintf("%c", 97 + int(26 * rand())); print "def " word "(self):" } }' >"sources/file_$i.py"
done
arguments=(--held-out 0 --context 16 --vocab-size 330)
"$program" --input sources "${arguments[@]}" --out corpus >/dev/null

# same_corpus <out>: checks that the corpus of `sources` there is complete.
same_corpus() {
  for file in train.bin train.json tokenizer.model; do cmp corpus/$file "$1/$file" || fail "$1/$file has other contents than expected"; done
  grep -q '^  "train"' "$1/corpus.json" && [[ $(tail -c 2 "$1/corpus.json") == "}" ]] || fail "$1/corpus.json is incomplete"
  [[ $(head -c 1 "$1/corpus.json") == "{" ]] || fail "$1/corpus.json does not begin with an object"
  [[ -z $(find "$1" -name '.*.tmp') ]] || fail "unexpected files in $1: $(ls -A "$1")"
}

# A full disk leaves an existing corpus unchanged, and no partial new one.
before=$(stat -c '%n %i %Y %s' corpus/*)
for kilobytes in 1 2 4 6; do
  status=0
  (ulimit -f $kilobytes && exec "$program" --input sources "${arguments[@]:0:4}" --vocab-size 331 --out corpus --overwrite) \
    >/dev/null 2>stderr || status=$?
  [[ $status == 1 && $(wc -l <stderr) == 1 ]] || fail "files limited to $kilobytes KB: status $status, $(cat stderr)"
  status=0
  (ulimit -f $kilobytes && exec "$program" --input sources "${arguments[@]}" --out unfit) >/dev/null 2>stderr || status=$?
  [[ $status == 1 && $(wc -l <stderr) == 1 ]] || fail "files limited to $kilobytes KB: status $status, $(cat stderr)"
  [[ ! -e unfit ]] || fail "a failed run left an incomplete corpus: $(ls -A unfit)"
done
[[ $before == $(stat -c '%n %i %Y %s' corpus/*) && $(ls -A corpus | wc -l) == 4 ]] || fail "a corpus was spoiled: $(ls -A corpus)"

# Closed, full or broken standard streams only lose progress messages.
"$program" --input sources "${arguments[@]}" --out no_stdout >&- || fail "with standard output closed: status $?"
same_corpus no_stdout
"$program" --input sources "${arguments[@]}" --out no_streams <&- >&- 2>&- || fail "with all standard streams closed: status $?"
same_corpus no_streams
"$program" --input sources "${arguments[@]}" --out full_stdout >/dev/full || fail "with standard output full: status $?"
same_corpus full_stdout
{ "$program" --input sources "${arguments[@]}" --out broken_pipe || echo "$?" >broken_status; } | true
[[ ! -e broken_status ]] || fail "with a broken pipe as standard output: status $(cat broken_status)"
same_corpus broken_pipe

# Results for standard output must arrive there.
status=0
"$program" --help 2>stderr >/dev/full || status=$?
[[ $status == 1 && $(wc -l <stderr) == 1 ]] || fail "--help on a full disk: status $status, $(cat stderr)"
"$program" --input sources "${arguments[@]}" --out corpus --json /dev/stdout >log
sed -n '/^{$/,$p' log | cmp - corpus/corpus.json || fail "--json /dev/stdout does not print the report: $(cat log)"
head -n 1 log | grep -q "nothing to do" || fail "--json /dev/stdout overwrote what came before: $(cat log)"
for stdout in /dev/full closed; do
  status=0
  if [[ $stdout == closed ]]; then
    "$program" --input sources "${arguments[@]}" --out corpus --json /dev/stdout >&- 2>stderr || status=$?
  else
    "$program" --input sources "${arguments[@]}" --out corpus --json /dev/stdout >$stdout 2>stderr || status=$?
  fi
  [[ $status == 1 && $(wc -l <stderr) == 1 ]] || fail "--json /dev/stdout, $stdout: status $status, $(cat stderr)"
done

# --json writes to devices and FIFOs, follows links, and refuses anything else before the work.
mkfifo fifo
cat fifo >from_fifo &
"$program" --input sources "${arguments[@]}" --out corpus --json fifo >/dev/null
wait "$!"
cmp from_fifo corpus/corpus.json || fail "--json does not write the report to a FIFO"
[[ -p fifo ]] || fail "the FIFO was replaced"
ln -s /dev/null null
"$program" --input sources "${arguments[@]}" --out corpus --json null >/dev/null
[[ -L null && -c /dev/null ]] || fail "/dev/null was replaced"
mkdir reports && ln -s reports/report.json link
"$program" --input sources "${arguments[@]}" --out corpus --json link >/dev/null
[[ -L link ]] && cmp reports/report.json corpus/corpus.json || fail "--json does not write the report to the target of a link, or replaces the link"
"$program" --input sources "${arguments[@]}" --out corpus --json /dev/fd/7 7>from_fd >/dev/null
cmp from_fd corpus/corpus.json || fail "--json /dev/fd/7 does not write the report there"
ln -s loop loop
for bad in reports loop nowhere/report.json /dev/full /dev/fd/99; do
  expect_error "$bad" --input sources "${arguments[@]}" --out corpus --json $bad
done
for bad in reports loop nowhere/report.json; do
  expect_error "$bad" --input sources "${arguments[@]}" --out new --json $bad
  [[ ! -e new ]] || fail "--json $bad was refused after the work"
done
"$program" --input sources "${arguments[@]}" --out own_report --json own_report/corpus.json >/dev/null
same_corpus own_report

# Neither a report nor a text replaces an input or a file of the corpus.
printf '{"content": "%s"}\n' "$(tr '\n' ' ' <sources/file_1.py)" >lines.jsonl
expect_error "--json would overwrite lines.jsonl, the file of --input" --input lines.jsonl "${arguments[@]}" --out new --json lines.jsonl
expect_error "--json would overwrite report.json, the file of --held-out-text" --input sources "${arguments[@]}" --out new --json report.json --held-out-text report.json
for name in train.bin tokenizer.model train_000001.json; do
  expect_error "new/$name is a file of the corpus itself" --input sources "${arguments[@]}" --out new --held-out-text new/$name
done
[[ ! -e new && -s lines.jsonl ]] || fail "a refused output was written: $(ls -A)"

# A run that failed while its files got their names leaves a note, and the same command starts again.
mkdir partial
cp corpus/train.bin partial
expect_error "not a finished corpus" --input sources "${arguments[@]}" --out partial
echo '{"incomplete": true}' >partial/.prepare_corpus.json
"$program" --input sources "${arguments[@]}" --out partial >/dev/null
same_corpus partial
[[ ! -e partial/.prepare_corpus.json ]] || fail "the note is left when all is done"

# Files of an earlier run that are not files, and links that lead in a circle, are neither read nor waited for.
for name in corpus.json .prepare_corpus.json; do
  for kind in fifo folder loop; do
    mkdir broken
    case $kind in
      fifo) mkfifo broken/$name ;;
      folder) mkdir broken/$name ;;
      loop) ln -s $name broken/$name ;;
    esac
    expect_error "broken/$name" --input sources "${arguments[@]}" --out broken
    [[ $(ls -A broken) == "$name" ]] || fail "unexpected files beside $name: $(ls -A broken)"
    rm -r broken
  done
done
for option in --input --out --tokenizer; do
  given=(--input sources --out new)
  [[ $option != --input ]] || given=(--out new)
  [[ $option != --out ]] || given=(--input sources)
  expect_error "loop" "${given[@]}" "$option" loop "${arguments[@]:0:4}"
done

# Files of the corpus may be links to elsewhere; anything but files is refused.
mkdir linked elsewhere
for file in train.bin corpus.json; do ln -s "../elsewhere/$file" linked/$file; done
"$program" --input sources "${arguments[@]}" --out linked >/dev/null
[[ -L linked/train.bin && -L linked/corpus.json ]] || fail "links in --out were replaced"
same_corpus linked
mkdir -p occupied/val.bin
expect_error "exists and is not a file" --input sources "${arguments[@]}" --out occupied --overwrite
[[ $(ls -A occupied) == val.bin ]] || fail "unexpected files: $(ls -A occupied)"

# Names may have any bytes; messages stay on one line.
latin=$'caf\xe9\n'
mkdir "$latin"
cp sources/*.py "$latin"
mv "$latin/file_1.py" "$latin/$latin.py"
"$program" --input "$latin" "${arguments[@]}" --out "out_$latin" --json report.json >/dev/null || fail "an input with a name in Latin-1: status $?"
same_corpus "out_$latin"
grep -qF '/caf\\xe9\\x0a"' report.json || fail "the report does not spell out the name: $(head -n 5 report.json)"
"$program" --input "$latin" "${arguments[@]}" --out "out_$latin" | grep -q "nothing to do" || fail "a second run with the same arguments prepared the corpus again"
expect_error 'caf\xe9\x0a does not exist' --input "no/$latin" "${arguments[@]}" --out new
printf '# caf\xe9\n%0120d\n' 0 >"$latin/$latin.py"
expect_error 'caf\xe9\x0a.py is not UTF-8' --input "$latin" "${arguments[@]}" --out new

# Messages quote the start and end of long texts.
awk 'BEGIN { printf "{\"content\": \""; for (i = 0; i < 300000; ++i) printf "ten bytes " }' >cut.jsonl
{ printf '{"repo_name": "'; head -c 1000000 cut.jsonl | tail -c 900000; printf '", "path": 1, "content": "'; cat sources/file_1.py | tr '\n' ' '; printf '\xff"}\n'; } >named.jsonl
long=$(printf 'x%.0s' {1..100000})
expect_error "cut.jsonl:1 is not JSON" --input cut.jsonl "${arguments[@]}" --out new
(($(wc -c <stderr) < 1000)) || fail "the message is too long: $(wc -c <stderr) bytes"
expect_error "named.jsonl:1 is not UTF-8" --input named.jsonl "${arguments[@]}" --out new
for option in --input --context --tokenizer --out --json "--$long"; do
  given=(--input sources --out new)
  [[ $option != --out ]] || given=(--input sources)
  [[ $option != --input ]] || given=(--out new)
  expect_error "xxx" "${given[@]}" "$option" "$long"
  (($(wc -c <stderr) < 1000)) || fail "the message for ${option:0:20} is too long: $(wc -c <stderr) bytes"
done

# What a folder holds besides documents is reported.
mkdir links
ln -s ../sources links/sources
ln -s ../sources/file_1.py links/file_1.py
ln -s . links/loop
expect_error "left out: links (not followed; give their targets): 3" --input links "${arguments[@]}" --out new
cp sources/file_1.py links/notes.txt
expect_error "files of other names: 1" --input links "${arguments[@]}" --out new
cp sources/file_[2-5].py links
"$program" --input links "${arguments[@]}" --out of_links | grep -q "left out: links (not followed): 3, files of other names: 1" || fail "the program does not report links and files of other names"
grep -q '"links": 3' of_links/corpus.json || fail "corpus.json does not count links"
ln -s sources by_link
"$program" --input by_link "${arguments[@]}" --out of_by_link >/dev/null
same_corpus of_by_link

# Unreadable folders and files are named, or skipped.
mkdir -p guarded/secret && cp sources/*.py guarded && cp sources/file_1.py guarded/secret
as_other=()
((EUID != 0)) || as_other=(setpriv --reuid 65534 --regid 65534 --clear-groups)
chmod 000 guarded/secret
chmod 755 "$work"
mkdir -m 777 shared
if "${as_other[@]}" "$program" --help >/dev/null 2>&1 && ! "${as_other[@]}" ls guarded/secret >/dev/null 2>&1; then
  main=$program
  program() { "${as_other[@]}" "$main" "$@"; }
  program=program
  expect_other() { # <words> <arguments>...: expect_error of a program that is not root
    local words=$1 status=0
    shift
    program "$@" >stdout 2>stderr || status=$?
    [[ $status == 1 && $(wc -l <stderr) == 1 ]] || fail "$*: status $status, $(cat stderr)"
    grep -qF -- "$words" stderr || fail "$*: expected '$words', got: $(cat stderr)"
  }
  expect_other "guarded/secret cannot be read: Permission denied" --input guarded "${arguments[@]}" --out shared/new
  program --input guarded "${arguments[@]}" --skip-invalid --out shared/skipped >log
  grep -q " 1 unreadable" log || fail "an unreadable folder is not counted: $(cat log)"
  chmod 755 guarded/secret && chmod 000 guarded/file_2.py
  expect_other "guarded/file_2.py cannot be read: Permission denied" --input guarded "${arguments[@]}" --out shared/new
  program --input guarded "${arguments[@]}" --skip-invalid --out shared/without | grep -q " 1 unreadable" || fail "an unreadable file is not counted"
else
  echo "not tested: what may not be read, for want of another user to be"
fi
chmod -R u+rwX guarded

echo "prepare_corpus among files: all checks passed"
