package kms

import (
	"regexp"
	"testing"
)

func TestIDsOfKeyStoresAreNeverMaskedInTheLog(t *testing.T) {
	t.Parallel()
	form, card := regexp.MustCompile(`^cks-[0-9a-f]{17}$`), regexp.MustCompile(`[0-9]{13}`)
	for range 10_000 { // one in 180 would have so many digits
		if id := newKeyStoreID(); !form.MatchString(id) || card.MatchString(id) {
			t.Fatalf("id is %s", id)
		}
	}
}
