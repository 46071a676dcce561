"""Runs of the ingestion job, through Dagster's GraphQL: so they are seen in its UI like any other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from embedded.services.processes import listens

JOB = "ingestion"
_LOCATION = "zhiyun"
_REPOSITORY = "__repository__"
_UNFINISHED = ["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"]
_FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}
_QUIET = 10.0

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
    ... on InvalidSubsetError { message }
    ... on RunConflict { message }
    ... on UnauthorizedError { message }
    ... on PipelineNotFoundError { message }
  }
}"""
_FIND = """
query Find($filter: RunsFilter!) {
  runsOrError(filter: $filter) { __typename ... on Runs { results { runId status jobName } } }
}"""
_CANCEL = """
mutation Cancel($ids: [String!]!) {
  terminateRuns(runIds: $ids, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) { __typename }
}"""
_FOLLOW = """
query Follow($id: ID!, $cursor: String) {
  runOrError(runId: $id) { __typename ... on Run { status } }
  logsForRun(runId: $id, afterCursor: $cursor, limit: 200) {
    __typename
    ... on EventConnection {
      cursor hasMore
      events {
        __typename
        ... on MessageEvent { message level stepKey }
        ... on ExecutionStepFailureEvent { error { message cause { message } } }
        ... on RunFailureEvent { error { message } }
      }
    }
  }
}"""
_LOADED = """
{ workspaceOrError { __typename ... on Workspace { locationEntries {
  name locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


class DagsterUnreachable(RuntimeError):
    """The webserver did not answer, or refused. The message is one sentence."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: Dagster's word for it, what failed in one line, and the page of the run."""

    run_id: str
    status: str
    reason: str
    url: str

    @property
    def succeeded(self) -> bool:
        return self.status == "SUCCESS"


def runs_of(state: Mapping[str, Any]) -> Runs:
    """The runs of a stack, by what it wrote down of itself. Raises DagsterUnreachable if that is not enough."""
    try:
        address, port = state["urls"]["dagster"], int(state["ports"]["dagster"])
        pid = int(state["services"]["webserver"]["pid"])
    except (KeyError, TypeError, ValueError):
        raise DagsterUnreachable("The Dagster webserver is not running") from None
    return Runs(address, lambda: listens(pid, port))


