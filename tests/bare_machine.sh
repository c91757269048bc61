#!/usr/bin/env bash
# Runs the README's commands on a bare Debian: a minimal tree made by debootstrap, with a fresh clone of this
# checkout's HEAD in it. Prints how many tests ran.
#
#   tests/bare_machine.sh [--release NAME] [--user NAME] [--keep] [--tree DIR] [--copy FILE] [COMMAND...]
#
#   --release NAME  bookworm (Debian 12, default) or trixie (Debian 13), or another one that debootstrap knows
#   --user NAME     who runs them: root (default), or a user of that name who may use sudo
#   --tree DIR      where the tree goes (default: a temporary folder); about 5 GB with everything built
#   --keep          leave the tree there, to look at; a tree that is already there is used as it is
#   --copy FILE     a file that is put beside README.md in the clone
#   COMMAND...      what is run, each one a word, in this order (default: 'examples/reproduce.sh --scale smoke'
#                   tests/run.sh)
#
# Needs root, debootstrap, and the packages of that release from the mirror in MIRROR
# (default http://deb.debian.org/debian). This machine's apt settings, such as a proxy, also apply in the
# tree.
set -euo pipefail

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

project=$(realpath "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/..")
release=bookworm user=root tree='' keep='' copy=''
while (($#)); do
  case $1 in
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --*=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}"
      continue
      ;;
    --keep)
      keep=1
      shift
      ;;
    --release | --user | --tree | --copy)
      [[ -n ${2:-} ]] || fail "$1 needs a value; see --help."
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    -*) fail "unknown option '$1'; see --help." ;;
    *) break ;;
  esac
done
(($#)) || set -- 'examples/reproduce.sh --scale smoke' tests/run.sh
((EUID == 0)) || fail "a tree can only be made and entered by root."
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
[[ $user =~ ^[a-z][a-z0-9]*$ ]] || fail "--user '$user' is not a name for a user."

own_tree=''
if [[ -z $tree ]]; then
  tree=$(mktemp -d /var/tmp/bare-XXXXXX)
  chmod 755 "$tree" # every user of the tree must be able to pass its root folder
  own_tree=1
fi
mounted=()
clean_up() {
  local process point
  for process in /proc/[0-9]*; do
    [[ $(readlink "$process/root") != "$(realpath "$tree")" ]] || kill -KILL "${process##*/}" || true
  done 2>/dev/null
  for point in "${mounted[@]}"; do umount -l "$point"; done
  # Only a tree without mounts is removed, since mounts in it belong to this machine.
  if [[ -n $own_tree && -z $keep ]] && ! grep -q " $tree/" /proc/mounts; then rm -rf --one-file-system "$tree"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if [[ ! -x $tree/usr/bin/apt-get ]]; then
  echo "$program: making a bare $release in $tree"
  debootstrap --variant=minbase "$release" "$tree" "${MIRROR:-http://deb.debian.org/debian}" >"$tree.log" 2>&1 ||
    fail "debootstrap failed; see $tree.log."
  rm -f "$tree.log"
  cp /etc/resolv.conf "$tree/etc/resolv.conf"
  cp /etc/apt/apt.conf.d/99* "$tree/etc/apt/apt.conf.d/" 2>/dev/null || true
fi
for point in proc dev dev/pts; do
  mount --bind "/$point" "$tree/$point"
  mounted=("$tree/$point" "${mounted[@]}")
done
# All users can write there on a running system, and clang's OpenMP does.
mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
mounted=("$tree/dev/shm" "${mounted[@]}")

home=/root
if [[ $user != root ]]; then
  home=/home/$user
  chroot "$tree" sh -c 'apt-get -q update && apt-get -q -y install --no-install-recommends sudo' >/dev/null 2>&1 ||
    fail "sudo could not be installed in the tree."
  chroot "$tree" useradd --create-home --shell /bin/bash "$user" 2>/dev/null || [[ -d $tree$home ]] ||
    fail "the user $user could not be added to the tree."
  echo "$user ALL=(ALL) NOPASSWD: ALL" >"$tree/etc/sudoers.d/$user"
fi
rm -rf "$tree$home/lnfree"
git clone -q "$project" "$tree$home/lnfree"
[[ -z $copy ]] || cp "$copy" "$tree$home/lnfree/" || fail "there is no file $copy."
chroot "$tree" chown -R "$user:" "$home/lnfree"

# in_tree COMMAND: as after a login there, without this machine's environment.
in_tree() {
  chroot "$tree" env -i HOME="$home" USER="$user" TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --reuid="$user" --regid="$user" --init-groups \
    bash -c 'cd && cd lnfree && exec bash -c "$1"' _ "$1"
}

status=0
for command; do
  echo "$program: $release, $user: $command"
  started=$SECONDS
  in_tree "$command" </dev/null & # in the background, so that a signal is handled at once
  wait "$!" || status=$?
  echo "$program: $release, $user: $command ended with status $status after $((SECONDS - started)) s"
  ((status == 0)) || break
done
exit "$status"
