"""What becomes of a coordinator where eventlet has replaced the threads, and where it has not."""

import sys


def start():
    """Start a coordinator on a URL, join a group and ask; print what became of it."""
    url, patched = sys.argv[1:]
    import eventlet

    if patched == "patched":
        eventlet.monkey_patch()

    import tooz
    from tooz import coordination

    coordinator = coordination.get_coordinator(url, b"green")
    try:
        coordinator.start()
        share = coordinator.join_partitioned_group(b"group")
        coordinator.run_watchers()
        owned = share.belongs_to_self("resource")
        coordinator.stop()
        sys.stdout.write(f"started, and it is mine: {owned}")
    except tooz.ToozError as error:
        sys.stdout.write(str(error))
