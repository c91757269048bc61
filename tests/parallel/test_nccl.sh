#!/usr/bin/env bash
# Ranks find each other in every way that Nccl offers, or get a reason if they cannot.
#
#   test_nccl.sh MPIRUN NCCL_RANKS
set -euo pipefail

program=$2
launch=("$1")
[[ $("$1" --version) == *HYDRA* ]] || launch+=(--oversubscribe --allow-run-as-root)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export LNFREE_RENDEZVOUS=$folder/rendezvous

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# refuses RANKS TEXT: the program says so and fails.
refuses() {
  local output
  if output=$("${launch[@]}" -n "$1" "$program" environment 2>&1); then fail "the program succeeded where it should refuse with '$2'"; fi
  [[ $output == *"$2"* ]] || fail "expected '$2', got: $output"
}

for ranks in 1 2 4; do
  "${launch[@]}" -n "$ranks" "$program" mpi || fail "$ranks ranks could not find each other by MPI"
  "${launch[@]}" -n "$ranks" "$program" environment || fail "$ranks ranks could not find each other through a file"
done
LNFREE_RENDEZVOUS=127.0.0.1:5555 "${launch[@]}" -n 2 "$program" environment || fail "2 ranks could not find each other at an address"

FAKE_GPUS=2 refuses 3 "rank 2 is number 2 on its machine, which has 2 GPUs: start one process for each GPU"
[[ ! -e $LNFREE_RENDEZVOUS ]] || rm "$LNFREE_RENDEZVOUS"
FAKE_GPUS=0 refuses 1 "no CUDA device can be used"
touch "$LNFREE_RENDEZVOUS"
refuses 2 "exists already: it is of a run that did not begin; remove it"
unset LNFREE_RENDEZVOUS
refuses 2 "does not know where to meet the others: set LNFREE_RENDEZVOUS"
