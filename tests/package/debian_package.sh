#!/usr/bin/env bash
# Builds the Debian package, checks it with lintian, installs it on a bare Debian and builds two programs
# there, with CMake and with pkg-config. The programs come from the last commit, the package from the working
# tree.
#
#   tests/package/debian_package.sh [--release NAME] [--tree DIR]
#
#   --release NAME, --tree DIR   as for tests/bare_machine.sh, whose other needs are those of this script, too
set -euo pipefail

case ${1:-} in
  -h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cmake -S . -B "$build" -D LNFREE_BUILD_EXAMPLES=OFF -D LNFREE_BUILD_TESTS=OFF >"$build/log"
cpack -G DEB --config "$build/CPackConfig.cmake" -B "$build" >>"$build/log"
package=$(echo "$build"/liblnfree-dev_*_all.deb)
name=${package##*/}

install='apt-get -q -y install --no-install-recommends'
tests/bare_machine.sh "$@" --copy "$package" \
  "apt-get -q update && $install lintian && lintian --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs $name" \
  "$install ./$name && dpkg -s liblnfree-dev" \
  "$install g++ cmake make pkg-config" \
  'cmake -S examples/consumer -B build/consumer -D CMAKE_BUILD_TYPE=Release && cmake --build build/consumer' \
  build/consumer/my_program \
  'g++ -O2 examples/quickstart.cpp $(pkg-config --cflags --libs lnfree) -o build/quickstart && build/quickstart' \
  'apt-get -q -y remove liblnfree-dev && test ! -e /usr/include/lnfree && test ! -e /usr/share/cmake/lnfree'
