"""YAML documents, and the position of errors in them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sisock.errors import SiteError
from sisock.patterns import TYPO, did_you_mean

_MOST_BYTES = 10_000_000


def loaded(path: Path) -> Any:
    """Read a YAML file, with the lines of its keys.

    Raises
    ------
    SiteError
        If it cannot be read, or is not valid YAML.
    """
    yaml = YAML(typ="rt")
    try:
        return yaml.load(_text(path))
    except SiteError:
        raise
    except OSError as error:
        raise SiteError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise SiteError([f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})"]) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise SiteError([f"{path}{where}: is not YAML: {error.problem or error.context}"]) from error
    except (YAMLError, ValueError, OverflowError) as error:  # characters, dates and numbers that cannot be
        said = str(error).strip().partition("\n")[0]
        raise SiteError([f"{path}: is not YAML that can be read: {said or type(error).__name__}"]) from error
    except RecursionError as error:
        raise SiteError([f"{path}: is nested too deeply"]) from error


def plain(value: Any) -> Any:
    """Strip ruamel's containers, which pydantic and json do not know."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def at(path: Path, document: Any, keys: tuple[Any, ...], message: str) -> str:
    """Say `message` with the line of the deepest part of `keys` that is in the document."""
    line, here = 1, document
    for key in keys:
        if isinstance(here, CommentedMap) and key in here:
            line = here.lc.key(key)[0] + 1
        elif isinstance(here, CommentedSeq) and isinstance(key, int) and key < len(here):
            line = here.lc.item(key)[0] + 1
        else:
            break
        here = here[key]
    dotted = ".".join(str(key) for key in keys)
    return f"{path}:{line}: {dotted + ': ' if dotted else ''}{message}"


def explained(
    error: ValidationError,
    path: Path,
    document: Any,
    prefix: tuple[Any, ...],
    model: type[BaseModel],
    *,
    hide: bool = False,
) -> Iterator[str]:
    """Yield the errors in settings of `model`, each with file, line and key; `hide` leaves out their values."""
    for problem in error.errors(include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        keys = tuple(part for part in problem["loc"] if part != "[key]")  # the mark of pydantic for the key itself
        if problem["type"] == "extra_forbidden":
            *place, key = keys
            meant = did_you_mean(str(key), _keys_at(model, place), TYPO)
            message = "is not a key that is known here" + (f"; {meant}" if meant else "")
        elif problem["type"] == "missing":
            message = "is missing"
        elif not hide and not isinstance(problem["input"], dict) and repr(problem["input"]) not in message:
            message += f" (it is {json.dumps(problem['input'], default=str)[:80]})"
        yield at(path, document, prefix + keys, message[:1].lower() + message[1:])


def _keys_at(kind: Any, place: Sequence[Any]) -> list[str]:
    """Return the keys that settings of a type have at `place`; none where that is not known."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not place:
            return [field.alias or name for name, field in kind.model_fields.items()]
        field = kind.model_fields.get(place[0])
        return _keys_at(field.annotation, place[1:]) if field else []
    within = place[1:] if get_origin(kind) in (dict, list) else place
    return [key for each in get_args(kind) for key in _keys_at(each, within)]


def _text(path: Path) -> str:
    """Return the text of a file; a pipe would be waited for, and a device read for ever."""
    found = path.stat()
    if not S_ISDIR(found.st_mode) and not S_ISREG(found.st_mode):
        raise SiteError([f"{path}: is not a file"])
    if found.st_size > _MOST_BYTES:
        raise SiteError([f"{path}: has {found.st_size:,} bytes; at most {_MOST_BYTES:,} are read"])
    return path.read_text(encoding="utf-8")
