"""A Prometheus of Debian's: what it makes of files of targets, and of what targets expose."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlencode

from tests.servers.process import Server, program


class PrometheusServer(Server):
    """One server; use :meth:`scraping` or :meth:`discovering`.

    Args:
        interval: between two scrapes of a target, as Prometheus writes it.
        jobs: its ``scrape_configs``.
    """

    def __init__(self, interval: str, jobs: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._program = program("prometheus", "prometheus")
        self._more: list[str] = []
        configuration = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": jobs,
        }
        # JSON is YAML.
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration))

    @classmethod
    def scraping(cls, targets: Mapping[str, str], *, every: str = "1s") -> PrometheusServer:
        """Return one that scrapes targets.

        Args:
            targets: by the names of their jobs, ``host:port/path``.
            every: the interval, which is also the time that a target has to answer.
        """
        return cls(
            every,
            [
                {
                    "job_name": name,
                    "metrics_path": f"/{target.partition('/')[2]}",
                    "static_configs": [{"targets": [target.partition("/")[0]]}],
                }
                for name, target in targets.items()
            ],
        )

    @classmethod
    def receiving(cls) -> PrometheusServer:
        """Return one that scrapes nothing, and takes what is written to it (remote write)."""
        found = cls("1h", [])
        found._more.append("--web.enable-remote-write-receiver")
        return found

    @classmethod
    def discovering(cls, patterns: Mapping[str, str]) -> PrometheusServer:
        """Return one that scrapes nothing: what it would scrape, and why not, is what is asked for.

        Args:
            patterns: of the files of targets (``file_sd_configs``), by the names of their jobs.
        """
        return cls(
            "1h",
            [
                {
                    "job_name": name,
                    "file_sd_configs": [{"files": [pattern], "refresh_interval": "1s"}],
                }
                for name, pattern in patterns.items()
            ],
        )

    def with_rules(self, name: str, *, every: str) -> Self:
        """Let it evaluate a file of rules in its folder, before it is started; return itself."""
        path = self.folder / "prometheus.yml"
        found = json.loads(path.read_text())
        found["rule_files"] = [name]
        found["global"]["evaluation_interval"] = every
        path.write_text(json.dumps(found))
        return self

    def with_feature(self, name: str) -> Self:
        """Let it have a feature that is off by default, before it is started; return itself."""
        self._more.append(f"--enable-feature={name}")
        return self

    def command(self) -> list[str]:
        return [
            self._program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            *self._more,
        ]

    def ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=10) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def ask(self, path: str, **query: str) -> Any:
        """Ask its API, and return the data."""
        url = f"http://{self.address}/api/v1/{path}?{urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]

    def targets(self) -> dict[str, list[tuple[str, dict[str, str]]]]:
        """Return what it scrapes: URL and labels, by job; without those that it adds itself."""
        found: dict[str, list[tuple[str, dict[str, str]]]] = {}
        for target in self.ask("targets", state="active")["activeTargets"]:
            labels: dict[str, Any] = dict(target["labels"])
            before = target["discoveredLabels"]
            for name, own in (("job", target["scrapePool"]), ("instance", before["__address__"])):
                if name not in before or before[name] == own:
                    labels.pop(name)
            found.setdefault(target["scrapePool"], []).append((target["scrapeUrl"], labels))
        return found

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
