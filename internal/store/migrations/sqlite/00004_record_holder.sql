-- +goose Up
CREATE INDEX record_holder ON record (holder_id);
