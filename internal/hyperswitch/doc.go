// Package hyperswitch reads what Hyperswitch's card vault (hyperswitch-card-vault)
// has stored: wrapped keys, cards, opaque data and JSON values, as bytes of its
// PostgreSQL rows. It knows nothing of databases.
//
// It promises to accept only what the peer writes, to give plaintext only as
// secret.Bytes, and never to name it in an error. It encrypts nothing: the peer's
// formats bind no context and are not for anything new.
package hyperswitch
