"""What becomes of a coordinator where eventlet has replaced the threads, and where it has not."""

import sys


def start():
    """Start a coordinator on a URL; print "started", or why it is not."""
    url, patched = sys.argv[1:]
    import eventlet

    if patched == "patched":
        eventlet.monkey_patch()

    import tooz
    from tooz import coordination

    coordinator = coordination.get_coordinator(url, b"green")
    try:
        coordinator.start()
        coordinator.stop()
        sys.stdout.write("started")
    except tooz.ToozError as error:
        sys.stdout.write(str(error))
