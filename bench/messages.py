"""Fill a database with conversations as a chat has them: Chinese made of the words of sample/knowledge, always the same.

`python -m bench.messages DATABASE_URL GIGABYTES` fills a database that has the platform's tables.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from zhiyun.repository import REPOSITORY

_SAMPLE = REPOSITORY / "sample" / "knowledge"
_START = datetime.fromisoformat("2026-01-01T00:00:00+08:00")
_CLAUSES = 400_000
_BATCH = 4096  # conversations that are written at once
# Chosen so that a dump shrinks as chat logs do: to 0.38 of its size by gzip, and 0.32 by zstd at level 3.
_STRAY = 0.15
_ENDS = np.array(["，", "，", "，", "。", "。", "；", "！", "？"])


def fill(url: str, gigabytes: float, seed: int = 1) -> int:
    """Write conversations until a dump of them has about this size (10^9 bytes, not compressed); gives the messages."""
    random = np.random.default_rng(seed)
    written = messages = 0
    pool = clauses(random)
    goal = gigabytes * 1e9
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        dropped = _drop_indexes(cursor)
        for number in itertools.count():
            if written >= goal:
                break
            conversations, lines, count = _batch(random, pool, number)
            with cursor.copy(
                "COPY chat.conversations (id, language, message_count, created_at, updated_at) FROM STDIN"
            ) as copy:
                copy.write(conversations)
            with cursor.copy(
                "COPY chat.messages (id, conversation_id, role, content, language, mode, finish_reason, release, citations, "
                "usage, duration_ms, created_at) FROM STDIN"
            ) as copy:
                copy.write(lines)
            written += len(conversations.encode()) + len(lines.encode())
            messages += count
        for statement in dropped:
            cursor.execute(statement)
        cursor.execute("ANALYZE chat.conversations, chat.messages")
    return messages


def _drop_indexes(cursor: psycopg.Cursor[Any]) -> list[bytes]:
    """Building them afterwards takes a quarter of the time; gives the statements that do."""
    tables = "ARRAY['chat.messages'::regclass, 'chat.conversations'::regclass]"
    foreign = cursor.execute(
        f"SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        f"WHERE conrelid = ANY ({tables}) AND contype IN ('f', 'p') ORDER BY contype = 'p'".encode()
    ).fetchall()
    indexes = cursor.execute(
        f"SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
        f"WHERE indrelid = ANY ({tables}) AND NOT indisprimary".encode()
    ).fetchall()
    for table, name, _ in foreign:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}".encode())
    return [
        *(definition.encode() for _, definition in indexes),
        *(f"ALTER TABLE {table} ADD CONSTRAINT {name} {what}".encode() for table, name, what in reversed(foreign)),
    ]


def clauses(random: np.random.Generator) -> list[str]:
    """Clauses of 4 to 14 words: each word follows the one before as in the documents, or now and then strays.

    So many that the same one rarely comes twice within what a compressor remembers.
    """
    import rjieba

    words: list[str] = []
    for path in sorted(_SAMPLE.rglob("*")):
        if path.suffix in {".md", ".txt"} and "en" not in path.parts:
            text = re.sub(r"[^\w]+", " ", path.read_text(encoding="utf-8"))
            words += [word for word in rjieba.cut(text) if word.strip()]
    vocabulary = sorted(set(words))
    index = {word: number for number, word in enumerate(vocabulary)}
    following: dict[int, list[int]] = defaultdict(list)
    for word, after in itertools.pairwise(words):
        following[index[word]].append(index[after])
    starts = np.zeros(len(vocabulary) + 1, dtype=np.int64)
    starts[1:] = np.cumsum([len(following[number]) for number in range(len(vocabulary))])
    successors = np.array(list(itertools.chain.from_iterable(following[number] for number in range(len(vocabulary)))))
    counts = np.maximum(np.diff(starts), 1)
    running = np.array([index[word] for word in words])
    lengths = random.integers(4, 15, size=_CLAUSES)
    chain = np.empty((14, _CLAUSES), dtype=np.int64)
    chain[0] = random.choice(running, size=_CLAUSES)
    for step in range(1, 14):
        before = chain[step - 1]
        place = starts[before] + (random.random(_CLAUSES) * counts[before]).astype(np.int64)
        strays = random.random(_CLAUSES) < _STRAY
        chain[step] = np.where(
            strays, random.choice(running, size=_CLAUSES), successors[np.minimum(place, len(successors) - 1)]
        )
    texts = np.array(vocabulary, dtype=object)[chain.T]
    ends = random.choice(_ENDS, size=_CLAUSES)
    return [
        "".join(row[:length]) + end for row, length, end in zip(texts.tolist(), lengths.tolist(), ends, strict=True)
    ]


def _batch(random: np.random.Generator, pool: list[str], number: int) -> tuple[str, str, int]:
    exchanges = random.geometric(0.4, size=_BATCH)  # question and answer
    total = int(exchanges.sum())
    chosen = _chosen(random, pool, total)
    ids = _uuids(random, _BATCH + 2 * total)
    release = random.integers(1, 40, size=total).tolist()
    tokens = random.integers(40, 900, size=(total, 2)).tolist()
    milliseconds = random.gamma(3.0, 400.0, size=total).astype(int).tolist()
    orders = random.integers(10**11, 10**12, size=total).tolist()
    conversations: list[str] = []
    lines: list[str] = []
    at = 0
    for place in range(_BATCH):
        count = int(exchanges[place])
        moment = _START + timedelta(seconds=7 * (number * _BATCH + place))
        conversation = next(ids)
        conversations.append(f"{conversation}\tzh\t{2 * count}\t{moment}\t{moment + timedelta(seconds=40 * count)}\n")
        for exchange in range(count):
            question, answer, document = next(chosen)
            asked = moment + timedelta(seconds=40 * exchange, milliseconds=orders[at] % 1000)
            ready = asked + timedelta(milliseconds=milliseconds[at])
            usage = json.dumps({"prompt_tokens": tokens[at][0] * 3, "completion_tokens": tokens[at][1]})
            citations = json.dumps(
                [{"document": f"sample/{document}.md", "start": tokens[at][0], "end": tokens[at][1] + 900}]
            )
            lines.append(
                f"{next(ids)}\t{conversation}\tcustomer\t订单{orders[at]}，{question}\tzh\t\\N\t\\N\t\\N\t[]\t\\N\t\\N\t{asked}\n"
                f"{next(ids)}\t{conversation}\tassistant\t{answer}\tzh\tllm\tstop\t{release[at]}\t{citations}\t{usage}\t"
                f"{milliseconds[at]}\t{ready}\n"
            )
            at += 1
    return "".join(conversations), "".join(lines), 2 * total


def _chosen(random: np.random.Generator, pool: list[str], total: int) -> Iterator[tuple[str, str, str]]:
    documents = [path.stem for path in sorted(_SAMPLE.rglob("*.md"))]
    asked = random.integers(1, 4, size=total).tolist()
    answered = random.integers(3, 16, size=total).tolist()
    draw = iter(random.integers(0, len(pool), size=sum(asked) + sum(answered)).tolist())
    document = random.integers(0, len(documents), size=total).tolist()
    for questions, answers, name in zip(asked, answered, document, strict=True):
        question = "".join([pool[next(draw)] for _ in range(questions)])
        yield question, "".join([pool[next(draw)] for _ in range(answers)]), documents[name]


def _uuids(random: np.random.Generator, count: int) -> Iterator[str]:
    digits = random.bytes(16 * count).hex()
    for start in range(0, len(digits), 32):
        one = digits[start : start + 32]
        yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-a{one[17:20]}-{one[20:]}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.messages", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("gigabytes", type=float)
    arguments = parser.parse_args()
    print(f"{fill(arguments.url, arguments.gigabytes)} messages")


if __name__ == "__main__":
    main()
