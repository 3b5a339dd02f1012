// Package ceremony makes key material that no one person knows, and wraps it for
// import into AWS KMS or Cardea's key service (PCI DSS v4.0.1 3.6.1.1, 3.7.6: split
// knowledge and dual control).
//
// Material is divided into full-length components, each held by another custodian,
// of which all are needed: their XOR is the key, and all but one tell nothing of it.
// Or it is sealed, and the seal's key divided into Shamir shares, of which a quorum
// opens it (package custodian's shares). The formats are docs/spec/key-component.md
// and docs/spec/custodian-shares.md.
//
// It promises that components are combined only in memory and wiped; that a
// mistyped component, two of one custodian, or one that is weak is refused before
// anything is done with it; that material leaves only wrapped by RSA-OAEP with
// SHA-256; and that no value is in an error or a transcript.
package ceremony
