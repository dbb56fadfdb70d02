"""A target whose series are square waves, a real Prometheus for it, and a proxy that counts."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from contextlib import ExitStack
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import urllib3

from tests.servers.http import Answer, Asked, HTTPServer
from tests.servers.process import wait_until
from tests.servers.prometheus import PrometheusServer

SCRAPES = "500ms"


class Question(NamedTuple):
    """What the proxy was asked.

    Attributes:
        at: wall-clock seconds, when it came.
        number: of the series.
        window: by the time that it asks about; ``None`` where it asks about now.
    """

    at: float
    number: int
    window: int | None


class Waves:
    """Square waves, and who asks about them.

    Args:
        stack: ends what is started here.
        number: how many series there are.
        interval: seconds of a window; a series changes at the starts of windows alone.
        lag: seconds by which the time that is asked about lies before a window's start.

    Attributes:
        proxy: the server to be asked, in Prometheus's place.
        answers: for each series and window, what the first to ask was answered.
    """

    def __init__(self, stack: ExitStack, number: int, interval: float, lag: float) -> None:
        self.number, self.interval, self.lag = number, interval, lag
        self.target = stack.enter_context(HTTPServer())
        self.target.answer_with(
            "/metrics", lambda asked: Answer(self._exposition(), 200, "text/plain")
        )
        self.prometheus = PrometheusServer.scraping(
            {"waves": self.target.url.removeprefix("http://") + "/metrics"}, every=SCRAPES
        )
        stack.enter_context(self.prometheus)
        self._pool = urllib3.PoolManager(maxsize=128)
        stack.callback(self._pool.clear)
        self._lock = threading.Lock()
        self._questions: list[Question] = []
        self.answers: dict[tuple[int, int], float | None] = {}
        self.proxy = stack.enter_context(HTTPServer())
        self.proxy.answer_with("/api/v1/query", self._ask)
        wait_until(
            lambda: len(self.prometheus.ask("query", query="square")["result"]) == number,
            what="all series are scraped",
        )

    def window_of(self, at: float) -> int:
        return math.floor(at / self.interval + 1e-6)

    @property
    def questions(self) -> list[Question]:
        """All questions so far, in order."""
        with self._lock:
            return list(self._questions)

    def asked(self) -> Counter[tuple[int, int | None]]:
        """Return how often each series was asked about in each window."""
        return Counter((one.number, one.window) for one in self.questions)

    def _exposition(self) -> str:
        window = self.window_of(time.time())
        lines = ["# TYPE square gauge"]
        lines += [
            f'square{{number="{n}"}} {(window + n) // (2 + n % 3) % 2}' for n in range(self.number)
        ]
        return "\n".join([*lines, ""])

    def _ask(self, asked: Asked) -> Answer:
        form = parse_qs(urlsplit(asked.path).query or asked.body.decode())
        number = int(form["query"][0].partition('"')[2].rstrip('"}'))
        at = float(form["time"][0]) if "time" in form else None
        window = None if at is None else self.window_of(at + self.lag)
        with self._lock:
            self._questions.append(Question(asked.at, number, window))
        status, body = self._forward(asked)
        if window is not None:
            result = json.loads(body)["data"]["result"]
            with self._lock:
                self.answers.setdefault(
                    (number, window), float(result[0]["value"][1]) if result else None
                )
        return Answer(body, status)

    def _forward(self, asked: Asked) -> tuple[int, bytes]:
        answer = self._pool.request(
            asked.method,
            f"http://{self.prometheus.address}{asked.path}",
            body=asked.body or None,
            headers={"Content-Type": asked.headers.get("content-type", "text/plain")},
            timeout=30,
        )
        return answer.status, answer.data
