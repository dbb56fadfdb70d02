"""The exit codes have moved to :mod:`hashring.exit_codes`; this is their former place."""

from hashring.exit_codes import FAILED, USAGE, exit_code

__all__ = ["FAILED", "USAGE", "exit_code"]
