"""Telling alerts to ALERT_WEBHOOK_URL: in the service's format, signed, with more than one try."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import msgspec

from orchestration.alarms.alert import NotDelivered, Send, Status, Told, safe
from orchestration.alarms.formats import SHAPES, Format
from zhiyun.settings import AlertSettings

TRIES = 3
TIMEOUT = 8.0  # seconds for one try
BUDGET = 25.0  # seconds for all that is told at once, since a sensor's tick is ended after 60
_PAUSES = (0.5, 2.0)
_LONGEST_PAUSE = 5.0  # whatever the service asks for: the next look comes anyway


def webhook(settings: AlertSettings, pause: Callable[[float], None] = time.sleep) -> Send | None:
    """What POSTs alerts to ALERT_WEBHOOK_URL, each time in up to three tries; None where there is no address."""
    if not settings.webhook_url:
        return None
    ends = time.monotonic() + BUDGET

    def send(status: Status, alerts: Sequence[Told]) -> None:
        shown = [msgspec.structs.replace(told, alert=safe(told.alert)) for told in alerts]
        content = msgspec.json.encode(SHAPES[settings.format](status, shown))
        why = "there was no time left"
        for attempt in range(TRIES):
            left = ends - time.monotonic()
            if left <= 0:
                break
            why, again, wanted = _post(settings, content, min(TIMEOUT, left))
            if not why:
                return
            if not again:
                break
            if attempt < TRIES - 1:
                pause(min(wanted or _PAUSES[attempt], _LONGEST_PAUSE))
        # The address itself may be a secret: chat services have their token in it.
        raise NotDelivered(f"ALERT_WEBHOOK_URL could not be told ({why}); it is tried again.")

    return send


def signed(url: str, content: bytes, style: Format, secret: str, now: datetime) -> tuple[str, dict[str, str]]:
    """The address and the headers, signed where there is a secret and the service has a signature.

    DingTalk's: `timestamp` (ms) and `sign`, the base64 HMAC-SHA256 of `timestamp\\nsecret` under the secret.
    """
    headers = {"content-type": "application/json; charset=utf-8"}
    if secret and style == "generic":
        headers["x-zhiyun-signature"] = "sha256=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
    if secret and style == "dingtalk":
        parts = urlsplit(url)
        stamp = str(int(now.timestamp() * 1000))
        digest = hmac.new(secret.encode(), f"{stamp}\n{secret}".encode(), hashlib.sha256).digest()
        query = [*parse_qsl(parts.query), ("timestamp", stamp), ("sign", base64.b64encode(digest).decode())]
        url = urlunsplit(parts._replace(query=urlencode(query)))
    return url, headers


def _post(settings: AlertSettings, content: bytes, timeout: float) -> tuple[str, bool, float]:
    """(what went wrong or nothing, whether another try may help, seconds that the service asks to wait)."""
    try:
        url, headers = signed(settings.webhook_url, content, settings.format, settings.secret, datetime.now(UTC))
        answer = httpx.post(url, content=content, headers=headers, timeout=timeout)
    except httpx.HTTPError as error:  # its words may hold the address
        return f"no answer: {type(error).__name__}", True, 0.0
    except (httpx.InvalidURL, ValueError):
        return "it is no address that can be asked", False, 0.0
    if not answer.is_success:
        asked = answer.headers.get("retry-after", "")
        again = answer.status_code >= 500 or answer.status_code in (408, 425, 429)
        return f"it answered {answer.status_code}", again, float(asked) if asked.isdigit() else 0.0
    return _refusal(answer.content, settings.format), False, 0.0


def _refusal(content: bytes, style: Format) -> str:
    """DingTalk and WeCom answer 200 to what they refuse, with the reason in the body."""
    if style not in ("dingtalk", "wecom"):
        return ""
    try:
        answer = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        return "it answered something that is not JSON"
    code = answer.get("errcode", 0)
    return f"it refused: errcode {code}, {str(answer.get('errmsg', ''))[:200]}" if code else ""
