"""A process that forks: the child holds nothing and hangs nowhere."""

import contextlib
import os
import threading
import time

from hashring.errors import LeaseLost
from tests.partition.embedded.members import KEYS, settled


def test_a_fork_holds_nothing(join):
    a = join("a")
    settled(a)

    child = os.fork()
    if child == 0:
        os._exit(0 if not a.owned(KEYS) and a.drain(0) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert a.owned(KEYS) == KEYS


def test_a_fork_while_the_lock_is_held_hangs_nowhere(join):
    a = join("a")
    settled(a)

    with a._membership.lock:
        child = os.fork()
        if child == 0:
            threading.Thread(target=_exit_if_all_end, args=(a,)).start()
            time.sleep(30)
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _exit_if_all_end(partition):
    assert partition.state == "left"
    assert not partition.wait_settled(5)
    with contextlib.suppress(LeaseLost):
        partition.cycles(1)
        os._exit(2)
    with contextlib.suppress(LeaseLost), partition.cycle():
        os._exit(3)
    partition.leave()
    os._exit(0)
