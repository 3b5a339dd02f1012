-- +goose Up
CREATE TABLE kms_key (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account   text COLLATE "C" NOT NULL,
    region    text COLLATE "C" NOT NULL,
    key_id    text COLLATE "C" NOT NULL,
    version   bigint NOT NULL,
    key_store text COLLATE "C" NOT NULL,
    due_at    bigint NOT NULL,
    doc       bytea NOT NULL,
    UNIQUE (account, region, key_id)
);

CREATE INDEX kms_key_due ON kms_key (due_at) WHERE due_at <> 0;
CREATE INDEX kms_key_in_store ON kms_key (account, region, key_store) WHERE key_store <> '';

CREATE TABLE kms_alias (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    region  text COLLATE "C" NOT NULL,
    name    text COLLATE "C" NOT NULL,
    key_row bigint NOT NULL REFERENCES kms_key (id) ON DELETE CASCADE,
    doc     bytea NOT NULL,
    UNIQUE (account, region, name)
);

CREATE INDEX kms_alias_of ON kms_alias (key_row, name);

CREATE TABLE kms_grant (
    key_row  bigint NOT NULL REFERENCES kms_key (id) ON DELETE CASCADE,
    grant_id text COLLATE "C" NOT NULL,
    account  text COLLATE "C" NOT NULL,
    region   text COLLATE "C" NOT NULL,
    grantee  text COLLATE "C" NOT NULL,
    retiring text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    doc      bytea NOT NULL,
    PRIMARY KEY (key_row, grant_id)
);

CREATE INDEX kms_grant_to ON kms_grant (key_row, grantee, grant_id);
CREATE INDEX kms_grant_named ON kms_grant (key_row, name, grant_id) WHERE name <> '';
CREATE INDEX kms_grant_retirable ON kms_grant (account, region, retiring, grant_id) WHERE retiring <> '';

-- How many there are: of keys in an account and Region under the name '', of a key's grants under its id.
-- A few rows are updated often: room on their pages keeps the updates out of the index.
CREATE TABLE kms_tally (
    account text COLLATE "C" NOT NULL,
    region  text COLLATE "C" NOT NULL,
    name    text COLLATE "C" NOT NULL,
    n       bigint NOT NULL,
    PRIMARY KEY (account, region, name)
) WITH (fillfactor = 70);

CREATE TABLE kms_key_store (
    account      text COLLATE "C" NOT NULL,
    region       text COLLATE "C" NOT NULL,
    key_store_id text COLLATE "C" NOT NULL,
    version      bigint NOT NULL,
    doc          bytea NOT NULL,
    PRIMARY KEY (account, region, key_store_id)
);

CREATE TABLE kms_usage (
    key_row bigint NOT NULL PRIMARY KEY REFERENCES kms_key (id) ON DELETE CASCADE,
    used_at bigint NOT NULL,
    doc     bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE identity_row (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text COLLATE "C" NOT NULL,
    account    text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    expires_at bigint NOT NULL,
    body       bytea NOT NULL,
    UNIQUE (kind, account, name)
);

CREATE INDEX identity_row_expiry ON identity_row (expires_at) WHERE expires_at <> 0;

-- The one row that each transaction of the key service locks first: the order of the numbers is that of the commits.
CREATE TABLE change_counter (
    id              bigint NOT NULL PRIMARY KEY,
    n               bigint NOT NULL,
    kms_pruned      bigint NOT NULL,
    identity_pruned bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO change_counter (id, n, kms_pruned, identity_pruned) VALUES (1, 1, 0, 0);

CREATE TABLE kms_change (
    n          bigint NOT NULL PRIMARY KEY,
    changed_at bigint NOT NULL,
    account    text COLLATE "C" NOT NULL,
    region     text COLLATE "C" NOT NULL,
    key_id     text COLLATE "C" NOT NULL,
    alias      text COLLATE "C" NOT NULL
);

CREATE TABLE identity_change (
    n          bigint NOT NULL PRIMARY KEY,
    changed_at bigint NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    account    text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL
);
