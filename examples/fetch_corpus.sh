#!/usr/bin/env bash
# Fetches a corpus: the Python sources of Debian packages, downloaded and unpacked, not installed.
#
#   examples/fetch_corpus.sh [--set NAME] [--out DIR]
#
# NAME is small (default: the standard library and four packages for data analysis, 29 MB of source) or scientific (the
# standard library and some 120 packages, 250 MB; packages that the release lacks are skipped).
# DIR (default: out/python-sources beside the repository's README) receives one folder per package with its *.py
# files, tests removed, and its copyright file, and sources.json with the version of every package. A complete DIR
# is left unchanged.
set -euo pipefail

# The packages of each set, without the prefix python3-, besides the standard library of this release's Python.
declare -A sets
sets[small]='pandas matplotlib sklearn seaborn'
sets[scientific]="
  anndata aplpy asdf ase astropy astroquery biopython bottleneck brian cartopy casacore ccdproc cclib cftime
  cogent3 csb cutadapt cvxopt dask datalad deeptools dendropy dipy distributed emcee ete3 fiona fluids folium
  fsspec gensim geopandas gffutils ginga glue guidata guiqwt gwcs hdmedians htseq hyperspy imageio intake
  ipykernel ipython joblib libpysal lmfit loompy matplotlib mdanalysis mdp mdtraj mne mpmath nbconvert neo netcdf4
  networkx nibabel nipype nitime nltk notebook numba numexpr numpy pandas parfive patsy photutils prody pulp
  pybigwig pydicom pyfai pymatgen pymca5 pynndescent pyopencl pyproj pyqtgraph pyranges pyregion pysam pysph pywt
  qutip rasterio rdkit regions reproject scikit-rf scipy seaborn shapely silx skbio skimage sklearn skorch sncosmo
  sparse spectral-cube specutils sqt statsmodels sunpy sympy tables tifffile torch torchaudio torchtext
  torchvision traits treetime vedo vispy xarray xgboost yt zarr"

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

out=$(realpath "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/..")/out/python-sources set=small
while (($#)); do
  case $1 in
    --set | --out)
      [[ -n ${2:-} ]] || fail "$1 needs a value; see --help."
      declare "${1#--}=$2"
      shift 2
      ;;
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) fail "unknown option '$1'; see --help." ;;
  esac
done
[[ -v sets[$set] ]] || fail "unknown set '$set'; choose small or scientific."

if [[ -f $out/sources.json ]]; then
  echo "$program: $out is complete, nothing to do."
  exit 0
fi
if [[ -e $out && ! (-d $out && -z $(ls -A "$out")) ]]; then
  fail "$out exists but has no sources.json, so this script did not write it; give another --out or remove it."
fi
for tool in apt-get apt-cache dpkg-deb; do
  command -v "$tool" >/dev/null ||
    fail "$tool is missing: the default corpus comes from Debian or Ubuntu packages; use your own files instead."
done

# The release's Python version is the one that the metapackage depends on; python3 itself need not be
# installed.
stdlib_packages() {
  local stdlib
  stdlib=$(apt-cache depends libpython3-stdlib 2>/dev/null | grep -om 1 'libpython3\.[0-9]*-stdlib') || true
  if [[ -z $stdlib ]] && command -v python3 >/dev/null; then
    stdlib="libpython$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')-stdlib"
  fi
  [[ -n $stdlib ]] && echo "$stdlib ${stdlib%-stdlib}-minimal"
}

work=$(mktemp -d)
mkdir -p "$(dirname "$out")"
staging=$(mktemp -d "$(dirname "$out")/.python-sources.XXXXXX")
trap 'rm -rf "$work" "$staging"' EXIT
mkdir "$work/debs"
log=$work/apt.log

# The packages of the set: all of the small one, and those of the large one that the package lists have.
packages_of_set() {
  local name
  for name in ${sets[$set]}; do
    if [[ $set == small ]] || apt-cache show "python3-$name" >/dev/null 2>&1; then echo "python3-$name"; fi
  done
}

# One attempt: everything is downloaded or the log says what failed. As root, apt's sandbox user cannot write here.
download() {
  local stdlib
  stdlib=$(stdlib_packages) || {
    echo "the package lists name no libpython3.x-stdlib" >>"$log"
    return 1
  }
  # shellcheck disable=SC2046,SC2086  # words on purpose
  (cd "$work/debs" && apt-get download -q -o APT::Sandbox::User=root $stdlib $(packages_of_set)) >>"$log" 2>&1
}

echo "$program: downloading the standard library and the packages of the set $set"
if ! download; then
  if ((EUID == 0)); then
    privileged=()
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    privileged=(sudo)
  else
    tail -n 5 "$log" >&2
    fail "the download failed; run 'apt-get update' as root and try again."
  fi
  echo "$program: refreshing the package lists"
  "${privileged[@]}" apt-get update -q >>"$log" 2>&1 || true
  download || {
    tail -n 5 "$log" >&2
    fail "the download failed; check the network and the apt sources."
  }
fi

separator=''
printf '{\n  "packages": [' >"$staging/sources.json"
for deb in "$work"/debs/*.deb; do
  package=$(dpkg-deb -f "$deb" Package)
  version=$(dpkg-deb -f "$deb" Version)
  root=$work/unpacked/$package
  mkdir -p "$root" "$staging/$package"
  dpkg-deb -x "$deb" "$root"
  find "$root" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
  (cd "$root" && find . -type f -name '*.py' -print0 | tar -cf - --null -T -) | tar -xf - -C "$staging/$package"
  cp "$root/usr/share/doc/$package/copyright" "$staging/$package/" 2>/dev/null || true
  files=$(find "$staging/$package" -type f -name '*.py' | wc -l)
  bytes=$(find "$staging/$package" -type f -name '*.py' -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')
  if ((files == 0)); then
    [[ $set != small ]] || fail "$package $version holds no Python file; this script expects the layout of Debian and Ubuntu."
    rm -r "${staging:?}/$package"
    continue
  fi
  printf '%s\n    {"package": "%s", "version": "%s", "files": %d, "bytes": %d}' \
    "$separator" "$package" "$version" "$files" "$bytes" >>"$staging/sources.json"
  separator=,
  echo "$program: $package $version: $files files, $bytes bytes"
done
printf '\n  ]\n}\n' >>"$staging/sources.json"

chmod 755 "$staging"
mv -T "$staging" "$out"
echo "$program: wrote $out"
