#!/bin/sh
# Run the core's and some drivers' tests on the machine's other Pythons, with warnings as errors.
#
#   tests/other_pythons.sh [VERSION-OF-OURS]      from the tree's root; nothing where there is no other
#
# A minor version counts once, however many of it there are: pyenv's come first, then the PATH's. Each
# gets an environment of its own, .venv-pyX.Y, that is kept.
set -eu

ours=${1:-}
seen=" $ours "
for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python \
    python3.11 python3.12 python3.13 python3.14; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in 3.[0-9] | 3.10) continue ;; esac
    case $seen in *" $version "*) continue ;; esac
    seen="$seen$version "
    folder=.venv-py$version
    if [ ! -e "$folder/.ready" ] || [ pyproject.toml -nt "$folder/.ready" ]; then
        "$python" -m venv --clear "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
        PYTHONWARNINGS=ignore "$folder/bin/python" -m pip install --quiet --editable '.[redis]' \
            pytest pytest-timeout pytest-xdist hypothesis filelock trustme
        touch "$folder/.ready"
    fi
    echo "Python $("$python" -c 'import platform; print(platform.python_version())')"
    # Without the plain-Python engine's slow tests: it has no part that knows a Python's version.
    "$folder/bin/python" -m pytest --quiet --numprocesses=2 -p no:cacheprovider -k 'not reference' \
        tests/test_ring.py tests/test_ring_golden.py tests/test_view.py tests/test_windows.py \
        tests/test_handoff.py tests/drivers/test_memory.py tests/drivers/test_sqlite.py \
        tests/drivers/test_redis.py::TestOneServer \
        --deselect tests/drivers/test_sqlite.py::test_a_file_survives_writers_killed_at_any_moment
done
