"""Settings: each that is wrong, each that is misspelt, and what they say that cannot go together."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

from console.doctor.kinds import Finding, Kind
from console.doctor.site import Site, attempt
from knowledge.documents.sources import parse_sources
from objects.places import parse_places
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.streams.encryption import Keys
from orchestration.capacity import disk
from zhiyun.settings import (
    ALL,
    AlertSettings,
    BackupSettings,
    CapacitySettings,
    KnowledgeSettings,
    ServingSettings,
    SettingsError,
    StackSettings,
    load,
    problems,
    variable_name,
)

_ENV = Path(".env")
_ALIKE = 0.85
_OWN_PREFIXES = ("ZHIYUN_", *(prefix for model in ALL if (prefix := model.model_config.get("env_prefix"))))

WELL = Kind(
    "configuration.well", "ok",
    ("{set} of {all} settings are set{where}; {whose}", "{all} 项设置中设了 {set} 项{where_zh}；{whose_zh}"),
)  # fmt: skip
WRONG = Kind(
    "configuration.wrong_value", "error",
    ("{problem}.", "设置有误：{problem}。"),
    ("Correct it in the environment or in {file}; what it may be is in docs/configuration.md: `zhiyun configuration`.",
     "在环境变量或 {file} 中改正；可用取值见 docs/configuration.md：`zhiyun configuration`。"),
)  # fmt: skip
MISSPELT = Kind(
    "configuration.unknown_name", "warning",
    ("{name} is no setting, so it has no effect; {meant} is one.", "{name} 不是有效设置，不起作用；是否想写 {meant}？"),
    ("Rename it in {file}: `grep -n {name} {file}`.", "在 {file} 中改名：`grep -n {name} {file}`。"),
)  # fmt: skip
OPEN_DAGSTER = Kind(
    "configuration.dagster_open", "warning",
    ("DAGSTER_HOST={host}: the Dagster UI has no login, and is open to every host that reaches this one.",
     "DAGSTER_HOST={host}：Dagster 界面没有登录，任何能访问本机的主机都可操作。"),
    ("Set DAGSTER_HOST=127.0.0.1, and reach it through `ssh -L 3000:127.0.0.1:3000 HOST`.",
     "设 DAGSTER_HOST=127.0.0.1，通过 `ssh -L 3000:127.0.0.1:3000 HOST` 访问。"),
)  # fmt: skip
TWO = Kind(
    "configuration.two_installations", "warning",
    ("A zhiyun runs with ZHIYUN_HOME={home}, but the settings name other services by URL: those are looked at.",
     "ZHIYUN_HOME={home} 的 zhiyun 正在运行，但设置中用 URL 指定了其他服务：检查的是后者。"),
    ("If this shell has taken in the addresses of an earlier start: `eval \"$(zhiyun env)\"`. To look at that zhiyun: "
     "`unset DATABASE_URL REDIS_URL QDRANT_URL`.",
     "若本终端载入过上次启动的地址：`eval \"$(zhiyun env)\"`。若要检查该 zhiyun：`unset DATABASE_URL REDIS_URL QDRANT_URL`。"),
)  # fmt: skip
NOBODY_TOLD = Kind(
    "configuration.nobody_is_told", "note",
    ("ALERT_WEBHOOK_URL is not set, so alerts are only in the Dagster UI and in the metrics.",
     "未设置 ALERT_WEBHOOK_URL，告警只出现在 Dagster 界面与指标中。"),
    ("Set ALERT_WEBHOOK_URL and ALERT_FORMAT.", "设置 ALERT_WEBHOOK_URL 和 ALERT_FORMAT。"),
)  # fmt: skip


def check(site: Site) -> Iterator[Finding]:
    """Everything that can be said without connecting to anything."""
    in_file = _env_file()
    file = f"{_ENV.absolute()}"
    wrong = problems()
    for problem in (*wrong, *_not_understood()):
        yield WRONG(problem=problem.rstrip("."), file=file)
    yield from _misspelt(in_file, file)
    stack = attempt(lambda: load(StackSettings))
    if stack and stack.dagster_host not in ("127.0.0.1", "localhost", "::1"):
        yield OPEN_DAGSTER(host=stack.dagster_host)
    if not site.embedded and attempt(site.place.is_running, OSError):
        yield TWO(home=site.place.home)
    alerts = attempt(lambda: load(AlertSettings))
    if alerts and not alerts.webhook_url:
        yield NOBODY_TOLD()
    if not wrong:
        chosen = sum(len(load(model).model_fields_set) for model in ALL)
        home = site.place.home
        yield WELL(
            set=chosen, all=sum(len(model.model_fields) for model in ALL),
            where=f", {len(in_file)} of them in {file}" if in_file else "",
            where_zh=f"，其中 {len(in_file)} 项在 {file}" if in_file else "",
            whose=f"the services are those of ZHIYUN_HOME={home}" if site.embedded else "the services are those of the URLs",
            whose_zh=f"服务来自 ZHIYUN_HOME={home}" if site.embedded else "服务由各 URL 指定",
        )  # fmt: skip


def _env_file() -> dict[str, str | None]:
    """What the `.env` file sets."""
    return attempt(lambda: dotenv_values(_ENV, encoding="utf-8"), OSError, UnicodeDecodeError) or {}


def _not_understood() -> Iterator[str]:
    """Settings that are lists, and are read only when they are used."""
    knowledge = attempt(lambda: load(KnowledgeSettings))
    capacity = attempt(lambda: load(CapacitySettings))
    backup, stack = attempt(lambda: load(BackupSettings)), attempt(lambda: load(StackSettings))
    serving = attempt(lambda: load(ServingSettings))
    try:
        if knowledge:
            parse_sources(knowledge.sources)
        if capacity:
            disk.volumes(capacity)
    except SettingsError as error:
        yield str(error)
    if backup and stack:
        try:
            parse_places(backup.stores, "BACKUP_STORES", str(stack.home / "backups"))
            Keys.load(backup)
        except (SettingsError, BackupError) as error:
            yield str(error)
    if serving and stack and serving.port == stack.dagster_port:
        yield f"SERVING_PORT={serving.port}: DAGSTER_PORT is the same"


def _misspelt(in_file: dict[str, str | None], file: str) -> Iterator[Finding]:
    ours = {variable_name(model, field) for model in ALL for field in model.model_fields}
    for name in sorted({*os.environ, *in_file} - ours):
        alike = difflib.get_close_matches(name, ours, n=1, cutoff=_ALIKE)
        # Others have names like ours: of the environment only what is nearly one of ours is worth a word.
        if alike and name.startswith(tuple(f"{prefix[:4]}" for prefix in _OWN_PREFIXES)):
            yield MISSPELT(name=name, meant=alike[0], file=file if name in in_file else "the environment")
