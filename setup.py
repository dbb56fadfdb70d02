"""What pyproject.toml cannot say of the build: the optional C extensions, and the packages.

``optional=True``: a machine without a C compiler still installs, and runs on the plain-Python twin
of each: ``hashring.ring.reference``, ``hashring.compat._toozring_reference``,
``hashring.telemetry.model.lines``, and of ``hashring.telemetry.sources.web`` ``exposition_lines``
and ``exposition_messages``.
``HASHRING_NO_EXTENSION=1`` leaves the extensions out on purpose. ``HASHRING_REQUIRE_EXTENSION=1``
makes a build fail that would lack one, so that no slow wheel is published by mistake.
``CFLAGS=-O0`` compiles them without optimization: for tests, which should not wait for it.
"""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup

excluded = bool(os.environ.get("HASHRING_NO_EXTENSION"))
required = bool(os.environ.get("HASHRING_REQUIRE_EXTENSION"))
if excluded and required:
    raise SystemExit("HASHRING_NO_EXTENSION and HASHRING_REQUIRE_EXTENSION contradict: unset one")

# Debian builds extensions with -O2, which leaves the batch loops without vectors. Our option comes
# after those of CFLAGS and would overrule them.
unoptimized = "-O0" in os.environ.get("CFLAGS", "").split()
optimized = [] if unoptimized or os.name == "nt" else ["-O3"]

_HEADERS = ["hashring/telemetry/model/_sha1.h", "hashring/telemetry/model/_escape.h"]

_LABELS = ["hashring/telemetry/sources/web/_labels.pxi"]
_MESSAGES = sorted(map(str, Path("hashring/telemetry/sources/web").glob("_message_*.pxi")))

extensions: list[Extension] = []
if not excluded:
    extensions.append(
        Extension(
            "hashring.ring._engine",
            ["hashring/ring/_engine.pyx"],
            depends=[
                "hashring/ring/_engine.pxd",
                *sorted(map(str, Path("hashring/ring").glob("*.pxi"))),
            ],
            extra_compile_args=optimized,
            optional=not required,
        )
    )
    extensions.append(
        Extension(
            "hashring.compat._toozring",
            ["hashring/compat/_toozring.pyx"],
            depends=["hashring/compat/_md5_lanes.h", "hashring/compat/_md5_lanes_body.h"],
            optional=not required,
        )
    )
    extensions += [
        Extension(
            name,
            [f"{name.replace('.', '/')}.pyx"],
            depends=depends,
            optional=not required,
        )
        for name, depends in (
            ("hashring.telemetry.model._lines", _HEADERS),
            ("hashring.telemetry.sources.web._exposition", _LABELS),
            ("hashring.telemetry.sources.web._messages", _LABELS + _MESSAGES),
        )
    ]

# The drivers have a folder of their own at the top, and are one more package below hashring.
drivers = ["hashring.drivers", *(f"hashring.drivers.{name}" for name in find_packages("drivers"))]

setup(
    ext_modules=extensions, packages=[*find_packages(include=["hashring", "hashring.*"]), *drivers]
)
