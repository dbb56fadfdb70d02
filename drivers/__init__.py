"""hashring's own drivers: one file a store, each reached by its entry point alone.

Nothing imports a driver. ``hashring.drivers()`` lists the installed ones; because this package,
once imported, takes that name on ``hashring``, the package itself can be called in its place.
"""

from __future__ import annotations

import sys
from types import ModuleType

from hashring.driver import drivers as _installed


class _CallablePackage(ModuleType):
    def __call__(self) -> list[str]:
        return _installed()


sys.modules[__name__].__class__ = _CallablePackage
