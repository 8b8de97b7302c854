#!/usr/bin/env bash
# ONNX Runtime's C++ headers from Debian's libonnxruntime-dev, into PREFIX/include/onnxruntime.
#
#     bash tools/shell/onnxruntime_headers.sh PREFIX
#
# Debian has the package from 13 (trixie) on. An older Debian takes the headers alone from 13's, with
# lists of its own, so that apt's stay as they are; the library is the one in pip's onnxruntime.
set -euo pipefail
prefix="$(realpath "${1:?usage: onnxruntime_headers.sh PREFIX}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p lists/partial cache/archives/partial

site="$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | grep -v security | head -1)"
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] ${site:?apt has no lists of Debian: apt-get update} trixie main" >list
apt() {
    apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::SourceParts=- \
        -o Dir::Etc::SourceList="$work/list" -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
}
apt update
apt download libonnxruntime-dev
dpkg-deb --extract libonnxruntime-dev_*.deb package
mkdir -p "$prefix/include"
cp -r package/usr/include/onnxruntime "$prefix/include/"
