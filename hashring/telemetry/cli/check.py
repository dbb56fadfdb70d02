"""What `hashring agent check` prints: what would be polled, how often, by whom, to where.

Reads a plan and, if asked, the store; polls nothing, joins nothing. Whether the sinks can be made
the caller has tried: see `rehearsal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hashring.driver import DriverURL, load
from hashring.errors import BadRecord, HashringError
from hashring.protocol.record import Member
from hashring.telemetry.config.options import is_embedded
from hashring.telemetry.config.plan import Group, Loop, Plan
from hashring.telemetry.config.rehearsal import Finding
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap.peer import printable
from hashring.url import masked

__all__ = ["problems", "report"]

_INDENT = "    "


def report(
    settings: Settings, plan: Plan, *, look: bool = True, findings: Sequence[Finding] = ()
) -> Iterator[str]:
    """Yield the lines of the report.

    Args:
        settings: what the agent is told to do.
        plan: what comes of it.
        look: read the store, to tell who shares each group now.
        findings: of a rehearsal, where there was one.
    """
    for name, file in (("polling", settings.polling_file), ("pipeline", settings.pipeline_file)):
        yield f"{name}: {file if file is not None else 'no definition'}"
    yield f"namespaces: {', '.join(settings.namespaces)}"
    url = DriverURL.parse(settings.backend_url)
    where = "; agents of other hosts are not seen" if is_embedded(settings.backend_url) else ""
    yield f"store: {url}, lease {settings.ttl:g} s{where}"
    if settings.group_prefix:
        yield f"partitioning_group_prefix: {settings.group_prefix}"
    members = _members(settings, plan) if look else {}
    for group in plan.groups:
        yield ""
        yield f"group {group.name}"
        yield f"{_INDENT}resources: {', '.join(finder.description for finder in group.finders)}"
        yield f"{_INDENT}polled by: {_by_whom(settings, group)}{_now(members.get(group.name))}"
        for loop in group.loops:
            yield from _loop(plan, loop)
    if plan.unserved or plan.unpolled:
        yield ""
        for source, patterns in plan.unserved.items():
            yield f"source {source!r}: no pollster here tells {', '.join(patterns)}"
        for source, ids in plan.unpolled.items():
            yield f"source {source!r}: no pollster here measures the resources {', '.join(ids)}"
    for warning in plan.warnings():
        yield f"warning: {warning}"
    for finding in findings:
        if not finding.is_fatal:
            yield f"warning: {finding.text}"
    for problem in problems(plan, findings):
        yield f"problem: {problem}"


def problems(plan: Plan, findings: Sequence[Finding] = ()) -> list[str]:
    """Return why an agent would refuse to start.

    Args:
        plan: what it would do.
        findings: of a rehearsal, where there was one.
    """
    told = [str(problem) for problem in plan.publisher_problems().values()]
    return told + [finding.text for finding in findings if finding.is_fatal]


def _loop(plan: Plan, loop: Loop) -> Iterator[str]:
    yield f"{_INDENT}every {loop.interval:g} s"
    for task in loop.tasks:
        by_target: dict[tuple[str, ...], list[str]] = {}
        for name in sorted(task.names()):
            # An open-ended entry stands for names that begin so.
            targets = plan.publishers_for(name.partition("!")[0])
            by_target.setdefault(targets, []).append(name)
        for targets, names in by_target.items():
            yield f"{_INDENT * 2}source {task.source!r}: {', '.join(names)}"
            yield f"{_INDENT * 3}to {', '.join(map(masked, targets)) or 'no sink: not published'}"


def _by_whom(settings: Settings, group: Group) -> str:
    if group.is_local:
        return f"the agents of {settings.host}, each resource by one of them"
    if is_embedded(settings.backend_url):
        return f"the agents of {settings.host} on this store, each resource by one of them"
    return "all agents of this store with this prefix, each resource by one of them"


def _now(members: Sequence[str] | str | None) -> str:
    if members is None:
        return ""
    if isinstance(members, str):
        return f" (now: {members})"
    return f" (now: {', '.join(members) or 'nobody'})"


def _members(settings: Settings, plan: Plan) -> dict[str, list[str] | str]:
    """Return who shares each group now, or why that cannot be told."""
    names = [group.name for group in plan.groups]
    try:
        driver = load(settings.backend_url, ttl=settings.ttl)
        driver.open()
    except HashringError as error:
        return dict.fromkeys(names, f"cannot be told: {error}")
    try:
        found: dict[str, list[str] | str] = {}
        for name in names:
            try:
                records = driver.read(name).records
            except HashringError as error:
                found[name] = f"cannot be told: {error}"
                continue
            found[name] = sorted(
                printable(id_) for id_, record in records.items() if _works(id_, record)
            )
        return found
    finally:
        driver.close()


def _works(id_: str, record: bytes) -> bool:
    try:
        member = Member.from_json(id_, record)
    except BadRecord:
        return True
    return member.weight > 0 and not member.draining
