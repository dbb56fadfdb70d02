#!/bin/sh
# Run the core's and some drivers' tests on the machine's other Pythons, with warnings as errors.
#
#   tests/other_pythons.sh [VERSION-OF-OURS] [newest]     from the tree's root; nothing where there is no
#   other; "newest": on that one alone
#
# A minor version counts once, however many of it there are: pyenv's come first, then the PATH's. Each
# gets an environment of its own, .venv-pyX.Y, that is kept. These tests mostly wait for leases to end,
# so all versions' tests run beside each other, once every environment is made: what makes one writes
# the extensions' C sources and the list of entry points into the tree, where the tests read them.
set -eu

ours=${1:-}
which=${2:-all}
seen=" $ours "
found=
versions=
work=$(mktemp -d)
# Nobody's tests go on where somebody pressed Ctrl-C.
trap 'for pid in "$work"/*.pid; do test ! -e "$pid" || kill "$(cat "$pid")"; done; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Without the plain-Python engine's slow tests: it has no part that knows a Python's version.
run_tests() {
    exec "$1/bin/python" -m pytest --quiet --numprocesses=2 -p no:cacheprovider -k 'not reference' \
        tests/test_ring.py tests/test_ring_golden.py tests/test_view.py tests/test_windows.py \
        tests/protocol tests/drivers/test_memory.py tests/drivers/sqlite/test_suite.py \
        tests/drivers/sqlite/test_processes.py tests/drivers/sqlite/test_lost_files.py \
        tests/drivers/sqlite/test_bad_files.py tests/drivers/redis/test_suite.py::TestOneServer \
        --deselect tests/drivers/sqlite/test_processes.py::test_a_file_survives_writers_killed_at_any_moment
}

for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python \
    python3.11 python3.12 python3.13 python3.14; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in 3.[0-9] | 3.10) continue ;; esac
    case $seen in *" $version "*) continue ;; esac
    seen="$seen$version "
    found="$found $version=$python"
done
if [ "$which" = newest ]; then
    found=$(printf '%s\n' $found | sort -V | tail -n 1)
fi

for each in $found; do
    version=${each%%=*} python=${each#*=}
    folder=.venv-py$version
    if [ ! -e "$folder/.ready" ] || [ pyproject.toml -nt "$folder/.ready" ]; then
        "$python" -m venv --clear "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
        PYTHONWARNINGS=ignore "$folder/bin/python" -m pip install --quiet --editable '.[redis]' \
            pytest pytest-timeout pytest-xdist hypothesis filelock trustme
        touch "$folder/.ready"
    fi
    versions="$versions $version"
done

for version in $versions; do
    run_tests ".venv-py$version" >"$work/$version.log" 2>&1 &
    echo $! >"$work/$version.pid"
done

failed=
for version in $versions; do
    wait "$(cat "$work/$version.pid")" || failed="$failed $version"
    rm "$work/$version.pid"
    echo "Python $(".venv-py$version/bin/python" -c 'import platform; print(platform.python_version())')"
    cat "$work/$version.log"
done
test -z "$failed" || { echo "the tests failed on Python$failed" >&2; exit 1; }