class Runs:
    """The runs of one Dagster webserver, for example at `http://127.0.0.1:3000`.

    `is_ours` says whether it is our own webserver that has that port: nothing is asked of another's.
    """

    def __init__(self, address: str, is_ours: Callable[[], bool]) -> None:
        self.address = address
        self._is_ours = is_ours

    def unfinished(self, job: str | None = None) -> list[str]:
        """Ids of runs that have not ended, newest first."""
        wanted: dict[str, Any] = {"statuses": _UNFINISHED}
        if job:
            wanted["pipelineName"] = job
        found = self._ask(_FIND, {"filter": wanted})["runsOrError"]
        return [run["runId"] for run in found.get("results", [])]

    def cancel_unfinished(self) -> int:
        """Mark as cancelled what an earlier life left unfinished; its workers are gone. How many there were."""
        left = self.unfinished()
        if left:
            self._ask(_CANCEL, {"ids": left})
        return len(left)

    def wait_loaded(self, seconds: float = 60.0) -> None:
        """Wait until the webserver has read the code location. Raises DagsterUnreachable with its error."""
        deadline, problem = time.monotonic() + seconds, "it is still loading"
        while time.monotonic() < deadline:
            workspace = self._ask(_LOADED, {})["workspaceOrError"]
            for entry in workspace.get("locationEntries", []):
                loaded = entry["locationOrLoadError"] or {}
                if entry["name"] == _LOCATION and loaded.get("__typename") == "RepositoryLocation":
                    return
                problem = _first_line(loaded.get("message", problem))
            time.sleep(0.3)
        raise DagsterUnreachable(f"The Dagster webserver did not load orchestration.definitions: {problem}")

    def launch(self) -> str:
        """Queue a run of the ingestion job, or find the one that is under way; its id."""
        self.wait_loaded()
        for attempts_left in (2, 1, 0):
            running = self.unfinished(JOB)
            if running:
                return running[-1]
            try:
                return self._launch()
            except DagsterUnreachable:  # after a restart of the database its first connections are broken
                if not attempts_left:
                    raise
                time.sleep(1)
        raise AssertionError

    def _launch(self) -> str:
        selector = {"repositoryLocationName": _LOCATION, "repositoryName": _REPOSITORY, "jobName": JOB}
        answer = self._ask(_LAUNCH, {"params": {"selector": selector, "runConfigData": {}}})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            messages = [answer.get("message", ""), *(error["message"] for error in answer.get("errors", []))]
            raise DagsterUnreachable(f"Dagster did not launch {JOB}: {_first_line(' '.join(filter(None, messages)))}")
        return answer["run"]["runId"]

    def url(self, run_id: str) -> str:
        """The page of a run."""
        return f"{self.address}/runs/{run_id}"

    def follow(self, run_id: str, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False) -> Outcome:
        """Wait for a run to end, saying what it does: each step, each line that it logs, a word in any 10 seconds."""
        cursor, step, reason, status = None, "waiting for a free place", "", "QUEUED"
        began = spoke = time.monotonic()
        while not stopped():
            answer = self._ask(_FOLLOW, {"id": run_id, "cursor": cursor})
            status, log = answer["runOrError"].get("status", status), answer["logsForRun"]
            for event in log.get("events", []):
                step = event.get("stepKey") or step
                line = _told(event)
                if line:
                    say(f"ingesting: {line}")
                    spoke = time.monotonic()
                reason = _why(event) or reason
            cursor = log.get("cursor", cursor)
            if log.get("hasMore"):
                continue
            if status in _FINISHED:
                break
            if time.monotonic() - spoke > _QUIET:
                spoke = time.monotonic()
                say(f"ingesting: {step}, {spoke - began:.0f} s")
            time.sleep(0.5)
        return Outcome(run_id, status, reason, self.url(run_id))

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """One GraphQL request; tried again for a while, since a webserver that died is started again."""
        problem: object = ""
        for attempt in range(6):
            if not self._is_ours():
                problem = "its process does not have that port now"
                time.sleep(attempt)
                continue
            try:
                answer = httpx.post(
                    f"{self.address}/graphql",
                    json={"query": query, "variables": variables},
                    timeout=30,
                    trust_env=False,
                )
                found = answer.json()
                if found.get("data") and not found.get("errors"):
                    return found["data"]
                problem = found.get("errors", [{}])[0].get("message", answer.status_code)
            except (httpx.HTTPError, ValueError) as error:
                problem = error
            if query == _LAUNCH:  # it may have been launched
                break
            time.sleep(attempt)
        raise DagsterUnreachable(f"The Dagster webserver at {self.address} did not answer: {_first_line(str(problem))}")


def ingest(runs: Runs, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False) -> Outcome:
    """Launch the ingestion job and follow it. Raises DagsterUnreachable."""
    run_id = runs.launch()
    say(f"ingestion is run {runs.url(run_id)}")
    return runs.follow(run_id, say, stopped)


def told_of(outcome: Outcome) -> str:
    """One line on how an ingestion ended."""
    if outcome.succeeded:
        return f"ingestion is done: {outcome.url}"
    why = f" ({outcome.reason})" if outcome.reason else ""
    return (
        f"the ingestion ended as {outcome.status}{why}; the services stay up, and what was live before is still live. "
        f"The run: {outcome.url}"
    )


def _told(event: dict[str, Any]) -> str:
    """What people are told of an event; empty for most."""
    kind, step = event["__typename"], event.get("stepKey")
    if kind == "LogMessageEvent" and event.get("level") in ("INFO", "WARNING", "ERROR", "CRITICAL"):
        return _first_line(event.get("message", ""))
    if kind == "ExecutionStepStartEvent":
        return f"{step} …"
    if kind == "ExecutionStepSuccessEvent":
        return f"{step} done"
    if kind == "ExecutionStepFailureEvent":
        return f"{step} failed"
    return ""


def _why(event: dict[str, Any]) -> str:
    error = event.get("error") or {}
    if not error:
        return ""
    message = re.sub(r"^(\w+\.)+\w+: ", "", (error.get("cause") or error).get("message") or "")
    step = event.get("stepKey")
    return f"{step}: {_first_line(message)}" if step else _first_line(message)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else ""
