-- +goose Up
ALTER TABLE wrapped_key ADD COLUMN changed_at bigint NOT NULL DEFAULT 0;
ALTER TABLE wrapped_key ADD COLUMN sealed_count bigint NOT NULL DEFAULT 0;

-- At most one version is active. The release before made no second one.
UPDATE wrapped_key SET state = 'decrypt-only' WHERE state = 'active' AND EXISTS (SELECT 1 FROM wrapped_key n
    WHERE n.tenant = wrapped_key.tenant AND n.holder = wrapped_key.holder AND n.purpose = wrapped_key.purpose
    AND n.state = 'active' AND n.version > wrapped_key.version);
CREATE UNIQUE INDEX wrapped_key_active ON wrapped_key (tenant, holder, purpose) WHERE state = 'active';

-- The version of the key that made the keyed hash. All that the release before makes are of the first.
ALTER TABLE record ADD COLUMN hashed_by bigint NOT NULL DEFAULT 1;
ALTER TABLE fingerprint ADD COLUMN key_version bigint NOT NULL DEFAULT 1;

CREATE TABLE key_job (
    id          bytea NOT NULL PRIMARY KEY,
    kind        text COLLATE "C" NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    holder      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    reason      text COLLATE "C" NOT NULL,
    asked_by    text COLLATE "C" NOT NULL,
    rate        bigint NOT NULL,
    verify      bigint NOT NULL,
    retire      bigint NOT NULL,
    step        text COLLATE "C" NOT NULL,
    key_id      bytea NOT NULL,
    key_version bigint NOT NULL,
    after_row   bigint NOT NULL,
    total       bigint NOT NULL,
    moved       bigint NOT NULL,
    verified    bigint NOT NULL,
    skipped     bigint NOT NULL,
    bad         bigint NOT NULL,
    error       text COLLATE "C" NOT NULL,
    node        text COLLATE "C" NOT NULL,
    until       bigint NOT NULL,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    wait_until  bigint NOT NULL,
    done_at     bigint NOT NULL
);

CREATE UNIQUE INDEX key_job_unfinished ON key_job (tenant, kind, holder) WHERE state NOT IN ('done', 'failed');
CREATE INDEX key_job_created ON key_job (created_at);

-- The first row is where a reader begins.
CREATE TABLE key_event (
    number      bigint NOT NULL PRIMARY KEY,
    changed_at  bigint NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    key_id      bytea NOT NULL,
    key_version bigint NOT NULL
);

INSERT INTO key_event (number, changed_at, tenant, key_id, key_version) VALUES (1, 0, '', '\x00000000000000000000000000000000', 0);

CREATE TABLE suspended_tenant (
    tenant       text COLLATE "C" NOT NULL PRIMARY KEY,
    reason       text COLLATE "C" NOT NULL,
    suspended_at bigint NOT NULL
);
