"""What members have, how they share it, and how they leave."""

import subprocess
import sys

import pytest

import hashring
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.errors import MemberExists, StoreUnavailable
from tests.partition.embedded.members import KEYS, TTL, Flaky, settled, until


def test_members_share_the_keys_and_none_is_held_twice(join):
    partitions = [join(name) for name in "abc"]
    until(lambda: all(len(p.members) == 3 and p.state == "settled" for p in partitions))

    shares = [partition.owned(KEYS) for partition in partitions]

    assert sorted(key for share in shares for key in share) == sorted(KEYS)
    assert all(
        partition.owns(key)
        for partition, share in zip(partitions, shares, strict=True)
        for key in share
    )
    assert dict(partitions[0].members) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert len({partition.view_id for partition in partitions}) == 1


def test_weights_divide_the_slots(join):
    light, heavy = join("light"), join("heavy", weight=3.0)
    until(lambda: len(light.members) == len(heavy.members) == 2)
    settled(light, heavy)

    assert 0.2 < len(light.held) / 65536 < 0.3


def test_leaving_the_block_drains(join, url):
    stays = join("stays")
    settled(stays)

    with hashring.join(url, "group", "goes", ttl=TTL) as goes:
        until(lambda: len(stays.members) == 2)
        settled(stays, goes)
        assert len(stays.held) < 65536

    assert goes.state == "left"
    assert "goes" not in until(lambda: stays.records.keys() == {"stays"} and stays.records)
    settled(stays)
    assert len(stays.held) == 65536


def test_the_same_member_twice_is_refused_and_the_first_goes_on(join):
    first = join("a")

    with pytest.raises(MemberExists, match="a"):
        join("a")

    settled(first)
    assert len(first.held) == 65536


def test_a_killed_process_frees_its_id_when_its_lease_has_run_out(tmp_path):
    url = f"sqlite://{tmp_path}/group.db?ttl=6"  # longer than the machine stands still
    holder = subprocess.Popen(
        [sys.executable, "-c", "import hashring, sys, time\n"
         "with hashring.join(sys.argv[1], 'group', 'a') as p:\n"
         "    p.wait_settled(); print('held', flush=True); time.sleep(60)", url],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(MemberExists, match="a"):
            hashring.join(url, "group", "a")
        holder.kill()

    def again():
        try:
            return hashring.join(url, "group", "a")
        except MemberExists:
            return None

    with until(again) as partition:
        settled(partition)
        assert len(partition.held) == 65536


def test_a_join_whose_answer_is_lost_leaves_no_ghost(url):
    class LosesTheAnswer(Flaky):
        def join(self, group, member, record):
            super().join(group, member, record)
            raise StoreUnavailable("the answer was lost")

    with pytest.raises(StoreUnavailable):
        hashring.join(LosesTheAnswer(DriverURL.parse(url), ttl=5.0), "group", "a")

    looker = MemoryDriver(DriverURL.parse(url), ttl=5.0)
    looker.open()
    assert looker.read("group").records == {}
    looker.close()
