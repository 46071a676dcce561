"""The catalogue of the knowledge base with its releases, and the conversations of the chat."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQL = """
CREATE SCHEMA knowledge;

-- The text of a file by its content: what offsets of passages count in (characters, from 0). Never changed.
CREATE TABLE knowledge.contents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 text NOT NULL,              -- of the file's bytes
    media_type text NOT NULL,
    parser text NOT NULL,              -- knowledge.documents.PARSER that read it
    title text NOT NULL,
    encoding text NOT NULL,
    note text NOT NULL DEFAULT '',     -- what a person should know of how it was read
    text text NOT NULL,
    cut_with text,                     -- the passage rules it was last cut with
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (sha256, media_type, parser, title)
);

-- One row for each file ever seen below a source. `content_id` is the last version that could be read.
CREATE TABLE knowledge.documents (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    uri text NOT NULL UNIQUE,          -- source/path
    source text NOT NULL,
    path text NOT NULL,
    status text NOT NULL CHECK (status IN ('current', 'failed', 'removed')),
    reason text,                       -- why it failed: one sentence
    size bigint NOT NULL,
    sha256 text,                       -- of the file as last seen; null when it could not be read at all
    parser text,                       -- that last tried it
    content_id bigint REFERENCES knowledge.contents,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'failed') = (reason IS NOT NULL))
);
CREATE INDEX documents_by_content ON knowledge.documents (content_id);

-- A content cut by passage rules. `indexed` (title, heading path and text) is what is embedded and matched.
CREATE TABLE knowledge.passages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    content_id bigint NOT NULL REFERENCES knowledge.contents ON DELETE CASCADE,
    rules text NOT NULL,
    ordinal integer NOT NULL,
    start_offset integer NOT NULL,
    end_offset integer NOT NULL CHECK (end_offset > start_offset),
    heading text[] NOT NULL,
    text text NOT NULL,
    indexed text NOT NULL,
    indexed_sha256 bytea NOT NULL,
    UNIQUE (content_id, rules, ordinal)
);
CREATE INDEX passages_by_indexed ON knowledge.passages (indexed_sha256);

-- A vector is computed once for each text and embedder: float32, little endian.
CREATE TABLE knowledge.vectors (
    embedder text NOT NULL,
    indexed_sha256 bytea NOT NULL,
    dense bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (embedder, indexed_sha256)
);
ALTER TABLE knowledge.vectors ALTER COLUMN dense SET STORAGE EXTERNAL;

-- Retrieval models (dense model, document frequencies, lexical numbers), whole, so that a backup of the database
-- has everything that answers need. Immutable.
CREATE TABLE knowledge.models (
    fingerprint text PRIMARY KEY,
    embedder text NOT NULL,
    rules text NOT NULL,               -- passage rules it was made for
    config jsonb NOT NULL,
    package bytea,                     -- null once no kept release needs it
    created_at timestamptz NOT NULL DEFAULT now(),
    chosen_at timestamptz NOT NULL DEFAULT now()  -- when a run last took it for its release
);
ALTER TABLE knowledge.models ALTER COLUMN package SET STORAGE EXTERNAL;

CREATE TABLE knowledge.releases (
    number integer PRIMARY KEY CHECK (number > 0),
    status text NOT NULL CHECK (status IN ('candidate', 'live', 'retired', 'rejected')),
    fingerprint text NOT NULL REFERENCES knowledge.models,
    collection text NOT NULL,
    fusion_weight real NOT NULL,
    counts jsonb NOT NULL DEFAULT '{}',
    quality jsonb NOT NULL DEFAULT '{}',
    reason text,                       -- why it was rejected
    dagster_run_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    retired_at timestamptz
);
CREATE UNIQUE INDEX releases_one_live ON knowledge.releases (status) WHERE status = 'live';
CREATE UNIQUE INDEX releases_one_candidate ON knowledge.releases (status) WHERE status = 'candidate';

-- The passages of a release N in a collection: added_in <= N < removed_in. The same rows as the vector store's points.
CREATE TABLE knowledge.points (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    collection text NOT NULL,
    document_id uuid NOT NULL REFERENCES knowledge.documents,
    passage_id bigint NOT NULL REFERENCES knowledge.passages,
    added_in integer NOT NULL,
    removed_in integer NOT NULL DEFAULT 2147483647,
    CHECK (added_in <= removed_in)
);
CREATE INDEX points_open ON knowledge.points (collection, document_id) WHERE removed_in = 2147483647;
CREATE INDEX points_removed ON knowledge.points (collection, removed_in) WHERE removed_in < 2147483647;
CREATE INDEX points_by_passage ON knowledge.points (passage_id);
CREATE INDEX points_by_document ON knowledge.points (document_id);

-- Which content a document had in release N.
CREATE TABLE knowledge.document_versions (
    document_id uuid NOT NULL REFERENCES knowledge.documents,
    content_id bigint NOT NULL REFERENCES knowledge.contents,
    added_in integer NOT NULL,
    removed_in integer NOT NULL DEFAULT 2147483647,
    PRIMARY KEY (document_id, added_in),
    CHECK (added_in <= removed_in)
);
CREATE INDEX document_versions_by_content ON knowledge.document_versions (content_id);

-- One row for each time that the sources were looked through.
CREATE TABLE knowledge.scans (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    signature text NOT NULL,           -- of the sources and the settings that shape a release
    counts jsonb NOT NULL DEFAULT '{}',
    problems text[] NOT NULL DEFAULT '{}',
    release integer REFERENCES knowledge.releases,
    dagster_run_id text
);

CREATE SCHEMA chat;

CREATE TABLE chat.conversations (
    id uuid PRIMARY KEY,
    language text NOT NULL,
    message_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conversations_by_update ON chat.conversations (updated_at);

CREATE TABLE chat.messages (
    id uuid PRIMARY KEY,
    conversation_id uuid NOT NULL REFERENCES chat.conversations ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('customer', 'assistant')),
    content text NOT NULL,
    language text NOT NULL,
    mode text CHECK (mode IN ('llm', 'extractive', 'none')),
    finish_reason text,
    release integer,                   -- the knowledge release that it was answered from
    citations jsonb NOT NULL DEFAULT '[]',
    usage jsonb,
    error text,
    duration_ms integer,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX messages_by_conversation ON chat.messages (conversation_id, created_at);
"""


def upgrade() -> None:
    op.execute(SQL)
