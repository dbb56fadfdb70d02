"""A Prometheus of Debian's, which tells what it would make of a configuration and its files."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.servers.process import Server, program


class Prometheus(Server):
    """One server. It scrapes nothing: what it would scrape, and why not, is what is asked for.

    Args:
        jobs: the patterns of the files of targets (``file_sd_configs``) by the job's name.
    """

    def __init__(self, jobs: dict[str, str]) -> None:
        super().__init__()
        self._program = program("prometheus", "prometheus")
        # JSON is YAML.
        configuration = {
            "scrape_configs": [
                {
                    "job_name": name,
                    "scrape_interval": "1h",
                    "scrape_timeout": "1s",
                    "file_sd_configs": [{"files": [pattern], "refresh_interval": "1s"}],
                }
                for name, pattern in jobs.items()
            ]
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration))

    def command(self) -> list[str]:
        return [
            self._program,
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address={self.address}",
        ]

    def ready(self) -> bool:
        try:
            self._get("/-/ready")
        except OSError:
            return False
        return True

    def targets(self) -> dict[str, list[tuple[str, dict[str, str]]]]:
        """Return what it scrapes: URL and labels, by job; without those that it adds itself."""
        found: dict[str, list[tuple[str, dict[str, str]]]] = {}
        for target in json.loads(self._get("/api/v1/targets?state=active"))["data"][
            "activeTargets"
        ]:
            labels: dict[str, Any] = dict(target["labels"])
            before = target["discoveredLabels"]
            for name, own in (("job", target["scrapePool"]), ("instance", before["__address__"])):
                if name not in before or before[name] == own:
                    labels.pop(name)
            found.setdefault(target["scrapePool"], []).append((target["scrapeUrl"], labels))
        return found

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
            return bytes(answer.read())
