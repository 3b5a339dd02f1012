package kms

import "testing"

// FuzzMarker checks that a marker has one form only, and belongs to one list.
func FuzzMarker(f *testing.F) {
	f.Add(byte(markKey), sealMarker(markKey, "1234abcd-12ab-34cd-56ef-1234567890ab"))
	f.Add(byte(markAlias), sealMarker(markAlias, "alias/cards"))
	f.Add(byte(markGrant), sealMarker(markGrant, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))
	f.Add(byte(markTag), sealMarker(markTag, "team"))
	f.Fuzz(func(t *testing.T, list byte, marker string) {
		last, err := openMarker(mark(list), marker)
		if err != nil || marker == "" {
			return
		}
		if last == "" || sealMarker(mark(list), last) != marker {
			t.Fatalf("%q is also %q", marker, sealMarker(mark(list), last))
		}
		for _, other := range []mark{markKey, markAlias, markGrant, markTag} {
			if _, err := openMarker(other, marker); err == nil && other != mark(list) {
				t.Fatalf("%q is a marker of %c and of %c", marker, list, other)
			}
		}
	})
}
