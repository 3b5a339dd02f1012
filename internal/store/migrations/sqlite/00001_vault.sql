-- +goose Up
CREATE TABLE holder (
    id         INTEGER PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    secret     BLOB,
    created_at INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;

CREATE TABLE record (
    id          INTEGER PRIMARY KEY,
    lookup      BLOB    NOT NULL UNIQUE,
    dedupe      BLOB    UNIQUE,
    holder_id   INTEGER NOT NULL,
    space       INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    customer    TEXT    NOT NULL,
    reference   TEXT    NOT NULL,
    mode        INTEGER NOT NULL,
    key_id      BLOB    NOT NULL,
    key_version INTEGER NOT NULL,
    sealed      BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX record_expiry ON record (expires_at) WHERE expires_at <> 0;

CREATE TABLE fingerprint (
    hash   BLOB NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    id     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE wrapped_key (
    id         INTEGER PRIMARY KEY,
    key_id     BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    tenant     TEXT    NOT NULL,
    holder     TEXT    NOT NULL,
    purpose    TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    mode       INTEGER NOT NULL,
    wrapped    BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (tenant, holder, purpose, version),
    UNIQUE (key_id, version)
) STRICT;

CREATE TABLE master_seal (
    tenant     TEXT    NOT NULL PRIMARY KEY,
    generation INTEGER NOT NULL,
    blob       BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE custodian (
    tenant      TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    token_hash  BLOB    NOT NULL,
    share_index INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;

CREATE TABLE audit_log (
    id     INTEGER PRIMARY KEY,
    origin TEXT    NOT NULL UNIQUE,
    size   INTEGER NOT NULL,
    root   BLOB    NOT NULL,
    writer BLOB    NOT NULL
) STRICT;

CREATE TABLE audit_segment (
    id     INTEGER PRIMARY KEY,
    log_id INTEGER NOT NULL,
    first  INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    body   BLOB    NOT NULL,
    UNIQUE (log_id, first)
) STRICT;

CREATE TABLE audit_tile (
    id       INTEGER PRIMARY KEY,
    log_id   INTEGER NOT NULL REFERENCES audit_log (id),
    level    INTEGER NOT NULL,
    position INTEGER NOT NULL,
    hashes   BLOB    NOT NULL,
    UNIQUE (log_id, level, position)
) STRICT;

CREATE TABLE audit_checkpoint (
    id        INTEGER PRIMARY KEY,
    log_id    INTEGER NOT NULL REFERENCES audit_log (id),
    size      INTEGER NOT NULL,
    signed_at INTEGER NOT NULL,
    note      BLOB    NOT NULL,
    UNIQUE (log_id, size)
) STRICT;

CREATE TABLE probe (
    id        TEXT    NOT NULL PRIMARY KEY,
    probed_at INTEGER NOT NULL
) STRICT;
