#!/bin/sh
# Puts ONNX Runtime where `fusiondp-site` finds it without any configuration:
#
#   ${XDG_CACHE_HOME:-$HOME/.cache}/fusiondp/onnxruntime/1.24.4/libonnxruntime.so.1.24.4
#
# usage: fetch.sh [--arch x86_64|aarch64] [--out DIR]
#
# The library comes out of the official Python wheel, which is the only download with a published hash that `pip` checks
# itself. Python and pip are needed once, here, and never by the site agent. A second run does nothing.
# A machine without Internet access: run this elsewhere with --out, carry the folder over, and name the library in
# site.toml ([imputer] onnx_runtime) or in ORT_DYLIB_PATH.
set -eu

version=1.24.4
library=libonnxruntime.so.$version

fail() {
    echo "fetch.sh: $1" >&2
    exit 1
}

arch=$(uname -m)
out=
while [ $# -gt 0 ]; do
    case $1 in
        --arch) [ $# -ge 2 ] || fail "--arch needs x86_64 or aarch64"; arch=$2; shift 2 ;;
        --out) [ $# -ge 2 ] || fail "--out needs a folder"; out=$2; shift 2 ;;
        -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "unknown argument '$1'; see fetch.sh --help" ;;
    esac
done

[ -n "$out" ] || [ "$arch" = "$(uname -m)" ] || fail "--arch $arch is not this machine's; name a folder with --out"
[ "$(uname -s)" = Linux ] || [ -n "$out" ] ||
    fail "only Linux libraries are fetched; install ONNX Runtime $version by hand and set ORT_DYLIB_PATH"
case $arch in
    x86_64 | amd64)
        arch=x86_64
        wheel_sha256=e54ad52e61d2d4618dcff8fa1480ac66b24ee2eab73331322db1049f11ccf330
        library_sha256=2d518e11c7767f9fdc4413bdbeb45acf30db504ff76a82fc19d9238a3f9f6c24
        ;;
    aarch64 | arm64)
        arch=aarch64
        wheel_sha256=046ff290045a387676941a02a8ae5c3ebec6b4f551ae228711968c4a69d8f6b7
        library_sha256=f373ae5fd4d878ed17ebea26e5480bd3d0a15e3bd6bc94b878e6c1b73998d22a
        ;;
    *) fail "no ONNX Runtime is pinned for the architecture '$arch'; use x86_64 or aarch64" ;;
esac
: "${out:=${XDG_CACHE_HOME:-${HOME:?set HOME or pass --out}/.cache}/fusiondp/onnxruntime/$version}"

sha256() {
    if command -v sha256sum > /dev/null; then sha256sum "$1" | cut -d ' ' -f 1; else shasum -a 256 "$1" | cut -d ' ' -f 1; fi
}

if [ -f "$out/$library" ] && [ "$(sha256 "$out/$library")" = "$library_sha256" ]; then
    echo "ONNX Runtime $version ($arch) is in place: $out/$library"
    exit 0
fi

command -v python3 > /dev/null || fail "python3 is not installed; install python3 and pip, or fetch on another machine with --out"
python3 -m pip --version > /dev/null 2>&1 || fail "python3 has no pip; install python3-pip, or fetch on another machine with --out"

mkdir -p "$(dirname "$out")"
# Beside the target, so that the last step is a rename within one file system.
work=$(mktemp -d "$(dirname "$out")/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM

echo "onnxruntime==$version --hash=sha256:$wheel_sha256" > "$work/requirements.txt"
# The stable part of the wheel is the C library, so the Python version asked for need not be the one installed.
python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --require-hashes --only-binary=:all: --no-deps \
    --platform "manylinux_2_28_$arch" --python-version 311 --abi cp311 --implementation cp \
    --dest "$work/wheel" --requirement "$work/requirements.txt" ||
    fail "the download failed (see above): a wrong hash is refused; without Internet access fetch on another machine with --out"

python3 - "$work" "$library" << 'PY' || fail "the wheel could not be unpacked; is there enough space beside $out?"
import pathlib
import sys
import zipfile

work, library = pathlib.Path(sys.argv[1]), sys.argv[2]
(wheel,) = (work / "wheel").glob("*.whl")
wanted = {
    f"onnxruntime/capi/{library}": library,
    "onnxruntime/LICENSE": "LICENSE",
    "onnxruntime/ThirdPartyNotices.txt": "ThirdPartyNotices.txt",
}
(work / "out").mkdir()
with zipfile.ZipFile(wheel) as archive:
    for member, name in wanted.items():
        (work / "out" / name).write_bytes(archive.read(member))
PY

actual=$(sha256 "$work/out/$library")
[ "$actual" = "$library_sha256" ] || fail "the unpacked library has sha256 $actual, expected $library_sha256; nothing was installed"

chmod 755 "$work/out" "$work/out/$library"
if [ -d "$out" ]; then
    # An earlier, damaged or partial folder: replace file by file, the library last.
    for name in LICENSE ThirdPartyNotices.txt "$library"; do mv -f "$work/out/$name" "$out/$name"; done
else
    mv "$work/out" "$out"
fi
echo "ONNX Runtime $version ($arch) installed: $out/$library"
