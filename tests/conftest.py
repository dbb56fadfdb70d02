"""What test files share: our own distributions, empty environments, and the engine's twins."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import hypothesis
import pytest
from _pytest.doctest import DoctestModule, DoctestTextfile
from filelock import FileLock

import hashring.ring.ring

# Programs of their own, with tools of their own: run by the scripts beside them.
collect_ignore = ["fuzz", "servers/openstack_names.py", "tooz/in_services"]

# A busy machine is no failure: neither of an example, nor of what makes examples. `make test-long`
# plays the second profile: see tests/properties.py.
for _profile, _examples in (("suite", 40), ("deep", 300)):
    hypothesis.settings.register_profile(
        _profile,
        deadline=None,
        max_examples=_examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("suite")

# A shell starts what runs in its background with Ctrl-C ignored, which a test's processes inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TREE = Path(__file__).resolve().parent.parent

BUILDS = 900
"""Seconds for one command of pip or of a compiler: on a busy machine a wheel takes minutes."""

# Few tests, but long ones: those that install, those that wait for many leases, those that search.
# What starts last should be short, so that no worker is left alone with it.
LONGEST = (
    "tests/telemetry/test_guide.py",
    "tests/test_packaging.py",
    "tests/test_simulation.py",
    "tests/drivers/zookeeper/test_history.py",
    "tests/drivers/test_clock_rates.py",
    "tests/telemetry/test_supervisor.py",
    "tests/test_driver_mistakes.py",
    "tests/telemetry/test_exactly_once.py",
    "tests/telemetry/test_set_aside.py",
    "tests/telemetry/test_agent.py",
    "tests/drivers/redis/test_failover.py",
    "tests/drivers/memcached/test_forgetting.py",
    "tests/test_exhaustive.py",
    "tests/test_plugin.py",  # after the second: both use the wheel, which one of them builds
)


class _Looking:
    """Looks for examples, for faults and for slow tests in files that have some.

    pytest would import and go through each file of Python a second time, and each page; and import
    all tests for the few that are asked for.
    """

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        asked_for = config.option.markexpr.partition(" ")[0]
        if asked_for not in {"faults", "slow"} or collection_path.suffix not in {".py", ".md"}:
            return None
        return f"mark.{asked_for}" not in collection_path.read_text(encoding="utf-8") or None

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(
        self, file_path: Path
    ) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
        found = yield
        kept = [each for each in found if not isinstance(each, DoctestModule | DoctestTextfile)]
        if kept == found or file_path.is_relative_to(TREE / "tests"):
            return kept
        return found if ">>>" in file_path.read_text(encoding="utf-8") else kept


def pytest_configure(config: pytest.Config) -> None:
    """Have no file searched for what it has not."""
    config.pluginmanager.register(_Looking())


@pytest.hookimpl(tryfirst=True)  # before the marks are selected by
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give time to builds, and shorten suites. Start the long files first, among workers.

    Then come those of many tests: xdist alone goes by the number (``--no-loadscope-reorder`` keeps
    the order of this function).
    """
    for item in items:
        short_form = getattr(getattr(item, "cls", None), "short_form", None)
        if short_form is not None and getattr(item, "originalname", item.name) not in short_form:
            item.add_marker(pytest.mark.long)
        building = {"distributions", "new_environment"} & {*getattr(item, "fixturenames", ())}
        if building and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(3 * BUILDS))
    if "PYTEST_XDIST_WORKER" in os.environ:
        by_file = Counter(item.location[0] for item in items)
        first = {name: place for place, name in enumerate(LONGEST)}
        items.sort(
            key=lambda item: (first.get(item.location[0], len(first)), -by_file[item.location[0]])
        )


def pytest_collection(session: pytest.Session) -> None:
    """Collect no garbage while tests are listed: hardly any comes up."""
    hands_out = session.config.getoption("numprocesses", None)  # and lists none itself
    if not hands_out:
        gc.disable()


