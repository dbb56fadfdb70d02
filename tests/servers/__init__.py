"""Real servers for the tests: each in a process and a folder of its own, on free loopback ports.

A server is a context manager: entering starts it and waits until it serves, leaving stops the one
process that it started and removes its folder::

    from tests.servers.redis import RedisServer

    with RedisServer() as server:
        connect(server.url)
        server.kill()  # kill -9
        server.start()  # the same port and folder

``install.sh`` installs what is missing from Debian's packages.
"""
