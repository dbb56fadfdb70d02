"""Types of the extension; what its functions do is said in ``lines.py``."""

from collections.abc import Sequence

from hashring.telemetry.model.lines import Texts

def ids(
    namespace: bytes,
    meters: Sequence[str],
    window: str,
    meter_of: Sequence[int],
    resource_id: str,
    resource_ids: Texts,
) -> list[str]: ...
def rendered(
    namespace: bytes,
    meters: Sequence[str],
    window: str,
    meter_of: Sequence[int],
    resource_id: str,
    resource_ids: Texts,
    fronts: Sequence[str],
    volumes: Sequence[float],
    common: str,
    about: Sequence[Texts],
    ends: Sequence[str],
) -> bytes: ...
def use_processor(wanted: bool = True) -> bool: ...
