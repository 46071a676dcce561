"""The retrieval model: everything that turns text into vectors, as one immutable folder for each fingerprint.

`model.json` (the configuration), `lexicon.bin` (document frequencies), and `dense/` where the dense model was trained
on the corpus. The same folder, packed, is in PostgreSQL.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge.models import lexical, static_embedding, static_training
from knowledge.models.embedding import (
    CORPUS,
    PACKAGED,
    Embedder,
    EmbeddingModelUnavailable,
    embedder_fingerprint,
    load_embedder,
)
from knowledge.models.fusion import DEFAULT_WEIGHT, PACKAGED_WEIGHT
from knowledge.models.lexical import Bm25, tokenize
from knowledge.models.lexicon import Lexicon
from zhiyun.settings import EmbeddingSettings

_SKETCH = 512
_DENSE = "dense"
_COMPARED = 100
_CORPUS_COSINES = (0.3, 0.8)


@dataclass(frozen=True, slots=True)
class RetrievalModel:
    """A dense model, the lexical numbers that go with it, and what they were made of."""

    fingerprint: str
    embedder: Embedder
    bm25: Bm25
    lexicon: Lexicon
    config: dict[str, Any]

    @property
    def default_weight(self) -> float:
        """The weight of the dense half as long as no golden set says another."""
        return float(self.config["default_weight"])

    @property
    def cosines(self) -> tuple[float, float]:
        """The dense model's usual cosine of a text to unrelated passages and to its own: what "near" means."""
        low, high = self.config["cosines"]
        return float(low), float(high)


def build(
    texts: Sequence[str],
    settings: EmbeddingSettings,
    *,
    rules: str,
    folder: Path,
    progress: Callable[[str], None] = lambda note: None,
) -> RetrievalModel:
    """Make the model for a corpus below `folder`, or load it where the same one was made before.

    `texts` are the distinct indexed texts in a stable order, `rules` names the passage rules. Raises
    EmbeddingModelUnavailable; nothing is left behind then.
    """
    if not texts:
        raise ValueError("a retrieval model needs passages")
    config = _config(texts, settings, rules)
    target = folder / config["fingerprint"]
    if target.exists():
        return load(target)
    lengths: list[int] = []

    def counted() -> Iterable[set[str]]:  # one passage at a time: the tokens of all would be the peak of memory
        for text in texts:
            tokens = tokenize(text)
            lengths.append(len(tokens))
            yield Lexicon.counted(text, tokens)

    lexicon = Lexicon.of(counted())
    config["average_length"] = max(1.0, round(sum(lengths) / len(lengths), 1))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as made:
        _write(Path(made) / "model", config, lexicon, texts, settings, progress)
        _move(Path(made) / "model", target)
    return load(target)


def load(folder: Path) -> RetrievalModel:
    """Read a model's folder. Raises EmbeddingModelUnavailable."""
    try:
        config = read_config(folder)
        lexicon = Lexicon.load(folder / "lexicon.bin")
    except (OSError, ValueError) as error:
        raise EmbeddingModelUnavailable(
            f"The retrieval model in {folder} cannot be read ({error}); delete the folder, and the next use fetches it again."
        ) from None
    fields = EmbeddingSettings.model_fields
    settings = EmbeddingSettings(**{key: value for key, value in config["embedding"].items() if key in fields})
    embedder = load_embedder(settings, folder / _DENSE, config["embedder"])
    bm25 = Bm25(config["k"], config["b"], config["average_length"])
    return RetrievalModel(config["fingerprint"], embedder, bm25, lexicon, config)


def read_config(folder: Path) -> dict[str, Any]:
    """What a model's folder says of it, without loading it. Raises OSError or ValueError."""
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))


def is_static(config: dict[str, Any]) -> bool:
    """Whether the dense model is the one trained on the corpus: small, and loaded in a moment."""
    return config["embedding"]["model"] == CORPUS


def pack(folder: Path) -> bytes:
    """The folder as one archive; the same folder gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.writestr(
                    zipfile.ZipInfo(path.relative_to(folder).as_posix()),
                    path.read_bytes(),
                    zipfile.ZIP_DEFLATED,
                    1,
                )
    return buffer.getvalue()


def unpack(package: bytes, folder: Path) -> None:
    """Write the archive as `folder`, whole or not at all; a folder that is there already stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as made:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            archive.extractall(Path(made) / "model")
        _move(Path(made) / "model", folder)


