"""The conformance suite's faults, where a store is one server of ours."""

from __future__ import annotations

from typing import Any

from hashring.testing import DriverSuite


class OneServerSuite(DriverSuite):
    """The suite on one server, which it kills, starts, pauses and resumes.

    A subclass's ``url`` fixture sets ``server``.
    """

    server: Any

    def stop_server(self) -> None:
        self.server.kill()

    def start_server(self) -> None:
        self.server.start()

    def pause_server(self) -> None:
        self.server.pause()

    def resume_server(self) -> None:
        self.server.resume()
