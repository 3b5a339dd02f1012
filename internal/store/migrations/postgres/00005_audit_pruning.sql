-- +goose Up
CREATE TABLE audit_pruning (
    log_id   bigint NOT NULL REFERENCES audit_log (id),
    up_to    bigint NOT NULL,
    note     bytea NOT NULL,
    recorder bigint NOT NULL REFERENCES audit_log (id),
    number   bigint NOT NULL,
    PRIMARY KEY (log_id, up_to)
);
