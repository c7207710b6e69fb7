"""Reads a Corefile into server blocks and directives; knows the grammar, not the plugins. *Pure.*

Lines are made of words; a word in double quotes may hold anything, also a line's end. ``#`` before a word
begins a comment. The first words of the file, or of what follows a closed block, are the keys of the next
server block. Within it a line is a directive, with options of its own if it ends in ``{``. ``(name) {``
begins a snippet, ``import`` puts in the snippet of that name or the files that match a pattern.

Every error names file and line.

Source: CoreDNS manual, "Configuration"; corefile(5).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from kubenet.errors import InvalidInput

# Gives the (file name, text) of all files that match a pattern, seen from the file that imports.
ReadFiles: TypeAlias = Callable[[str, str], Sequence[tuple[str, str]]]

MOST_IMPORTS = 100  # inside one another
_VARIABLE = re.compile(r"\{\$(\w+)\}|\{%(\w+)%\}")


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Directive:
    """One line of a block: its first word, the others, and the lines in its braces."""

    name: str
    args: tuple[str, ...]
    options: tuple["Directive", ...]
    where: Where = field(compare=False)

    def wrong(self, what: str) -> InvalidInput:
        """Return an error about this line."""
        return InvalidInput(f"{self.where}: {self.name}: {what}")


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """Keys such as ``example.org:53``, and what is in the braces after them."""

    keys: tuple[str, ...]
    directives: tuple[Directive, ...]
    where: Where = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    quoted: bool = False

    def is_(self, mark: str) -> bool:
        return self.text == mark and not self.quoted


@dataclass(frozen=True, slots=True)
class _Line:
    where: Where
    words: tuple[_Word, ...]

    @property
    def opens(self) -> bool:
        return self.words[-1].is_("{")

    @property
    def closes(self) -> bool:
        return self.words[0].is_("}")

    @property
    def texts(self) -> tuple[str, ...]:
        words = self.words[:-1] if self.opens else self.words
        return tuple(word.text for word in words)


def read_corefile(
    text: str, file: str, *, env: Mapping[str, str], read_files: ReadFiles
) -> tuple[ServerBlock, ...]:
    """Return the server blocks of a Corefile. Raises InvalidInput."""
    blocks = tuple(_Reader(env, read_files).blocks(text, file, ()))
    if not blocks:
        raise InvalidInput(f"{file}:1: no server block", "write one such as '.:53 { ... }'")
    return blocks


def no_files(pattern: str, _importer: str) -> Sequence[tuple[str, str]]:
    """Import nothing: for texts that are no files."""
    raise InvalidInput(f"import {pattern}: this text can import nothing")


class _Reader:
    """What is the same for a file and all that it imports."""

    def __init__(self, env: Mapping[str, str], read_files: ReadFiles) -> None:
        self._env = env
        self._read_files = read_files
        self._snippets: dict[str, tuple[_Line, ...]] = {}

    def blocks(self, text: str, file: str, inside: tuple[str, ...]) -> Iterator[ServerBlock]:
        lines = _Lines(_split(text, file, self._env), file)
        while (line := lines.next()) is not None:
            if line.words[0].is_("import"):
                for name, imported in self._files(line, inside):
                    yield from self.blocks(imported, name, (*inside, name))
            elif (snippet := _snippet_name(line)) is not None:
                self._snippets[snippet] = tuple(lines.until_closed(line))
            else:
                yield self._block(line, lines, inside)

    def _block(self, first: _Line, lines: "_Lines", inside: tuple[str, ...]) -> ServerBlock:
        last, keys = first, list(first.texts)
        while keys and keys[-1].endswith(",") and not last.opens:
            last = lines.expect(first, "a key after the comma")
            keys += last.texts
        if not last.opens and lines.next_is_brace():
            last = lines.expect(first, "{")
        # Without braces the rest of the file is the only block.
        body = list(lines.until_closed(first)) if last.opens else list(lines.rest())
        names = tuple(name for key in keys for name in key.split(",") if name)
        if not names or first.closes:
            raise InvalidInput(f"{first.where}: a server block needs a key such as '.:53'")
        return ServerBlock(names, tuple(self._directives(body, first, inside)), first.where)

    def _directives(
        self, body: Sequence[_Line], opened_at: _Line, inside: tuple[str, ...]
    ) -> Iterator[Directive]:
        lines = _Lines(body, opened_at.where.file)
        while (line := lines.next()) is not None:
            if line.closes or line.words[0].is_("{"):
                raise InvalidInput(f"{line.where}: {line.words[0].text} stands where a directive should")
            if any(word.is_("{") or word.is_("}") for word in line.words[:-1]) or line.words[-1].is_("}"):
                raise InvalidInput(f"{line.where}: a brace ends a line or stands alone")
            if line.words[0].is_("import"):
                yield from self._imported(line, inside)
                continue
            options: tuple[Directive, ...] = ()
            if line.opens:
                options = tuple(self._directives(list(lines.until_closed(line)), line, inside))
            yield Directive(line.texts[0], line.texts[1:], options, line.where)

    def _imported(self, line: _Line, inside: tuple[str, ...]) -> Iterator[Directive]:
        name = self._import_name(line)
        if name in self._snippets:
            _check_cycle(line, f"({name})", inside)
            body = [_with_arguments(each, line.texts[2:], line.where) for each in self._snippets[name]]
            yield from self._directives(body, line, (*inside, f"({name})"))
            return
        for file, text in self._files(line, inside):
            yield from self._directives(_split(text, file, self._env), line, (*inside, file))

    def _files(self, line: _Line, inside: tuple[str, ...]) -> Sequence[tuple[str, str]]:
        pattern = self._import_name(line)
        try:
            found = self._read_files(pattern, line.where.file)
        except InvalidInput as error:
            raise InvalidInput(f"{line.where}: {error}", error.next_step) from error
        for name, _ in found:
            _check_cycle(line, name, (line.where.file, *inside))
        return found

    def _import_name(self, line: _Line) -> str:
        if len(line.texts) < 2 or line.opens:
            raise InvalidInput(f"{line.where}: import: give one snippet, file or pattern")
        return line.texts[1]


def _check_cycle(line: _Line, name: str, inside: tuple[str, ...]) -> None:
    if name in inside:
        way = " -> ".join((*inside[inside.index(name) :], name))
        raise InvalidInput(f"{line.where}: import: goes round: {way}")
    if len(inside) > MOST_IMPORTS:
        raise InvalidInput(f"{line.where}: import: more than {MOST_IMPORTS} inside one another")


class _Lines:
    """Lines, taken one by one."""

    def __init__(self, lines: Sequence[_Line], file: str) -> None:
        self._lines = lines
        self._file = file
        self._at = 0

    def next(self) -> _Line | None:
        if self._at == len(self._lines):
            return None
        self._at += 1
        return self._lines[self._at - 1]

    def next_is_brace(self) -> bool:
        return self._at < len(self._lines) and [w.text for w in self._lines[self._at].words] == ["{"]

    def expect(self, after: _Line, what: str) -> _Line:
        line = self.next()
        if line is None:
            raise InvalidInput(f"{after.where}: the file ends, {what} was expected")
        return line

    def rest(self) -> Iterator[_Line]:
        while (line := self.next()) is not None:
            yield line

    def until_closed(self, opened: _Line) -> Iterator[_Line]:
        """Give the lines up to the brace that closes what ``opened`` opens."""
        depth = 1
        while (line := self.next()) is not None:
            if line.closes:
                if len(line.words) > 1:
                    raise InvalidInput(f"{line.where}: {line.words[1].text!r} after a closing brace")
                depth -= 1
                if not depth:
                    return
            depth += line.opens
            yield line
        raise InvalidInput(f"{opened.where}: this brace is never closed")


def _snippet_name(line: _Line) -> str | None:
    text = line.words[0].text
    is_snippet = text.startswith("(") and text.endswith(")") and line.opens and len(line.words) == 2
    return text[1:-1] if is_snippet else None


def _split(text: str, file: str, env: Mapping[str, str]) -> list[_Line]:
    """Return the lines that hold words. Raises InvalidInput for a quote that is never closed."""
    found: list[_Line] = []
    words: list[_Word] = []
    number = began = 1
    at = 0
    while at <= len(text):
        if at == len(text) or text[at] == "\n":
            if words:
                found.append(_Line(Where(file, began), tuple(words)))
                words = []
            number += 1
            at += 1
        elif text[at].isspace() or text[at] == "\ufeff":
            at += 1
        elif text[at] == "#":
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
        else:
            began = began if words else number
            word, end = _word(text, at, Where(file, number), env)
            words.append(word)
            number += text.count("\n", at, end)
            at = end
    return found


def _word(text: str, at: int, where: Where, env: Mapping[str, str]) -> tuple[_Word, int]:
    if text[at] != '"':
        end = at
        while end < len(text) and not text[end].isspace():
            end += 1
        return _Word(_with_variables(text[at:end], env)), end
    end = at + 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end : end + 2] == '\\"' else 1
    if end >= len(text):
        raise InvalidInput(f"{where}: this quote is never closed")
    inner = text[at + 1 : end].replace('\\"', '"')
    return _Word(_with_variables(inner, env), quoted=True), end + 1


_ARGUMENT = re.compile(r"\{args(?:\[(\d+)\]|\.(\d+))\}")


def _with_arguments(line: _Line, args: Sequence[str], imported_at: Where) -> _Line:
    """Return a line of a snippet with ``{args[0]}`` put in. Raises InvalidInput for one that is not given."""

    def argument(match: re.Match[str]) -> str:
        number = int(match[1] or match[2])
        if number >= len(args):
            raise InvalidInput(
                f"{imported_at}: import: {line.where} wants argument {number}, {len(args)} given"
            )
        return args[number]

    words = (_Word(_ARGUMENT.sub(argument, word.text), word.quoted) for word in line.words)
    return _Line(line.where, tuple(words))


def _with_variables(text: str, env: Mapping[str, str]) -> str:
    """Return ``text`` with ``{$NAME}`` and ``{%NAME%}`` put in; one that is not set is empty."""
    if "{" not in text:
        return text
    return _VARIABLE.sub(lambda match: env.get(match[1] or match[2], ""), text)
