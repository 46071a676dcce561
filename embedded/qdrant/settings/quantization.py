"""Quantization of vectors: the four kinds, read from the wire, kept, and put into the engine's form.

It takes effect when a shard is optimised, save for kinds that the engine applies to fresh points as well.
"""

from typing import Annotated, Any, Literal

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.settings.memory import MEMORY, Memory
from embedded.qdrant.settings.shapes import shaped

Object = dict[str, Any]
EngineQuantization = (
    edge.ScalarQuantizationConfig
    | edge.ProductQuantizationConfig
    | edge.BinaryQuantizationConfig
    | edge.TurboQuantQuantizationConfig
)

_COMPRESSION = {
    "x4": edge.CompressionRatio.X4,
    "x8": edge.CompressionRatio.X8,
    "x16": edge.CompressionRatio.X16,
    "x32": edge.CompressionRatio.X32,
    "x64": edge.CompressionRatio.X64,
}
_ENCODING = {
    "one_bit": edge.BinaryQuantizationEncoding.OneBit,
    "two_bits": edge.BinaryQuantizationEncoding.TwoBits,
    "one_and_half_bits": edge.BinaryQuantizationEncoding.OneAndHalfBits,
}
_QUERY_ENCODING = {
    "default": edge.BinaryQuantizationQueryEncoding.Default,
    "binary": edge.BinaryQuantizationQueryEncoding.Binary,
    "scalar4bits": edge.BinaryQuantizationQueryEncoding.Scalar4Bits,
    "scalar8bits": edge.BinaryQuantizationQueryEncoding.Scalar8Bits,
}
_BITS = {
    "bits1": edge.TurboQuantBitSize.Bits1,
    "bits1_5": edge.TurboQuantBitSize.Bits1_5,
    "bits2": edge.TurboQuantBitSize.Bits2,
    "bits4": edge.TurboQuantBitSize.Bits4,
    "bits8": edge.TurboQuantBitSize.Bits8,
}


class _Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    always_ram: bool | None = None
    memory: Memory | None = None

    def placement(self) -> Object:
        """The arguments that every kind has in the engine."""
        return {"always_ram": self.always_ram, "memory": MEMORY[self.memory] if self.memory else None}


class Scalar(_Kind, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One byte for each number."""

    type: Literal["int8"]
    quantile: Annotated[float, Meta(ge=0.5, le=1)] | None = None

    def for_engine(self) -> EngineQuantization:
        """The engine's form."""
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, self.quantile, **self.placement())


class Product(_Kind, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Centroids of parts of the vector."""

    compression: Literal["x4", "x8", "x16", "x32", "x64"]

    def for_engine(self) -> EngineQuantization:
        """The engine's form."""
        return edge.ProductQuantizationConfig(_COMPRESSION[self.compression], **self.placement())


class Binary(_Kind, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One to two bits for each number."""

    encoding: Literal["one_bit", "two_bits", "one_and_half_bits"] | None = None
    query_encoding: Literal["default", "binary", "scalar4bits", "scalar8bits"] | None = None

    def for_engine(self) -> EngineQuantization:
        """The engine's form."""
        return edge.BinaryQuantizationConfig(
            encoding=_ENCODING[self.encoding] if self.encoding else None,
            query_encoding=_QUERY_ENCODING[self.query_encoding] if self.query_encoding else None,
            **self.placement(),
        )


class Turbo(_Kind, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One to eight bits for each number of the rotated vector (TurboQuant)."""

    bits: Literal["bits1", "bits1_5", "bits2", "bits4", "bits8"] | None = None

    def for_engine(self) -> EngineQuantization:
        """The engine's form."""
        return edge.TurboQuantQuantizationConfig(bits=_BITS[self.bits] if self.bits else None, **self.placement())


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A `quantization_config`: an object whose only key is the kind."""

    scalar: Scalar | None = None
    product: Product | None = None
    binary: Binary | None = None
    turbo: Turbo | None = None

    def __post_init__(self) -> None:
        if sum(kind is not None for kind in (self.scalar, self.product, self.binary, self.turbo)) != 1:
            raise ValueError("give exactly one of scalar, product, binary, turbo")

    def for_engine(self) -> EngineQuantization | None:
        """The engine's form."""
        kind = self.scalar or self.product or self.binary or self.turbo
        return kind and kind.for_engine()


def changed(current: Quantization | None, given: Any) -> Quantization | None:
    """The quantization after an update: None leaves it, "Disabled" ends it, anything else replaces it."""
    if given is None:
        return current
    return None if given == "Disabled" else shaped(given, Quantization, "quantization_config")
