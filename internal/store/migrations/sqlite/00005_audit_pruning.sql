-- +goose Up
CREATE TABLE audit_pruning (
    id       INTEGER PRIMARY KEY,
    log_id   INTEGER NOT NULL REFERENCES audit_log (id),
    up_to    INTEGER NOT NULL,
    note     BLOB    NOT NULL,
    recorder INTEGER NOT NULL REFERENCES audit_log (id),
    number   INTEGER NOT NULL,
    UNIQUE (log_id, up_to)
) STRICT;
