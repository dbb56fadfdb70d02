"""How long does a ring take to build, from the list of members to the first answer?"""

import time

import pytest

from bench import contenders


def cases(full):
    names = [name for name, contender in contenders.BY_NAME.items() if contender.one]
    sizes = (16, 200, 1_000, 10_000) if full else (16, 1_000)
    return [f"{size}-{name}" for size in sizes for name in names]


def test_build(benchmark, case):
    size, _, name = case.partition("-")
    contender = contenders.BY_NAME[name]
    members = contenders.members(int(size))
    key = contender.one_key("any key")

    def build():
        # Some build only when first asked.
        contender.one(contender.build(members))(key)

    began = time.process_time()
    try:
        build()
    except contenders.PeerMissing as error:
        pytest.fail(str(error))
    took = time.process_time() - began
    benchmark.group = f"build/{size}"
    benchmark.name = name
    benchmark.extra_info.update(form="build", members=int(size), name=name)
    benchmark.pedantic(build, rounds=max(1, min(30, int(0.8 / max(took, 1e-9)))))
