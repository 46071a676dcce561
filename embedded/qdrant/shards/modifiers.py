"""The modifier of a sparse vector, changed in a shard that nobody has open.

The engine has no operation for it and refuses to load a shard whose segments say something else, though it uses the
modifier for queries only.
"""

from pathlib import Path
from typing import Any

import msgspec

from embedded.qdrant.errors import service_error
from embedded.qdrant.settings.config import CollectionConfig

Object = dict[str, Any]


def modifiers(config: CollectionConfig) -> dict[str, str]:
    """Each sparse vector's modifier, `none` or `idf`."""
    return {name: params.modifier or "none" for name, params in config.sparse.items()}


def set_modifiers(shard: Path, wanted: dict[str, str]) -> None:
    """Write them into the shard's own configuration and into that of each segment. Raises ApiError (500)."""
    try:
        _rewrite(shard / "edge_config.json", ("sparse_vectors",), wanted)
        for segment in shard.glob("segments/*/segment.json"):
            _rewrite(segment, ("config", "sparse_vector_data"), wanted)
    except (OSError, KeyError, msgspec.MsgspecError) as error:
        raise service_error(f"the modifier cannot be changed in the engine's files: {error!r}") from error


def _rewrite(path: Path, keys: tuple[str, ...], wanted: dict[str, str]) -> None:
    content: Object = msgspec.json.decode(path.read_bytes())
    vectors = content
    for key in keys:
        vectors = vectors[key]
    for name, modifier in wanted.items():
        vectors[name].pop("modifier", None)
        if modifier != "none":
            vectors[name]["modifier"] = modifier
    path.write_bytes(msgspec.json.encode(content))
