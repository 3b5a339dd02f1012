-- +goose Up
CREATE TABLE kms_key (
    id        INTEGER PRIMARY KEY,
    account   TEXT    NOT NULL,
    region    TEXT    NOT NULL,
    key_id    TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    key_store TEXT    NOT NULL,
    due_at    INTEGER NOT NULL,
    doc       BLOB    NOT NULL,
    UNIQUE (account, region, key_id)
) STRICT;

CREATE INDEX kms_key_due ON kms_key (due_at) WHERE due_at <> 0;
CREATE INDEX kms_key_in_store ON kms_key (account, region, key_store) WHERE key_store <> '';

CREATE TABLE kms_alias (
    id      INTEGER PRIMARY KEY,
    account TEXT    NOT NULL,
    region  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    key_row INTEGER NOT NULL REFERENCES kms_key (id) ON DELETE CASCADE,
    doc     BLOB    NOT NULL,
    UNIQUE (account, region, name)
) STRICT;

CREATE INDEX kms_alias_of ON kms_alias (key_row, name);

CREATE TABLE kms_grant (
    id       INTEGER PRIMARY KEY,
    key_row  INTEGER NOT NULL REFERENCES kms_key (id) ON DELETE CASCADE,
    grant_id TEXT    NOT NULL,
    account  TEXT    NOT NULL,
    region   TEXT    NOT NULL,
    grantee  TEXT    NOT NULL,
    retiring TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    doc      BLOB    NOT NULL,
    UNIQUE (key_row, grant_id)
) STRICT;

CREATE INDEX kms_grant_to ON kms_grant (key_row, grantee, grant_id);
CREATE INDEX kms_grant_named ON kms_grant (key_row, name, grant_id) WHERE name <> '';
CREATE INDEX kms_grant_retirable ON kms_grant (account, region, retiring, grant_id) WHERE retiring <> '';

-- How many there are: of keys in an account and Region under the name '', of a key's grants under its id.
CREATE TABLE kms_tally (
    account TEXT    NOT NULL,
    region  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (account, region, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE kms_key_store (
    id           INTEGER PRIMARY KEY,
    account      TEXT    NOT NULL,
    region       TEXT    NOT NULL,
    key_store_id TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    doc          BLOB    NOT NULL,
    UNIQUE (account, region, key_store_id)
) STRICT;

CREATE TABLE kms_usage (
    key_row INTEGER PRIMARY KEY REFERENCES kms_key (id) ON DELETE CASCADE,
    used_at INTEGER NOT NULL,
    doc     BLOB    NOT NULL
) STRICT;

CREATE TABLE identity_row (
    id         INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    account    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    UNIQUE (kind, account, name)
) STRICT;

CREATE INDEX identity_row_expiry ON identity_row (expires_at) WHERE expires_at <> 0;

-- The one row that each transaction of the key service locks first: the order of the numbers is that of the commits.
CREATE TABLE change_counter (
    id              INTEGER PRIMARY KEY,
    n               INTEGER NOT NULL,
    kms_pruned      INTEGER NOT NULL,
    identity_pruned INTEGER NOT NULL
) STRICT;

INSERT INTO change_counter (id, n, kms_pruned, identity_pruned) VALUES (1, 1, 0, 0);

CREATE TABLE kms_change (
    n          INTEGER PRIMARY KEY,
    changed_at INTEGER NOT NULL,
    account    TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    key_id     TEXT    NOT NULL,
    alias      TEXT    NOT NULL
) STRICT;

CREATE TABLE identity_change (
    n          INTEGER PRIMARY KEY,
    changed_at INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    account    TEXT    NOT NULL,
    name       TEXT    NOT NULL
) STRICT;
