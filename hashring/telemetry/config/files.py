"""ConfigFiles: what configuration files and environment variables give, and where.

oslo.config reads the values. That a message can name file and line, that a typo of an option is an
error, and that an option without effect is named in the log, is done here. What a value leads to
is not.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from oslo_config import cfg, iniparser

from hashring.telemetry.config import ceilometer
from hashring.telemetry.config.declared import OWN_SECTIONS, SECTIONS, WITHOUT_EFFECT, known_options
from hashring.telemetry.errors import BadOption
from hashring.telemetry.model.suggestions import closest
from hashring.url import looks_secret, masked

__all__ = ["ConfigFiles", "Given"]

log = logging.getLogger(__name__)


class Given(NamedTuple):
    """An option as it stands in a file."""

    section: str
    name: str
    text: str
    file: Path
    line: int

    @property
    def where(self) -> str:
        """The place, for a message."""
        return f"{self.file}:{self.line}: [{self.section}] {self.name}"


class _Lines(iniparser.BaseParser):
    """Reads a file as oslo.config does, and keeps the lines where options begin."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: list[Given] = []
        self._section: str | None = None
        self._line = 0

    def new_section(self, section: str) -> None:
        self._section = _section_name(section)

    def _split_key_value(self, line: str) -> tuple[str, list[str]]:
        self._line = self.lineno
        return super()._split_key_value(line)

    def assignment(self, key: str, value: list[str]) -> None:
        if self._section is None:
            raise iniparser.ParseError("no section has begun before this", self._line, key)
        text = "\n".join(value)
        self.found.append(Given(self._section, key, text, self.file, self._line))


def _section_name(section: str) -> str:
    return section if section == "DEFAULT" else section.lower()


