"""Prometheus for the tests: one server that scrapes what a test serves."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.servers.process import LOOPBACK, Server, program


class PrometheusServer(Server):
    """A ``prometheus`` that scrapes targets five times a second.

    Args:
        targets: by the names of their jobs, ``host:port/path``.
    """

    def __init__(self, targets: Mapping[str, str]) -> None:
        super().__init__()
        jobs = [
            {
                "job_name": name,
                "metrics_path": f"/{target.partition('/')[2]}",
                "static_configs": [{"targets": [target.partition("/")[0]]}],
            }
            for name, target in targets.items()
        ]
        config = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": jobs,
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def command(self) -> list[str]:
        return [
            program("prometheus", "prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
        ]

    def ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=1) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def ask(self, path: str, **query: str) -> Any:
        """Ask its API, and return the data."""
        url = f"http://{self.address}/api/v1/{path}?{urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def health(self) -> dict[str, tuple[str, str]]:
        """Return the health of each job's target, and its last error."""
        return {
            found["labels"]["job"]: (found["health"], found["lastError"])
            for found in self.ask("targets")["activeTargets"]
        }

    def series(self, job: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Return the values of what a job's target exposes, by name and labels."""
        own = {"__name__", "job", "instance"}
        return {
            (
                found["metric"]["__name__"],
                tuple(sorted(item for item in found["metric"].items() if item[0] not in own)),
            ): float(found["value"][1])
            for found in self.ask("query", query=f'{{job="{job}"}}')["result"]
            if not found["metric"]["__name__"].startswith(("scrape_", "up"))
        }

    def types(self, job: str) -> dict[str, str]:
        """Return the types of a job's metrics, by name."""
        found = self.ask("targets/metadata", match_target=f'{{job="{job}"}}')
        return {each["metric"]: each["type"] for each in found}
