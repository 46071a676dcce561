"""Places for objects as operators write them: folders and `s3://bucket/prefix`, with names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from objects.folder import FolderObjects
from objects.s3 import S3Objects
from objects.store import ObjectStore
from zhiyun.settings import S3Settings, SettingsError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SECRET = re.compile(r"://[^/,]*@")  # a user and password, where there should be none
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Place:
    """A place under a name. `url` is `file:///folder` or `s3://bucket/prefix`, without a slash at its end."""

    name: str
    url: str

    @property
    def folder(self) -> Path | None:
        """The folder, None for a bucket."""
        return Path(self.url.removeprefix("file://")) if self.url.startswith("file://") else None


def parse_places(text: str, variable: str, default: str, *, first: str = "primary") -> list[Place]:
    """The places that a setting names, in its order; `default` is read instead of an empty `text`.

    They are separated by commas; `name=place` gives a name. The first is named `first` if it has no name (the last part
    of its path where `first` is empty), the others by the last part of their path. Relative folders are below the
    working directory. Raises SettingsError, with one sentence, for what cannot be read, and for two places of one name
    or two names of one place.
    """
    said = text if text.strip() else default
    shown = f"{variable}={_SECRET.sub('://***@', said)!r}"
    places: list[Place] = []
    for number, part in enumerate(said.split(",")):
        name, separator, where = _named(part)
        if not where or (separator and not name):
            raise SettingsError(f"{shown}: has an empty part; write `place` or `name=place`, separated by commas")
        url = _url(where, shown)
        name = name or (first if number == 0 else "") or url.rpartition("/")[2]
        if not name or "/" in name or _CONTROL.search(name):
            raise SettingsError(f"{shown}: {where!r} needs a name without a slash; write `name=place`")
        for other in places:
            if other.name == name:
                raise SettingsError(
                    f"{shown}: {other.url} and {url} would both be named {name!r}; give one of them another name with "
                    "`name=place`"
                )
            if _identity(other) == _identity(Place(name, url)):
                raise SettingsError(
                    f"{shown}: {other.name!r} and {name!r} are the same place, {url}; leave one of them out"
                )
        places.append(Place(name, url))
    return places


def open_store(place: Place, settings: S3Settings, setting: str) -> ObjectStore:
    """The store at a place; `setting` is the variable that names it, told in errors. Nothing is looked at yet."""
    if place.folder:
        return FolderObjects(place.name, place.folder, setting)
    bucket, _, prefix = place.url.removeprefix("s3://").partition("/")
    return S3Objects(place.name, bucket, prefix, settings, setting)


def _named(part: str) -> tuple[str, str, str]:
    """(name, `=` if there is a name, place)."""
    part = part.strip()
    name, separator, where = part.partition("=")
    if not separator or _SCHEME.match(name):  # the `=` is in an address
        return "", "", part
    return name.strip(), separator, where.strip()


def _url(where: str, shown: str) -> str:
    scheme = _SCHEME.match(where)
    if scheme and scheme[0] == "s3://":
        bucket, _, prefix = where.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        if not _BUCKET.fullmatch(bucket) or (prefix and any(part in ("", ".", "..") for part in prefix.split("/"))):
            raise SettingsError(
                f"{shown}: has an address that is not `s3://bucket/prefix`; keys belong into S3_ACCESS_KEY_ID"
            )
        return f"s3://{bucket}/{prefix}".rstrip("/")
    if scheme and scheme[0] == "file://":
        where = unquote(where.removeprefix("file://"))
    elif scheme:
        raise SettingsError(f"{shown}: {scheme[0]} is not known; write a folder or `s3://bucket/prefix`")
    if "\0" in where or (scheme and not where.startswith("/")):
        raise SettingsError(f"{shown}: {where!r} is no folder; write `file:///folder` or the folder alone")
    return f"file://{Path(where).expanduser().absolute()}"


def _identity(place: Place) -> str:
    return str(place.folder.resolve()) if place.folder else place.url
