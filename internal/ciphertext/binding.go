package ciphertext

import (
	"cmp"
	"errors"

	"github.com/google/uuid"
)

// Binding names the place that a record is sealed for. A record opens only
// with exactly the binding it was sealed with. Texts are bound as the bytes they
// are, up to [MaxField] each, without normalisation.
type Binding struct {
	Tenant     string    // not empty
	Holder     string    // merchant in v1, entity in v2
	Space      string    // "v1" or "v2"; not empty
	Customer   string    // may be empty
	Reference  string    // the record's id for its holder
	Kind       string    // "card", "data" or "vault"; not empty
	KeyID      uuid.UUID // of the branch key; not nil
	KeyVersion uint32    // from 1
	CreatedAt  int64     // microseconds since the Unix epoch
	ExpiresAt  int64     // the same; 0 = never
}

const recordLabel = "cardea record v1"

func (b Binding) check() error {
	if b.KeyID == uuid.Nil {
		return errors.New("binding: key id is nil")
	}
	if b.KeyVersion == 0 {
		return errors.New("binding: key version is 0")
	}
	return cmp.Or(
		checkText("binding: tenant", b.Tenant, true),
		checkText("binding: holder", b.Holder, false),
		checkText("binding: space", b.Space, true),
		checkText("binding: customer", b.Customer, false),
		checkText("binding: reference", b.Reference, false),
		checkText("binding: kind", b.Kind, true),
	)
}

// context is what the record's key derivation and associated data cover
// (docs/spec/record.md, "Record").
func (b Binding) context() []byte {
	n := 4 + len(recordLabel) + 5 + 6*4 + len(b.Tenant) + len(b.Holder) + len(b.Space) +
		len(b.Customer) + len(b.Reference) + len(b.Kind) + 20 + 8 + 12 + 12
	return b.fields(make([]byte, 0, n), recordLabel, suiteHKDFGCM)
}

// fields appends everything that b names, under a label and a suite.
func (b Binding) fields(c []byte, label string, suite byte) []byte {
	c = appendText(c, label)
	c = appendByte(c, suite)
	c = appendText(c, b.Tenant)
	c = appendText(c, b.Holder)
	c = appendText(c, b.Space)
	c = appendText(c, b.Customer)
	c = appendText(c, b.Reference)
	c = appendText(c, b.Kind)
	c = appendID(c, b.KeyID)
	c = appendUint32(c, b.KeyVersion)
	c = appendInt64(c, b.CreatedAt)
	return appendInt64(c, b.ExpiresAt)
}
