"""A page that any program can serve: its groups at a glance, in HTML and in JSON, and its metrics.

::

    from wsgiref.simple_server import make_server

    with hashring.join(url, "pollers") as partition, hashring.page.Page(partition) as page:
        make_server("127.0.0.1", 9465, page).serve_forever()    # or in any WSGI server

::

    /ring      the page; to whoever asks for JSON, the same as JSON (ring.schema.json)
    /ring?group=GROUP&key=KEY    whose a key is, as JSON
    /metrics   hashring.metrics, for Prometheus
    /livez     whether the process works
    /readyz    whether it takes part in all its groups
    /ring/acts where the page has a token: what was asked of late; POST below it: drain, evict,
               freeze, thaw

::

    status     what a process says of its groups: values
    history    what has happened between two looks
    watcher    looks four times a second, and remembers; asks no store anything
    wsgi       paths, methods, headers
    token      what whoever wants to change something has to know
    posts      who may ask for a change, and what
    steering   does what was asked, in threads
    ring.html  the page: one file, which loads nothing else

No GET changes anything.
"""

from __future__ import annotations

import contextlib
import json
import weakref
from importlib import resources
from typing import Any, Self

from hashring.errors import MissingDependency
from hashring.page.posts import Posts
from hashring.page.status import Event, GroupStatus, ProcessStatus
from hashring.page.steering import Steering
from hashring.page.token import Token
from hashring.page.watcher import Watcher
from hashring.page.wsgi import Routes
from hashring.partition.partition import Partition

__all__ = [
    "Event",
    "GroupStatus",
    "Page",
    "Posts",
    "ProcessStatus",
    "Routes",
    "Steering",
    "Token",
    "Watcher",
    "schema",
]


class Page(Routes):
    r"""The page of some partitions of this process: a WSGI application, while the block runs.

    Args:
        partitions: what is shown. They are neither kept nor left.
        registry: the ``prometheus_client.CollectorRegistry`` behind ``/metrics``, with whatever
            else it has; by default one with the metrics of these partitions. Without
            prometheus_client, ``/metrics`` says how to install it.
        token: whoever sends it may drain and evict members, and freeze and thaw the groups;
            ``None``: nobody may change anything here.

    Example:
        >>> import hashring
        >>> said = []
        >>> with hashring.join("memory://doc-page", "pollers", "a") as partition:
        ...     _ = partition.wait_settled(10)
        ...     with Page(partition) as page:
        ...         asked = {"REQUEST_METHOD": "GET", "PATH_INFO": "/readyz"}
        ...         page(asked, lambda status, headers: said.append(status))
        [b'ready\n']
        >>> said
        ['200 OK']
    """

    def __init__(
        self, *partitions: Partition, registry: Any = None, token: Token | None = None
    ) -> None:
        found = [weakref.ref(partition) for partition in partitions]
        self._watcher = Watcher(lambda: [one for ref in found if (one := ref()) is not None])
        self._steering = Steering(self._watcher.named)
        posts = None if token is None else Posts(token, self._steering)
        super().__init__(self._watcher, _metrics(partitions, registry), posts=posts)

    def __enter__(self) -> Self:
        self._watcher.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.closing(self._watcher):
            self._steering.close()


def _metrics(partitions: tuple[Partition, ...], registry: Any) -> Any:
    try:
        from hashring.metrics import prometheus
    except MissingDependency as error:
        return str(error)
    from prometheus_client import CollectorRegistry, make_wsgi_app

    if registry is None:
        registry = CollectorRegistry()
        for partition in partitions:
            prometheus.register(partition, registry)
    return make_wsgi_app(registry)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of ``/ring`` and of the agents' status file.

    >>> schema()["title"]
    'The status of a process that uses hashring'
    """
    text = resources.files("hashring.page").joinpath("ring.schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
