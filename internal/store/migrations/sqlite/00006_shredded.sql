-- +goose Up
-- When a merchant or entity was shredded: nothing is stored for it from then on. 0 is never.
ALTER TABLE holder ADD COLUMN shredded_at INTEGER NOT NULL DEFAULT 0;

-- Merchants that were shredded before are known by their keys.
INSERT INTO holder (tenant, name, created_at, shredded_at)
    SELECT tenant, holder, min(created_at), max(1, max(changed_at)) FROM wrapped_key WHERE purpose = 'record' AND holder <> ''
    GROUP BY tenant, holder HAVING min(CASE WHEN state = 'destroyed' THEN 1 ELSE 0 END) = 1
    ON CONFLICT (tenant, name) DO UPDATE SET shredded_at = excluded.shredded_at, secret = NULL;
