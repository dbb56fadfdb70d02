"""Plan: which groups an agent joins, and what it polls in each, how often, with what.

Made of the settings, the definitions and the plug-ins, before anything is polled; everything here
can be looked at (`hashring agent check` prints it). This module knows no store, thread or clock.

A source asks for meters. Where it names discoveries or static resources, it wants them of those;
where it names neither, of what each pollster's default discovery finds. Each discovery and each
list of static resources is one group in the store, whose members share its resources; where it is
polled at several intervals, it is one group for each.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

from hashring import plugins
from hashring.errors import BadURL, HashringError
from hashring.telemetry.config.definitions import (
    Pipeline,
    Polling,
    Source,
    load_pipeline,
    load_polling,
    polling_of,
)
from hashring.telemetry.config.finders import Finder, finders_of
from hashring.telemetry.config.installed import Plugins
from hashring.telemetry.errors import NothingToPoll
from hashring.telemetry.model.meters import MeterFilter
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap.groups import check_groups, group_entry
from hashring.telemetry.overlap.overlap import open_meters
from hashring.telemetry.plugin import Pollster, Publisher
from hashring.telemetry.sources.web.targets import static_resource
from hashring.url import masked

__all__ = ["Finder", "Group", "Loop", "NothingToPoll", "Plan", "Plugins", "Task", "make_plan"]


@dataclasses.dataclass(frozen=True)
class Task:
    """What one source wants of one group's resources."""

    source: str
    meters: MeterFilter
    pollsters: tuple[Pollster, ...]

    def names(self) -> set[str]:
        """Return the names of the meters, as an announcement has them."""
        found: set[str] = set()
        for pollster in self.pollsters:
            found.update(meter.name for meter in pollster.meters if self.meters.allows(meter.name))
            if pollster.prefix:
                found.update(_patterns(self.meters, pollster.prefix))
        return found


