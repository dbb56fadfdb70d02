"""Share out devices that belong to tenants: each device by itself, or a tenant's all together.

python tenants.py STORE-URL
"""

import signal
import sys
from typing import NamedTuple

import hashring


class Device(NamedTuple):
    tenant: str
    id: int


devices = [Device(f"tenant-{number % 20}", number) for number in range(400)]

# Devices of two tenants may have one number: the tenant is part of the key.
each = hashring.Keys(devices, key=lambda device: f"{device.tenant}/{device.id}")

# With the tenant for a key, one process has all of its devices: one login, one rate limit.
together = hashring.Keys(devices, key=lambda device: device.tenant)

if __name__ == "__main__":
    with hashring.join(sys.argv[1], "devices", wait=30) as partition:
        signal.signal(signal.SIGTERM, lambda *_: partition.stop())
        for cycle in partition.cycles(interval=2):
            for device in cycle.owned(each):
                print("each", cycle.window, device.tenant, device.id, partition.member)
            for device in cycle.owned(together):
                print("together", cycle.window, device.tenant, device.id, partition.member)
            sys.stdout.flush()
