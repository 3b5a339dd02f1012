package storetest

// LockerSchema makes the tables of Hyperswitch's card vault, as its migrations leave
// them, in a schema named hyperswitch. It stands in for a database of the peer.
const LockerSchema = `CREATE SCHEMA hyperswitch;
SET search_path = hyperswitch;
CREATE TABLE merchant (id SERIAL, merchant_id VARCHAR(255) PRIMARY KEY, enc_key BYTEA NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT now());
CREATE TABLE locker (id SERIAL, locker_id VARCHAR(255) NOT NULL, merchant_id VARCHAR(255) NOT NULL, customer_id VARCHAR(255) NOT NULL,
	enc_data BYTEA NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT now(), hash_id VARCHAR(255) NOT NULL, ttl TIMESTAMP, updated_by VARCHAR(32),
	PRIMARY KEY (merchant_id, customer_id, locker_id), UNIQUE (hash_id, merchant_id, customer_id));
CREATE TABLE hash_table (id SERIAL, hash_id VARCHAR(255) NOT NULL UNIQUE, data_hash BYTEA PRIMARY KEY, created_at TIMESTAMP NOT NULL DEFAULT now(), updated_by VARCHAR(32));
CREATE TABLE fingerprint (id SERIAL, fingerprint_hash BYTEA PRIMARY KEY, fingerprint_id VARCHAR(64) NOT NULL, updated_by VARCHAR(32));
CREATE TABLE vault (id SERIAL, entity_id VARCHAR(255) NOT NULL, vault_id VARCHAR(255) NOT NULL, encrypted_data BYTEA NOT NULL,
	created_at TIMESTAMP NOT NULL DEFAULT now(), expires_at TIMESTAMP, updated_by VARCHAR(32), PRIMARY KEY (entity_id, vault_id));
CREATE TABLE entity (id SERIAL, entity_id VARCHAR(255) PRIMARY KEY, enc_key_id VARCHAR(255) NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT now());
RESET search_path;`