@dataclasses.dataclass(frozen=True)
class Loop:
    """What is polled of a group's resources at one interval."""

    interval: float
    tasks: tuple[Task, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """One group in the store: its name there, what finds its resources, and its loops."""

    name: str
    finders: tuple[Finder, ...]
    loops: tuple[Loop, ...]

    @property
    def is_local(self) -> bool:
        """Whether its resources belong to this host."""
        return any(finder.is_local for finder in self.finders)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an agent is to do.

    Attributes:
        groups: what it joins, and polls there.
        pipeline: where samples go; ``None``: all to ``settings.output``.
        pollsters: every pollster that the groups use.
        unserved: what no pollster here can tell, by source: meters that are asked for by name.
        unpolled: the ids of static resources that no pollster here can measure, by source.
        output: where samples go without a pipeline.
        homeless: meters that are told of nothing, by source: the source names neither resources nor
            a discovery, and their pollster finds none by itself.
    """

    groups: tuple[Group, ...]
    pipeline: Pipeline | None
    pollsters: tuple[Pollster, ...]
    unserved: Mapping[str, tuple[str, ...]]
    unpolled: Mapping[str, tuple[str, ...]]
    output: str
    homeless: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def meters(self, *, local: bool) -> frozenset[str]:
        """Return the names of the meters of local, or of shared, resources."""
        return frozenset(
            name
            for group in self.groups
            if group.is_local == local
            for loop in group.loops
            for task in loop.tasks
            for name in task.names()
        )

    def announced_groups(self, *, local: bool) -> frozenset[str] | None:
        """Return the groups of local, or of shared, resources as an announcement has them.

        ``None``: they are too many to be announced.
        """
        return check_groups(
            group_entry(group.name, loop.interval)
            for group in self.groups
            if group.is_local == local
            for loop in group.loops
        )

    @property
    def targets(self) -> Mapping[str, tuple[str, ...]]:
        """The URLs of all publishers that samples may go to, each with the sinks that name it."""
        if self.pipeline is None:
            return {self.output: ()}
        found: dict[str, tuple[str, ...]] = {}
        for sink in self.pipeline.sinks:
            for url in sink.publishers:
                found[url] = (*found.get(url, ()), sink.name)
        return found

    def publisher_problems(self) -> dict[str, HashringError]:
        """Return what is wrong with the publishers, by URL (secrets masked)."""
        return {
            masked(url): error
            for url, sinks in self.targets.items()
            if (error := _problem(url, sinks)) is not None
        }

    def warnings(self) -> list[str]:
        """Return what will not be polled although a pollster tells it, and what will be twice.

        Twice come static resources that several lists have. Each list is a group of its own, whose
        members know nothing of the other's.
        """
        found: dict[tuple[str, ...], list[str]] = {}
        seen: dict[tuple[float, str], list[tuple[Group, str, set[str]]]] = defaultdict(list)
        for group in self.groups:
            known = [id_ for finder in group.finders for id_ in finder.known]
            for loop in group.loops:
                for task in loop.tasks:
                    names = task.names()
                    for id_ in known:
                        for other, source, theirs in seen[loop.interval, id_]:
                            if other is not group and names & theirs:
                                found.setdefault((source, task.source), []).append(id_)
                                break
                        seen[loop.interval, id_].append((group, task.source, names))
        return _homeless_said(self.homeless) + [
            f"the sources {first!r} and {second!r} have static resources in common, of which some "
            f"samples come twice: {ids[0]}" + (f" and {len(ids) - 1} more" if len(ids) > 1 else "")
            for (first, second), ids in found.items()
        ]

    def check_publishers(self) -> None:
        """Make sure that samples have somewhere to go.

        Raises:
            UnknownPlugin: no plug-in serves a publisher that is named.
            BadURL: one has an option that is unknown or ill-typed.
            HashringError: the plug-in cannot be used.
        """
        for problem in self.publisher_problems().values():
            raise problem

    def publishers_for(self, meter: str) -> tuple[str, ...]:
        """Return the URLs of the publishers that a meter's samples go to."""
        return (self.output,) if self.pipeline is None else self.pipeline.publishers_for(meter)


def _problem(url: str, sinks: Sequence[str]) -> HashringError | None:
    """Return why a publisher cannot be used, as far as its URL tells."""
    where = f"sink {', '.join(map(repr, sinks))}" if sinks else "[hashring] output"
    scheme = url.partition("://")[0]
    installed = plugins.names(plugins.PUBLISHERS)
    if scheme not in installed:
        return plugins.UnknownPlugin(
            f"{where}: no publisher {scheme}:// is installed; installed: {', '.join(installed)}"
        )
    try:
        plugins.load(plugins.PUBLISHERS, scheme, Publisher).check(url)  # type: ignore[type-abstract]
    except BadURL as error:
        return BadURL(f"{where}: {error}")
    except HashringError as error:
        return error
    return None


def make_plan(settings: Settings, plugins: Plugins | None = None) -> Plan:
    """Read the definitions that the settings name, and return the plan.

    Args:
        settings: what the agent is told to do.
        plugins: by default, all that are installed.

    Raises:
        BadDefinition: a definition is not usable.
        UnknownPlugin: a source names a discovery that is not installed.
        NothingToPoll: no pollster here tells anything that is asked for.
    """
    plugins = plugins if plugins is not None else Plugins.installed(settings)
    pipeline = None if settings.pipeline_file is None else load_pipeline(settings.pipeline_file)
    polling = None if settings.polling_file is None else load_polling(settings.polling_file)
    if polling is None and pipeline is not None:
        polling = polling_of(pipeline)
    if polling is None:
        # No definition at all: everything that this agent knows how to measure.
        polling = Polling((Source("all", settings.interval, MeterFilter(["*"]), (), ()),))
    return _planned(settings, polling, pipeline, plugins)


def _planned(
    settings: Settings, polling: Polling, pipeline: Pipeline | None, plugins: Plugins
) -> Plan:
    finders: dict[str, Finder] = {}
    tasks: dict[str, dict[float, list[Task]]] = defaultdict(lambda: defaultdict(list))
    unserved: dict[str, tuple[str, ...]] = {}
    unpolled: dict[str, tuple[str, ...]] = {}
    homeless: dict[str, tuple[str, ...]] = {}
    for source in polling.sources:
        chosen = [pollster for pollster in plugins.pollsters if _serves(pollster, source.meters)]
        missing = _missing(source.meters, chosen)
        if missing:
            unserved[source.name] = missing
        if chosen and (left := _left(source.resources, chosen)):
            unpolled[source.name] = left
        if missing_resources := _homeless(source, chosen):
            homeless[source.name] = missing_resources
        for finder, pollsters in finders_of(source, chosen, plugins, settings.host):
            finder = finders.setdefault(finder.name, finder)
            tasks[finder.name][source.interval].append(
                Task(source.name, source.meters, tuple(pollsters))
            )
    groups = tuple(
        Group(group_name(settings, finder, interval if longer else None), (finder,), (loop,))
        for name, finder in finders.items()
        for longer, (interval, wanted) in enumerate(sorted(tasks[name].items()))
        for loop in (Loop(interval, tuple(wanted)),)
    )
    if settings.group is not None and groups:
        groups = (_united(settings.group, groups),)
    if not groups:
        causes = [*_homeless_said(homeless), *_unpolled_said(unpolled)] or [
            f"no pollster that is installed tells what the sources "
            f"{', '.join(repr(source.name) for source in polling.sources)} ask for; "
            "look at their meters, or install the plug-in that tells them"
        ]
        raise NothingToPoll(
            f"nothing to poll in the namespaces {', '.join(settings.namespaces)}: "
            f"{'; '.join(causes)}"
        )
    used = {
        id(pollster): pollster
        for group in groups
        for loop in group.loops
        for task in loop.tasks
        for pollster in task.pollsters
    }
    return Plan(
        groups, pipeline, tuple(used.values()), unserved, unpolled, settings.output, homeless
    )


def _loops(tasks: Mapping[float, Sequence[Task]]) -> tuple[Loop, ...]:
    return tuple(Loop(interval, tuple(found)) for interval, found in sorted(tasks.items()))


def _united(name: str, groups: Sequence[Group]) -> Group:
    """Return one group with everything that these have."""
    tasks: dict[float, list[Task]] = defaultdict(list)
    for group in groups:
        for loop in group.loops:
            tasks[loop.interval].extend(loop.tasks)
    finders = {finder.name: finder for group in groups for finder in group.finders}
    return Group(name, tuple(finders.values()), _loops(tasks))


def group_name(settings: Settings, finder: Finder, interval: float | None = None) -> str:
    """Return a group's name in the store: the prefix in front, this host's name behind.

    Args:
        settings: of the agent.
        finder: what finds the group's resources.
        interval: of the group, where another one polls the same resources at shorter intervals.
            In one group, a share could only change hands between two cycles of the slow loop.
    """
    name = f"{settings.group_prefix}-{finder.name}" if settings.group_prefix else finder.name
    if interval is not None:
        name = f"{name}/{interval:g}s"
    return f"{name}@{settings.host}" if finder.is_local else name


def _serves(pollster: Pollster, meters: MeterFilter) -> bool:
    if pollster.prefix and meters.may_allow_prefix(pollster.prefix):
        return True
    return any(meters.allows(meter.name) for meter in pollster.meters)


def _missing(meters: MeterFilter, chosen: Sequence[Pollster]) -> tuple[str, ...]:
    """Return what is asked for by pattern or name, and is told by none of these pollsters."""
    wanted = [pattern for pattern in meters.patterns if not pattern.startswith("!")]
    return tuple(
        pattern
        for pattern in wanted
        if not any(_serves(pollster, MeterFilter([pattern])) for pollster in chosen)
    )


def _left(texts: Sequence[str], chosen: Sequence[Pollster]) -> tuple[str, ...]:
    """Return the ids of static resources that none of these pollsters measures."""
    kinds = frozenset[str]().union(*(pollster.kinds for pollster in chosen))
    resources = [static_resource(text) for text in dict.fromkeys(texts)]
    return tuple(resource.id for resource in resources if resource.kind not in kinds)


def _homeless(source: Source, chosen: Sequence[Pollster]) -> tuple[str, ...]:
    """Return the meters of pollsters that a source gives nothing to poll."""
    if source.resources or source.discovery:
        return ()
    names: set[str] = set()
    for pollster in chosen:
        if not pollster.default_discovery:
            names |= Task(source.name, source.meters, (pollster,)).names()
    return tuple(sorted(names))


def _homeless_said(homeless: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [
        f"source {name!r} does not say of which resources: {', '.join(meters)} "
        f"{'is' if len(meters) == 1 else 'are'} asked of the resources that a source names (a "
        "definition without an absolute url_path is); give the source resources or a discovery"
        for name, meters in homeless.items()
    ]


def _unpolled_said(unpolled: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [
        f"source {name!r}: the pollsters of its meters do not measure the static resources "
        f"{', '.join(ids)}; look at the schemes of their addresses"
        for name, ids in unpolled.items()
    ]


def _patterns(meters: MeterFilter, prefix: str) -> set[str]:
    """Return what a source asks for among the names that begin so, as an announcement has it."""
    excluded = [pattern[1:] for pattern in meters.patterns if pattern.startswith("!")]
    included = [pattern for pattern in meters.patterns if not pattern.startswith("!")]
    return {
        open_meters(pattern if pattern.startswith(prefix) else f"{prefix}*", excluded)
        for pattern in included or [f"{prefix}*"]
        if MeterFilter([pattern]).may_allow_prefix(prefix)
    }