class ConfigFiles:
    """The files and the environment: what they give, where, and its values.

    Attributes:
        sections: the options that there are, by section. Another program's class has others.
        project: whose files these are, for oslo.config.
    """

    sections: ClassVar[Mapping[str, Sequence[cfg.Opt]]] = SECTIONS
    project: ClassVar[str] = "ceilometer"

    def __init__(self, files: Sequence[Path], folders: Sequence[Path], environment: bool) -> None:
        self.folders = folders
        self.files = [*files, *(file for folder in folders for file in _in_folder(folder))]
        self.environment = os.environ if environment else {}
        self._found = [found for file in self.files for found in _parsed(file)]
        self._conf = cfg.ConfigOpts()
        for section, opts in self.sections.items():
            self._conf.register_opts(opts, group=None if section == "DEFAULT" else section)
        try:
            self._conf(
                args=[],
                project=self.project,
                default_config_files=[str(file) for file in self.files],
                default_config_dirs=[],
                use_env=environment,
            )
        except cfg.Error as error:
            raise BadOption(f"the configuration cannot be used: {error}") from None

    def all_given(self) -> Sequence[Given]:
        """Return every option of the files, known or not, in order."""
        return tuple(self._found)

    def variable(self, section: str, option: str) -> str | None:
        """Return the environment variable that gives an option, or ``None``."""
        name = f"OS_{section.upper()}__{option.upper()}"
        return name if name in self.environment else None

    def given(self, section: str, option: str) -> Given | None:
        """Return where a file gives an option, the last one that does."""
        sections = {section, "central"} if option == "partitioning_group_prefix" else {section}
        found = [one for one in self._found if one.section in sections and one.name == option]
        return found[-1] if found else None

    def is_given(self, section: str, option: str) -> bool:
        """Return whether a file or the environment gives an option."""
        return bool(self.variable(section, option) or self.given(section, option))

    def where(self, section: str, option: str) -> str:
        """Return where an option is given, or its name where it is not."""
        if variable := self.variable(section, option):
            return f"environment: {variable}"
        found = self.given(section, option)
        return found.where if found else f"[{section}] {option}"

    def place(self, section: str, option: str) -> str:
        """Return where an option's value comes from, and the value, for a message."""
        if variable := self.variable(section, option):
            return f"environment: {variable} = {_masked(option, self.environment[variable])}"
        if found := self.given(section, option):
            return f"{found.where} = {_masked(option, found.text)}"
        return f"[{section}] {option} = {self.value(section, option)!r}, the default"

    def value(self, section: str, option: str) -> Any:
        """Return an option's value, of its type.

        Raises:
            BadOption: it is of another, or out of range.
        """
        scope = self._conf if section == "DEFAULT" else self._conf[section]
        try:
            return scope[option]
        except (cfg.Error, ValueError) as error:
            unresolved = (cfg.NoSuchOptError, cfg.TemplateSubstitutionError)
            if isinstance(error, unresolved) or isinstance(error.__context__, unresolved):
                # What stands after the sign may be a part of a secret.
                problem = "refers to an option that there is not: a dollar sign is written $$"
            else:
                # The type's own words, without what oslo.config says around them.
                problem = str(error.__context__ or error)
            raise BadOption(f"{self.place(section, option)}: {problem}") from None

    def values(self, section: str, option: str) -> list[str]:
        """Return the values of an option that may be given several times."""
        # oslo.config would take the letters of an environment variable for its values.
        if variable := self.variable(section, option):
            return [self.environment[variable]]
        return list(self.value(section, option))

    def refuse_unknown(self) -> None:
        """Refuse what looks like a typo; name what has no effect.

        As to Ceilometer, an option that resembles no other is not an error: an older or a newer
        release may have it. In ``[hashring]``, which is ours alone, it is.

        Raises:
            BadOption: an option in one of our sections is unknown.
        """
        named: dict[tuple[str, str], tuple[str, str]] = {}
        for found in self._found:
            if found.section in OWN_SECTIONS:
                named[found.section, found.name] = found.where, _masked(found.name, found.text)
        for variable, text in self.environment.items():
            section, _, option = variable.removeprefix("OS_").lower().partition("__")
            if variable.startswith("OS_") and section in OWN_SECTIONS and option:
                if section == "central":
                    # oslo.config knows an option's old place in files alone.
                    raise BadOption(
                        f"environment: {variable} is not looked at: set "
                        f"OS_POLLING__{option.upper()}"
                    )
                named[section, option] = f"environment: {variable}", _masked(option, text)
        for (section, option), (where, shown) in named.items():
            if reason := WITHOUT_EFFECT.get((section, option)):
                log.warning("%s has no effect here: %s", where, reason)
            elif option in known_options(section):
                continue
            elif option in ceilometer.OPTIONS.get(section, ()):
                log.warning("%s has no effect here: there is nothing like it", where)
            elif (suggestion := _meant(section, option)) or section == "hashring":
                known = (
                    suggestion or f"; [{section}] has: {', '.join(sorted(known_options(section)))}"
                )
                raise BadOption(f"{where} = {shown}: unknown option{known}")
            else:
                log.warning("%s is unknown, and is ignored", where)

    def refuse_two_prefixes(self) -> None:
        """Refuse a prefix in its old and in its new section that is not the same.

        Raises:
            BadOption: there are two.
        """
        last: dict[str, Given] = {}
        for found in self._found:
            if found.name == "partitioning_group_prefix":
                last[found.section] = found
        old, new = last.get("central"), last.get("polling")
        if old and new and old.text != new.text:
            raise BadOption(
                f"{new.where} = {new.text!r} contradicts {old.where} = {old.text!r}, which is the "
                "option's old place: remove the old one"
            )


def _meant(section: str, option: str) -> str:
    """Return the option that was meant, for a message; empty where none is like it."""
    here = known_options(section) | ceilometer.OPTIONS.get(section, frozenset())
    if found := closest(option, here):
        return f" (did you mean {found!r}?)"
    places: dict[str, str] = {}
    for own in OWN_SECTIONS:
        for name in known_options(own):
            places.setdefault(name, own)
    found = closest(option, places)
    return f" (did you mean [{places[found]}] {found}?)" if found else ""


def _masked(option: str, text: str) -> str:
    """Return a value for a message, without what may be a secret."""
    return "'***'" if looks_secret(option) else repr(masked(text))


def _in_folder(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.match("*.conf"))
    except OSError as error:
        raise BadOption(f"--config-dir {folder}: cannot be read: {error.strerror}") from None


def _parsed(file: Path) -> list[Given]:
    lines = _Lines(file)
    try:
        lines.parse(file.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise BadOption(f"--config-file {file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadOption(f"--config-file {file}: not UTF-8 at byte {error.start}") from None
    except iniparser.ParseError as error:
        # Without the line itself: there may be a secret in it.
        raise BadOption(f"{file}:{error.lineno}: {error.msg}") from None
    return lines.found
