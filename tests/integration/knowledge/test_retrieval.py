"""What retrieval promises, over the real vector store: exact identifiers first, releases, swaps, and failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from qdrant_client import AsyncQdrantClient

from knowledge.models import retrieval_model
from knowledge.models.lexical import tokenize
from knowledge.models.retrieval_model import RetrievalModel
from knowledge.releases.collection import Collections
from knowledge.releases.vector_store import CURRENT, Point
from knowledge.retrieval.retriever import NoLiveRelease, Retriever, VectorStoreDown
from zhiyun.settings import EmbeddingSettings, QdrantSettings, RetrievalSettings

TEXTS = [
    "退款申请：登录后在订单页面点申请退款，三个工作日到账。",
    "发票抬头可以在发票页面修改，电子发票会发到邮箱。",
    "错误码 QH-40302 表示工作区处于只读或欠费停用状态，续费后重试。",
    "错误码 QH-40303 表示来源 IP 不在白名单，把出口 IP 加进去。",
    "短信签名需要审核，一般两小时内完成。",
    "客服热线 10086 转 3，工作时间九点到十八点。",
    "接口 orders.batchQuery 一次最多查询两百个订单号。",
    "HTTP 404 表示找不到订单，HTTP 429 表示请求太频繁。",
]


class Base:
    """An alias of its own in the shared store, and what is published under it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.alias = f"k{uuid4().hex[:8]}"
        self._store = Collections(QdrantSettings(url=url, collection=self.alias))
        self._folder = folder
        self.models: dict[str, RetrievalModel] = {}

    def publish(
        self,
        texts: Sequence[str],
        *,
        trained_on: Sequence[str],
        release: int = 1,
        weight: float = 0.3,
        rules: str = "1",
    ) -> str:
        model = retrieval_model.build(trained_on, EmbeddingSettings(), rules=rules, folder=self._folder)
        self.models[model.fingerprint] = model
        name = self._store.name(model.fingerprint)
        if not self._store.exists(name):
            self._store.create(name, model.embedder.dimensions, {})
        vectors = model.embedder.embed_passages(texts)
        self._store.upsert(
            name,
            (
                Point(
                    uuid4(),
                    vector.tolist(),
                    model.bm25.passage(tokenize(text)),
                    {"uri": f"s/{number}", "text": text, "added_in": release, "removed_in": CURRENT},
                )
                for number, (text, vector) in enumerate(zip(texts, vectors, strict=True))
            ),
        )
        self.point_at(model.fingerprint, release, weight)
        return model.fingerprint

    def point_at(self, fingerprint: str, release: int, weight: float = 0.3) -> None:
        name = self._store.name(fingerprint)
        self._store.publish(
            name,
            {"collection": name, "live_release": release, "fingerprint": fingerprint, "fusion_weight": weight},
        )

    def remove(self) -> None:
        """What is left in the shared store would be in the backups of other tests, collection by collection."""
        for fingerprint in self.models:
            self._store.delete(self._store.name(fingerprint))


@pytest.fixture
def base(qdrant_url: str, tmp_path: Path) -> Iterator[Base]:
    base = Base(qdrant_url, tmp_path)
    yield base
    base.remove()


@pytest.fixture
async def open_retriever(qdrant_url: str, base: Base) -> AsyncIterator[Callable[[], Retriever]]:
    client = AsyncQdrantClient(url=qdrant_url, timeout=10, check_compatibility=False)
    yield lambda: Retriever(client, RetrievalSettings(), base.models.__getitem__, alias=base.alias)
    await client.close()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ("QH-40302", 2),
        ("qh40303", 3),
        ("40303 是什么", 3),
        ("10086", 5),
        ("orders.batchQuery", 6),
        ("batch query", 6),
        ("404", 7),
    ],
)
async def test_an_identifier_typed_alone_brings_the_passage_that_has_it_first(
    base: Base, open_retriever: Callable[[], Retriever], typed: str, place: int, weight: float
) -> None:
    base.publish(TEXTS, trained_on=TEXTS, weight=weight)
    found = await open_retriever().retrieve(typed)
    assert found.evidence[0].uri == f"s/{place}"


async def test_a_question_brings_its_passage_with_confidence(
    base: Base, open_retriever: Callable[[], Retriever]
) -> None:
    base.publish(TEXTS, trained_on=TEXTS)
    found = await open_retriever().retrieve("請問發票抬頭怎麼改？")
    assert found.release == 1
    assert found.evidence[0].uri == "s/1"
    assert found.best_score >= found.evidence[0].score > 0.5
    assert set(found.stages) == {"embed", "search", "rank"}


@pytest.mark.parametrize("said", ["", " \n", "😀", "？？", "你好", "谢谢啦", "世界上最高的山是哪座", "\ud83d"])
async def test_nothing_asked_and_nothing_known_is_no_evidence(
    base: Base, open_retriever: Callable[[], Retriever], said: str
) -> None:
    base.publish(TEXTS, trained_on=TEXTS)
    assert (await open_retriever().retrieve(said)).evidence == ()


async def test_a_word_newer_than_the_model_is_found_even_by_a_dense_weight(
    base: Base, open_retriever: Callable[[], Retriever]
) -> None:
    texts = [*TEXTS, "蓝鲸助手是新上线的语音功能，在设置里打开蓝鲸助手。"]
    base.publish(texts, trained_on=TEXTS, weight=1.0)
    found = await open_retriever().retrieve("蓝鲸助手怎么打开")
    assert found.evidence[0].uri == "s/8"


async def test_only_the_live_release_is_read(base: Base, open_retriever: Callable[[], Retriever]) -> None:
    fingerprint = base.publish(TEXTS[:1], trained_on=TEXTS)
    base.publish(TEXTS[1:2], trained_on=TEXTS, release=2)
    base.point_at(fingerprint, 1)
    retriever = open_retriever()
    assert (await retriever.retrieve("发票抬头修改", threshold=0)).release == 1
    assert not any("发票" in e.text for e in (await retriever.retrieve("发票抬头修改", threshold=0)).evidence)
    base.point_at(fingerprint, 2)
    await asyncio.sleep(1.1)  # what is live is looked up once a second
    assert any("发票" in e.text for e in (await retriever.retrieve("发票抬头修改", threshold=0)).evidence)


async def test_another_fingerprint_is_taken_up_without_a_gap(
    base: Base, open_retriever: Callable[[], Retriever]
) -> None:
    base.publish(TEXTS[:2], trained_on=TEXTS)
    retriever = open_retriever()
    assert (await retriever.retrieve("退款申请")).release == 1
    base.publish(TEXTS, trained_on=TEXTS, rules="2", release=2)
    releases = {1}
    deadline = time.monotonic() + 30
    while 2 not in releases and time.monotonic() < deadline:
        found = await retriever.retrieve("退款申请")
        assert found.evidence
        releases.add(found.release)
        await asyncio.sleep(0.05)
    assert releases == {1, 2}


async def test_nothing_published_says_so(open_retriever: Callable[[], Retriever]) -> None:
    with pytest.raises(NoLiveRelease, match="no published release"):
        await open_retriever().retrieve("退款")
    assert await open_retriever().state() is None


async def test_a_store_that_is_away_is_one_sentence(base: Base) -> None:
    client = AsyncQdrantClient(url="http://127.0.0.1:9", timeout=2, check_compatibility=False)
    with pytest.raises(VectorStoreDown, match="QDRANT_URL") as error:
        await Retriever(client, RetrievalSettings(), base.models.__getitem__).retrieve("退款")
    assert "\n" not in str(error.value)
    await client.close()
