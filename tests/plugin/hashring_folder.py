"""``folder:///path``: each group of members in one file of a folder, under a file lock.

The smallest driver that keeps every promise of :class:`hashring.driver.Driver`, for the processes
of one host. A group's file is JSON and is replaced as a whole, so a crash at any moment leaves
the old one or the new one.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import math
import threading
import time
from pathlib import Path

from hashring.driver import Driver, Option, Reading, check_names, check_record, incarnation_of
from hashring.errors import BadURL


def _seconds(text):
    value = float(text)
    if not 0.001 <= value <= 10:
        raise ValueError("must lie between 0.001 and 10 seconds")
    return value


def _now():
    # Runs on while the machine sleeps, and no administrator can set it.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class FolderDriver(Driver):
    """Groups as files. A reboot ends every lease, for the files carry the kernel's boot id."""

    promise = "processes of one host, on plain files; never forgets; leases end with a reboot"
    options = (Option("poll", _seconds, 0.02, "seconds between two looks at a file in wait()"),)

    def __init__(self, url, *, ttl):
        super().__init__(url, ttl=ttl)
        if url.hosts or url.user or url.secret or not url.path.strip("/"):
            raise BadURL(f"{url}: name a folder by its absolute path: folder:///var/lib/agent")
        self._folder = Path(url.path)
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._own = {}  # (group, member) -> incarnation: what heartbeat() renews
        self._seen = {}  # group -> what its file was at the last read
        self._guard = threading.Lock()  # of the two above, as heartbeat() has a thread of its own
        self._closed = threading.Event()
        self._closed.set()

    # -- life

    def open(self):
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.unavailable("open", error) from error
        self._closed.clear()

    def close(self):
        self._closed.set()  # wakes up wait()

    # -- the lease

    def join(self, group, member, record):
        check_names(group, member)
        check_record(record)
        incarnation = incarnation_of(record)
        with self._changing(group) as leases:
            lease = leases.get(member)
            if lease and (lease["token"], lease["incarnation"]) != (self.token, incarnation):
                raise self.member_exists(group, member)
            leases[member] = {
                "token": self.token,
                "incarnation": incarnation,
                "expires": _now() + self.ttl,
                "record": base64.b85encode(record).decode(),
            }
        with self._guard:
            self._own[group, member] = incarnation

    def heartbeat(self):
        if self._closed.is_set():
            raise self.not_open()
        with self._guard:
            own = dict(self._own)
        lost = []
        for group in {group for group, _ in own}:
            with self._changing(group) as leases:
                for (of, member), incarnation in own.items():
                    if of != group:
                        continue
                    if self._is_mine(leases.get(member), incarnation):
                        leases[member]["expires"] = _now() + self.ttl
                    else:
                        lost.append((group, member))
        with self._guard:
            # What the other thread left or joined anew meanwhile is not lost.
            lost = [key for key in lost if key in self._own and self._own[key] == own[key]]
        if lost:
            raise self.lease_lost(*lost)

    def leave(self, group, member):
        check_names(group, member)
        with self._guard:
            self._own.pop((group, member), None)
        with self._changing(group) as leases:
            if leases.get(member, {}).get("token") == self.token:
                del leases[member]

    # -- records

    def publish(self, group, member, record):
        check_names(group, member)
        check_record(record)
        with self._changing(group) as leases:
            if not self._is_mine(leases.get(member), incarnation_of(record)):
                raise self.lease_lost((group, member))
            leases[member]["record"] = base64.b85encode(record).decode()

    def read(self, group):
        check_names(group)
        # Under the lock, since _changing drops what ran out: what one reader saw as gone, no
        # heartbeat brings back.
        with self._changing(group) as leases:
            self._seen[group] = self._stamp(group)
            records = {
                member: base64.b85decode(lease["record"]) for member, lease in leases.items()
            }
        return Reading(records, math.inf)

    def wait(self, group, timeout):
        check_names(group)
        if self._closed.is_set():
            raise self.not_open()
        deadline = _now() + timeout
        while self._seen.get(group) == self._stamp(group):
            left = deadline - _now()
            if left <= 0 or self._closed.wait(min(left, self.settings["poll"])):
                return

    # -- files

    @contextlib.contextmanager
    def _changing(self, group):
        """Lock a group's file, hand out its living leases, and write them back if they changed."""
        if self._closed.is_set():
            raise self.not_open()
        path = self._path(group)
        try:
            with path.with_suffix(".lock").open("a") as lock:
                self._acquire(lock)  # until the file is closed
                try:
                    found = json.loads(path.read_text())
                except FileNotFoundError:
                    found = {"boot": self._boot, "leases": {}}
                now = _now()
                leases = {
                    member: dict(lease)
                    for member, lease in found["leases"].items()
                    if found["boot"] == self._boot and lease["expires"] > now
                }
                yield leases
                if leases != found["leases"]:
                    new = path.with_suffix(".new")
                    new.write_text(json.dumps({"boot": self._boot, "leases": leases}))
                    new.replace(path)
        except (OSError, ValueError) as error:
            raise self.unavailable(f"group {group!r}", error) from error

    def _acquire(self, lock):
        deadline = time.monotonic() + self.settings["timeout"]
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def _path(self, group):
        # An id may be longer than a file name, or read "../..": its hash is neither.
        return self._folder / f"{hashlib.sha256(group.encode()).hexdigest()}.json"

    def _stamp(self, group):
        try:
            status = self._path(group).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _is_mine(self, lease, incarnation):
        return bool(lease) and (lease["token"], lease["incarnation"]) == (self.token, incarnation)
