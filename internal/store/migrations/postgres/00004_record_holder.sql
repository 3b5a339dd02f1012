-- +goose NO TRANSACTION
-- +goose Up
-- Nodes of the release before may be writing: they go on. An index that was not finished is none.
DROP INDEX CONCURRENTLY IF EXISTS record_holder;
CREATE INDEX CONCURRENTLY record_holder ON record (holder_id, id);
