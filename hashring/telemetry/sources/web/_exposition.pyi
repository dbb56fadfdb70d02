"""Types of the extension; what it does is said in ``exposition_lines.py``."""

class Scanner:
    keys: list[bytes | None]
    volumes: list[float | int | None]
    odd: list[tuple[int, bytes]]
    said: list[bytes]
    is_same: bool
    is_odd: bool
    is_over: bool
    follows_end: bool
    not_finite: int

    def __init__(self, body: bytes, known: list[bytes]) -> None: ...
    def read(self, size: int) -> bool: ...

def described(key: bytes, resource_id: str) -> tuple[str, str | None, str | None]: ...
def described_all(
    keys: list[bytes], resource_id: str
) -> tuple[list[str], list[str | None], list[str | None]]: ...