def why_another(config: dict[str, Any], settings: EmbeddingSettings, hashes: Sequence[bytes]) -> str:
    """Why the model with this `config` does not do for these settings and this corpus; empty when it does.

    `hashes` are the sha256 of the indexed texts at hand. A model is made anew when its settings or rules have
    changed, or when more than half of the corpus came after it was made; an edited document is no reason.
    """
    if config["embedder_settings"] != _settings_part(settings):
        return f"EMBEDDING_MODEL={settings.model} is another dense model or has other prompts"
    if config["lexical_rules"] != _lexical_rules() or config["static_rules"] != _static_rules(settings):
        return "the platform's own rules have changed"
    fresh = new_share(config["sketch"], hashes)
    if fresh > 0.5:
        return f"about {fresh:.0%} of the passages came after the model was made"
    return ""


def sketch(hashes: Iterable[bytes]) -> list[str]:
    """The smallest hashes of a set, from which the overlap with another set is estimated (Bar-Yossef et al., 2002)."""
    return sorted(value[:8].hex() for value in set(hashes))[:_SKETCH]


def new_share(known: Sequence[str], hashes: Sequence[bytes]) -> float:
    """The share of `hashes` that are not in the set with the sketch `known`: exact for sets up to 512, else estimated."""
    if not hashes:
        return 0.0
    limit = known[-1] if len(known) == _SKETCH else "g"  # beyond the last digit: the sketch is the whole set
    seen = set(known)
    compared = [value for one in hashes if (value := one[:8].hex()) <= limit]
    return sum(value not in seen for value in compared) / len(compared) if compared else 1.0


def _config(texts: Sequence[str], settings: EmbeddingSettings, rules: str) -> dict[str, Any]:
    hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
    trained_on = hashlib.sha256(b"".join(sorted(set(hashes)))).hexdigest()
    if settings.model == CORPUS:
        embedder = hashlib.sha256(f"{CORPUS}\n{_static_rules(settings)}\n{trained_on}".encode()).hexdigest()[:32]
    else:
        embedder = embedder_fingerprint(settings)
    named = "\n".join([embedder, _lexical_rules(), rules, trained_on])
    return {
        "fingerprint": hashlib.sha256(named.encode()).hexdigest()[:32],
        "embedder": embedder,
        "embedder_settings": _settings_part(settings),
        "embedding": {
            "model": settings.model,
            "revision": settings.revision,
            "query_prompt": settings.query_prompt,
            "document_prompt": settings.document_prompt,
            "batch_tokens": settings.batch_tokens,
        },
        "default_weight": PACKAGED_WEIGHT if settings.model == PACKAGED else DEFAULT_WEIGHT,
        "lexical_rules": _lexical_rules(),
        "static_rules": _static_rules(settings),
        "passage_rules": rules,
        "passages": len(texts),
        "trained_on": trained_on,
        "sketch": sketch(hashes),
        "k": lexical.K,
        "b": lexical.B,
    }


def _settings_part(settings: EmbeddingSettings) -> str:
    return CORPUS if settings.model == CORPUS else embedder_fingerprint(settings)


def _lexical_rules() -> str:
    return f"{lexical.RULES}/{lexical.K}/{lexical.B}"


def _static_rules(settings: EmbeddingSettings) -> str:
    # The static model's features are the lexical tokens.
    return f"{static_embedding.RULES}/{lexical.RULES}" if settings.model == CORPUS else ""


def _write(
    folder: Path,
    config: dict[str, Any],
    lexicon: Lexicon,
    texts: Sequence[str],
    settings: EmbeddingSettings,
    progress: Callable[[str], None],
) -> None:
    folder.mkdir()
    if settings.model == CORPUS:
        (folder / _DENSE).mkdir()
        static_training.train(texts, progress=progress).save(folder / _DENSE)
        config["cosines"] = _CORPUS_COSINES
    else:
        config["cosines"] = _cosines(load_embedder(settings, folder / _DENSE), texts)
    lexicon.save(folder / "lexicon.bin")
    text = json.dumps(config, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / "model.json").write_text(text, encoding="utf-8")


def _cosines(embedder: Embedder, texts: Sequence[str]) -> list[float]:
    """Measured on a sample of the passages: a sentence as the question, its own passage, and the nearest other one."""
    import numpy as np

    sample = [text for text in texts[:: max(1, len(texts) // _COMPARED)] if len(text) > 40][:_COMPARED]
    if len(sample) < 10:
        return list(_CORPUS_COSINES)
    questions = np.stack([embedder.embed_query(static_training.sentences(text)[-1]) for text in sample])
    near = questions @ embedder.embed_passages(sample).T
    own = np.diag(near).copy()
    np.fill_diagonal(near, -1.0)
    low, high = float(np.median(near.max(axis=1))), float(np.median(own))
    return [round(low, 3), round(max(high, low + 0.05), 3)]


def _move(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(made)  # another process was first, with the same model
