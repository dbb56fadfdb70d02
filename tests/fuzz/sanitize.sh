#!/bin/sh
# Runs the engine's and the ring's tests on an engine built with AddressSanitizer and
# UndefinedBehaviorSanitizer (gcc). It lives in a folder of its own; the tree is not touched.
set -eu
tree=$(cd "$(dirname "$0")/../.." && pwd)
python=$tree/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$tree/hashring" "$tree/tests" "$tree/pyproject.toml" "$work"
rm -f "$work"/hashring/ring/*.so
"$tree/.venv/bin/cython" -3 "$work/hashring/ring/_engine.pyx" -o "$work/_engine.c"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
gcc -g -O1 -fPIC -shared -fno-omit-frame-pointer -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined -I"$include" "$work/_engine.c" -o "$work/hashring/ring/_engine$suffix"
cd "$work"
# PYTHONMALLOC=malloc: each object is an allocation that the sanitizer can watch. Python keeps
# memory until it exits, so leaks are the tests' to find. The plain twin has no C of ours.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
    PYTHONMALLOC=malloc PYTHONPATH=$work "$python" -m pytest -q -p no:cacheprovider \
    tests/test_engine.py tests/test_engine_properties.py tests/test_engine_arrays.py \
    tests/test_engine_robustness.py tests/test_ring.py tests/test_ring_golden.py \
    -k 'not leak_nothing and not reference' "$@"
