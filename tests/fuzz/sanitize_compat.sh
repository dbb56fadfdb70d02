#!/bin/sh
# Runs the tests of hashring.compat on its extension built with AddressSanitizer and
# UndefinedBehaviorSanitizer (gcc), in a copy of the tree. sanitize.sh does so for the engine.
set -eu
tree=$(cd "$(dirname "$0")/../.." && pwd)
python=$tree/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$tree/hashring" "$tree/pyproject.toml" "$work"
mkdir "$work/tests"
cp "$tree"/tests/test_compat_*.py "$work/tests"
rm -f "$work"/hashring/compat/*.so
source=$work/hashring/compat/_toozring
"$tree/.venv/bin/cython" -3 "$source.pyx" -o "$source.c"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
gcc -g -O1 -fwrapv -fPIC -shared -fno-omit-frame-pointer -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined -I"$include" "$source.c" -o "$source$suffix"
cd "$work"
# PYTHONMALLOC=malloc: each object is an allocation that the sanitizer can watch.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    PYTHONMALLOC=malloc PYTHONPATH=$work "$python" -m pytest -q -p no:cacheprovider tests \
    -k 'not keep_no_memory and not hundred_thousand' "$@"
