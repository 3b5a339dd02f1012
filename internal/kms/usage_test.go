package kms_test

import (
	"sync"
	"testing"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

// Uses, flushes and changes of a key at the same time lose no last use.
func TestLastUsageUnderConcurrency(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	who := kmstest.Admin(t)
	for range 20 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if _, err := f.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x")}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if err := f.UpdateKeyDescription(t.Context(), who, &kms.UpdateKeyDescriptionInput{KeyID: k.ID, Description: "x"}); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if err := f.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		f.Clock.Advance(time.Second)
		encrypt(t, f, k.ID, "x", nil)
		if u := lastUsage(t, f, k); u.CloudTrailEventID != f.Entries(t)[len(f.Entries(t))-2].ID || !u.Timestamp.Equal(f.Clock.Now()) {
			t.Fatalf("got %+v", u)
		}
	}
}
