-- +goose Up
CREATE TABLE holder (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    secret     bytea,
    created_at bigint NOT NULL,
    UNIQUE (tenant, name)
);

CREATE TABLE record (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lookup      bytea NOT NULL UNIQUE,
    dedupe      bytea UNIQUE,
    holder_id   bigint NOT NULL,
    space       smallint NOT NULL,
    kind        smallint NOT NULL,
    customer    text COLLATE "C" NOT NULL,
    reference   text COLLATE "C" NOT NULL,
    mode        smallint NOT NULL,
    key_id      bytea NOT NULL,
    key_version bigint NOT NULL,
    sealed      bytea NOT NULL,
    created_at  bigint NOT NULL,
    expires_at  bigint NOT NULL
);

CREATE INDEX record_expiry ON record (expires_at) WHERE expires_at <> 0;

CREATE TABLE fingerprint (
    hash   bytea NOT NULL PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    id     text COLLATE "C" NOT NULL
);

CREATE TABLE wrapped_key (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_id     bytea NOT NULL,
    version    bigint NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    holder     text COLLATE "C" NOT NULL,
    purpose    text COLLATE "C" NOT NULL,
    state      text COLLATE "C" NOT NULL,
    mode       smallint NOT NULL,
    wrapped    bytea NOT NULL,
    created_at bigint NOT NULL,
    UNIQUE (tenant, holder, purpose, version),
    UNIQUE (key_id, version)
);

CREATE TABLE master_seal (
    tenant     text COLLATE "C" NOT NULL PRIMARY KEY,
    generation bigint NOT NULL,
    blob       bytea NOT NULL,
    created_at bigint NOT NULL
);

CREATE TABLE custodian (
    tenant      text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    token_hash  bytea NOT NULL,
    share_index bigint NOT NULL,
    created_at  bigint NOT NULL,
    expires_at  bigint NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- The head is updated by each commit: room on its page keeps the updates out of the index.
CREATE TABLE audit_log (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    origin text COLLATE "C" NOT NULL UNIQUE,
    size   bigint NOT NULL,
    root   bytea NOT NULL,
    writer bytea NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE audit_segment (
    log_id bigint NOT NULL,
    first  bigint NOT NULL,
    count  bigint NOT NULL,
    body   bytea NOT NULL,
    PRIMARY KEY (log_id, first)
);

-- Bodies are compressed; lz4 costs a fifth less of a commit than pglz, where the server has it.
-- +goose StatementBegin
DO $$
BEGIN
    ALTER TABLE audit_segment ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$$;
-- +goose StatementEnd

CREATE TABLE audit_tile (
    log_id   bigint NOT NULL REFERENCES audit_log (id),
    level    bigint NOT NULL,
    position bigint NOT NULL,
    hashes   bytea NOT NULL,
    PRIMARY KEY (log_id, level, position)
);

-- Hashes do not compress.
ALTER TABLE audit_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE audit_checkpoint (
    log_id    bigint NOT NULL REFERENCES audit_log (id),
    size      bigint NOT NULL,
    signed_at bigint NOT NULL,
    note      bytea NOT NULL,
    PRIMARY KEY (log_id, size)
);

CREATE TABLE probe (
    id        text COLLATE "C" NOT NULL PRIMARY KEY,
    probed_at bigint NOT NULL
);