def pytest_collection_finish() -> None:
    """Take what stands for the whole run out of the garbage collector's rounds.

    That is hundreds of thousands of objects: all tests, all modules. A test that collects garbage
    to see what a finaliser does would look at each of them, a tenth of a second a time. So would a
    round before this, for the little that it finds.
    """
    gc.freeze()
    gc.enable()


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command without input, free of what the developer's shell says about Python."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Of what pip installs, little is imported: it needs not all be compiled to byte code.
    inherited["PIP_COMPILE"] = "false"
    return subprocess.run(
        command,
        cwd=cwd,
        env=inherited | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILDS,
        check=False,
    )


@dataclasses.dataclass(frozen=True)
class Environment:
    """A Python environment of its own, with a folder to work in that is not our tree."""

    folder: Path
    work: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *requirements: str | Path, **variables: str) -> str:
        """Install with pip; return what pip printed."""
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--verbose"]
        done = run(*pip, *requirements, cwd=self.work, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def run(self, *arguments: str | Path, **variables: str) -> str:
        """Run this environment's Python in isolated mode; return what it printed."""
        done = run(self.python, "-I", *arguments, cwd=self.work, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def new_environment(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], Environment]:
    """Make an environment with nothing in it, not even pip."""

    def make() -> Environment:
        folder = tmp_path_factory.mktemp("environment")
        (folder / "work").mkdir()
        command = [sys.executable, "-m", "venv", "--without-pip", folder / "venv"]
        done = run(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
        return Environment(folder / "venv", folder / "work")

    return make


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist that the tree makes and the wheel that this sdist makes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the workers of one run share it: one of them builds
    folder = folder / "dist"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            outdir = folder.with_name("dist-unfinished")
            outdir.mkdir(exist_ok=True)
            tree = _copied(outdir / "tree")
            # With the tools that are installed, without optimization and without what a
            # debugger reads: a third of the time. That
            # pyproject.toml names every tool is shown by each `pip install` of the tree.
            build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", outdir, tree]
            variables = {"HASHRING_REQUIRE_EXTENSION": "1", "CFLAGS": "-O0 -g0"}
            done = run(*build, cwd=outdir, **variables)
            assert done.returncode == 0, done.stdout + done.stderr
            shutil.rmtree(tree)
            outdir.rename(folder)
    return folder


def _copied(to: Path) -> Path:
    # A build writes its folder *.egg-info anew, and the tests beside it would find no entry point:
    # this folder, in the tree, comes before the installed one. What was built in the tree comes
    # along: an sdist must leave it out.
    def left_out(folder: str, names: list[str]) -> list[str]:
        kept = {".ci", ".gitignore"}
        hidden = {name for name in names if name.startswith(".")} - kept
        return [*hidden, *{"__pycache__", "_build", "build"}.intersection(names)] + [
            name for name in names if name.endswith(".egg-info")
        ]

    return Path(shutil.copytree(TREE, to, ignore=left_out))


@pytest.fixture(scope="session")
def sdist(distributions: Path) -> Path:
    """Our source distribution."""
    (found,) = distributions.glob("*.tar.gz")
    return found


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    """Our wheel, built from the sdist and not from the tree: what the sdist lacks, it lacks."""
    (found,) = distributions.glob("*.whl")
    return found


def _ring_on_the_reference() -> ModuleType:
    # ring.py a second time, under another name, as it is where no extension was built.
    name = "hashring_ring_on_the_reference"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, hashring.ring.ring.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HASHRING_PURE_PYTHON", "1")
            spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def _twin(name: str) -> SimpleNamespace:
    ring = hashring.ring.ring if name == "compiled" else _ring_on_the_reference()
    # The compiled engine must be there: a run that silently lacked it would prove nothing.
    engine = importlib.import_module(f"hashring.ring.{'_engine' if name == 'compiled' else name}")
    assert ring.Table is engine.Table
    return SimpleNamespace(
        name=name,
        ring=ring,
        HashRing=ring.HashRing,
        Keys=ring.Keys,
        SlotSet=ring.SlotSet,
        hash_key=engine.hash_key,
        hash_all=engine.hash_all,
    )


@pytest.fixture(scope="session", params=["compiled", "reference"])
def twin(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The ring on one of its two engines: a test that takes this runs on each."""
    return _twin(request.param)


@pytest.fixture(scope="session")
def twins() -> tuple[SimpleNamespace, SimpleNamespace]:
    """The ring on both engines, for tests that compare them."""
    return _twin("compiled"), _twin("reference")
