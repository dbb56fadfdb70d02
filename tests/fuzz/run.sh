#!/bin/sh
# Fuzzes the engine for $1 seconds (60): needs clang (Debian: clang-14) and `pip install atheris`
# in .venv. The instrumented engine lives in a folder of its own; the tree is not touched.
set -eu
tree=$(cd "$(dirname "$0")/../.." && pwd)
python=$tree/.venv/bin/python
clang=${CLANG:-$(command -v clang || command -v clang-14)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$tree/hashring" "$work/hashring"
rm -f "$work"/hashring/ring/*.so
"$tree/.venv/bin/cython" -3 "$work/hashring/ring/_engine.pyx" -o "$work/_engine.c"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
"$clang" -g -O1 -fPIC -shared -fno-omit-frame-pointer -fsanitize=address,fuzzer-no-link \
    -I"$include" "$work/_engine.c" -o "$work/hashring/ring/_engine$suffix"
preload=$("$python" -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so
cd "$work"
mkdir corpus
# Python keeps memory until it exits, so leaks are the tests' to find. A wrong allocation size
# must raise MemoryError, as it would without the sanitizer.
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONMALLOC=malloc \
    PYTHONPATH=$work "$python" "$tree/tests/fuzz/fuzz_engine.py" corpus \
    -max_total_time="${1:-60}" -max_len=4096 -print_final_stats=1
