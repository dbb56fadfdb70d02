#!/bin/sh
# Runs the tests of the agents' extensions on builds with AddressSanitizer and
# UndefinedBehaviorSanitizer (gcc), in a copy of the tree. sanitize.sh does so for the engine.
set -eu
tree=$(cd "$(dirname "$0")/../.." && pwd)
python=$tree/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$tree/hashring" "$tree/bench" "$tree/tests" "$tree/pyproject.toml" "$work"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
for name in model/_lines sources/web/_exposition sources/web/_messages; do
    source=$work/hashring/telemetry/$name
    rm -f "$source"*.so
    "$tree/.venv/bin/cython" -3 "$source.pyx" -o "$source.c"
    gcc -g -O1 -fwrapv -fPIC -shared -fno-omit-frame-pointer -fsanitize=address,undefined \
        -fno-sanitize-recover=undefined -I"$include" "$source.c" -o "$source$suffix"
done
cd "$work"
# PYTHONMALLOC=malloc: each object is an allocation that the sanitizer can watch.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    PYTHONMALLOC=malloc PYTHONPATH=$work "$python" -m pytest -q -p no:cacheprovider -m 'not long' \
    tests/telemetry/test_batch.py tests/telemetry/test_exposition_series.py \
    tests/telemetry/test_new_series.py tests/telemetry/test_native_histograms.py \
    tests/telemetry/test_exposition_messages.py "$@"
