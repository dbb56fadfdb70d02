"""The one part of the build that pyproject.toml cannot say: the optional C extensions.

``optional=True``: a machine without a C compiler still installs, and runs on
``hashring._reference`` and ``hashring.compat._toozring_reference``.
``HASHRING_NO_EXTENSION=1`` leaves the extensions out on purpose.
"""

import os

from setuptools import Extension, setup

extensions: list[Extension] = []
if not os.environ.get("HASHRING_NO_EXTENSION"):
    extensions.append(
        Extension(
            "hashring._engine",
            ["hashring/_engine.pyx"],
            # Debian builds extensions with -O2, which leaves the batch loops without vectors.
            extra_compile_args=[] if os.name == "nt" else ["-O3"],
            optional=True,
        )
    )
    extensions.append(
        Extension(
            "hashring.compat._toozring",
            ["hashring/compat/_toozring.pyx"],
            depends=["hashring/compat/_md5_lanes.h", "hashring/compat/_md5_lanes_body.h"],
            optional=True,
        )
    )

setup(ext_modules=extensions)
