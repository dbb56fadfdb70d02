"""Launch: all that it takes to make an agent, in a form that another process can be sent.

Tells an agent that was configured by files, which it can read again, from one that was configured
by its command line alone.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from hashring.telemetry.agent import allocator, collector
from hashring.telemetry.agent.agent import Agent
from hashring.telemetry.config import options
from hashring.telemetry.config.plan import Plan, make_plan
from hashring.telemetry.config.rehearsal import check_sinks
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.polling import descriptors

__all__ = ["Launch"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Launch:
    """What it takes to make an agent.

    Attributes:
        settings: what it is told to do.
        is_configured: the settings were read from files and the environment: a reload reads them
            again, and the agent announces what it polls to others.
        overrides: what the command line said beside, which holds after a reload too.
    """

    settings: Settings
    is_configured: bool = False
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def agent(self) -> Agent:
        """Return the agent, which is to have this process for itself.

        Raises:
            HashringError: the settings, a definition, a plug-in, a sink or the outlet cannot be
                used.
        """
        allocator.share_heaps()
        allocator.keep_pages()
        descriptors.raise_limit(self.settings.max_in_flight)
        plan = make_plan(self.settings)
        if not self.is_configured:
            collector.spare()
            return Agent(self.settings, plan=plan)
        plan.check_publishers()
        check_sinks(plan.targets, self.settings)
        for warning in plan.warnings():
            log.warning("%s", warning)
        known = set(plan.targets)

        def load() -> tuple[Settings, Plan]:
            settings, plan = self._load()
            # Of the others this agent has made all that there is to make.
            check_sinks(set(plan.targets) - known, settings, while_agents_run=True)
            known.clear()
            known.update(plan.targets)
            return settings, plan

        collector.spare()
        return Agent(self.settings, plan=plan, load=load, announce=True)

    def _load(self) -> tuple[Settings, Plan]:
        settings = options.load(
            self.settings.config_files, self.settings.config_dirs, **self.overrides
        )
        plan = make_plan(settings)
        plan.check_publishers()
        return settings, plan

    def replace(self, **changes: Any) -> Launch:
        """Return the same with other settings, which hold after a reload too."""
        return dataclasses.replace(
            self,
            settings=dataclasses.replace(self.settings, **changes),
            overrides={**self.overrides, **changes},
        )
