-- +goose Up
ALTER TABLE wrapped_key ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE wrapped_key ADD COLUMN sealed_count INTEGER NOT NULL DEFAULT 0;

-- At most one version is active. The release before made no second one.
UPDATE wrapped_key SET state = 'decrypt-only' WHERE state = 'active' AND EXISTS (SELECT 1 FROM wrapped_key n
    WHERE n.tenant = wrapped_key.tenant AND n.holder = wrapped_key.holder AND n.purpose = wrapped_key.purpose
    AND n.state = 'active' AND n.version > wrapped_key.version);
CREATE UNIQUE INDEX wrapped_key_active ON wrapped_key (tenant, holder, purpose) WHERE state = 'active';

-- The version of the key that made the keyed hash. All that the release before makes are of the first.
ALTER TABLE record ADD COLUMN hashed_by INTEGER NOT NULL DEFAULT 1;
ALTER TABLE fingerprint ADD COLUMN key_version INTEGER NOT NULL DEFAULT 1;

CREATE TABLE key_job (
    id          BLOB    NOT NULL PRIMARY KEY,
    kind        TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    holder      TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    asked_by    TEXT    NOT NULL,
    rate        INTEGER NOT NULL,
    verify      INTEGER NOT NULL,
    retire      INTEGER NOT NULL,
    step        TEXT    NOT NULL,
    key_id      BLOB    NOT NULL,
    key_version INTEGER NOT NULL,
    after_row   INTEGER NOT NULL,
    total       INTEGER NOT NULL,
    moved       INTEGER NOT NULL,
    verified    INTEGER NOT NULL,
    skipped     INTEGER NOT NULL,
    bad         INTEGER NOT NULL,
    error       TEXT    NOT NULL,
    node        TEXT    NOT NULL,
    until       INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    wait_until  INTEGER NOT NULL,
    done_at     INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX key_job_unfinished ON key_job (tenant, kind, holder) WHERE state NOT IN ('done', 'failed');
CREATE INDEX key_job_created ON key_job (created_at);

-- The first row is where a reader begins.
CREATE TABLE key_event (
    number      INTEGER PRIMARY KEY,
    changed_at  INTEGER NOT NULL,
    tenant      TEXT    NOT NULL,
    key_id      BLOB    NOT NULL,
    key_version INTEGER NOT NULL
) STRICT;

INSERT INTO key_event (number, changed_at, tenant, key_id, key_version) VALUES (1, 0, '', zeroblob(16), 0);

CREATE TABLE suspended_tenant (
    tenant       TEXT    NOT NULL PRIMARY KEY,
    reason       TEXT    NOT NULL,
    suspended_at INTEGER NOT NULL
) STRICT;
