"""Fencing the chat off for the moment in which a restore is put in force."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import redis

from zhiyun.fence import KEY, SEEN_SECONDS, Fence, encode
from zhiyun.logs import without_secrets
from zhiyun.settings import RedisSettings

_CONNECT_SECONDS = 2.0


@contextmanager
def fenced(
    settings: RedisSettings, reason: str, seconds: float = 15, say: Callable[[str], None] = lambda _: None
) -> Generator[bool]:
    """Keep the chat fenced while the block runs; gives whether it is.

    The body begins when every chat process has seen the fence. It is renewed while the block runs, and goes by itself
    after `seconds` if this process is killed. Without Redis the chat cannot be fenced: that is said, and the block runs.
    """
    where = f"REDIS_URL={without_secrets(settings.url)}"
    client = redis.Redis.from_url(
        settings.url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_CONNECT_SECONDS
    )
    over = threading.Event()

    def put() -> None:
        value = encode(Fence(reason, time.time() + seconds))
        client.set(KEY, value, px=max(1, round(seconds * 1000)))

    def renew() -> None:
        while not over.wait(seconds / 3):
            try:
                put()
            except redis.RedisError as error:
                say(f"the fence of the chat could not be renewed at {where} ({error})")

    try:
        put()
    except redis.RedisError as error:
        say(f"Redis at {where} cannot be reached ({error}), so the chat is not fenced while this is put in force.")
        client.close()
        yield False
        return
    renewing = threading.Thread(target=renew, daemon=True, name="fence")
    renewing.start()
    try:
        time.sleep(SEEN_SECONDS)
        yield True
    finally:
        over.set()
        renewing.join()
        try:
            client.delete(KEY)
        except redis.RedisError as error:
            say(f"the fence of the chat could not be taken away at {where} ({error}); it goes within {seconds:.0f} s")
        client.close()
