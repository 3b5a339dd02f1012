package vault_test

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"cardea/internal/vault"
)

func TestLookupsOfDifferentRecordsDiffer(t *testing.T) {
	t.Parallel()
	type id struct {
		tenant, holder      string
		space               vault.Space
		customer, reference string
	}
	short := rapid.StringMatching(`[ab]{0,3}`) // so that boundaries move
	draw := rapid.Custom(func(t *rapid.T) id {
		return id{
			short.Draw(t, "tenant"), short.Draw(t, "holder"), vault.Space(rapid.IntRange(1, 2).Draw(t, "space")),
			short.Draw(t, "customer"), short.Draw(t, "reference"),
		}
	})
	of := func(i id) vault.Lookup { return vault.LookupOf(i.tenant, i.holder, i.space, i.customer, i.reference) }
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		if (a == b) != (of(a) == of(b)) {
			t.Fatalf("%+v and %+v: equal=%t, lookups equal=%t", a, b, a == b, of(a) == of(b))
		}
		x, y := of(a), of(b)
		if a != b && bytes.Equal(x[6:], y[6:]) {
			t.Fatalf("%+v and %+v differ by the prefix only", a, b)
		}
	})
}

// Rows that are stored together lie together.
func TestLookupsOfUUIDv7AreInTheOrderOfTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := func(ms int64) string {
			id := uuid.New()
			for i := range 6 {
				id[i] = byte(ms >> (40 - 8*i))
			}
			id[6] = id[6]&0x0f | 0x70
			return id.String()
		}
		early := rapid.Int64Range(0, 1<<48-2).Draw(t, "early")
		late := rapid.Int64Range(early+1, 1<<48-1).Draw(t, "late")
		a := vault.LookupOf("t", "m1", vault.SpaceV1, "c1", at(early))
		b := vault.LookupOf("t", "m2", vault.SpaceV2, "", at(late))
		if bytes.Compare(a[:6], b[:6]) >= 0 {
			t.Fatalf("prefix %x is not before %x", a[:6], b[:6])
		}
	})
}

func TestLookupOfOtherReferencesIsSpread(t *testing.T) {
	t.Parallel()
	firsts := map[byte]int{}
	for i := range 1024 {
		l := vault.LookupOf("t", "m", vault.SpaceV1, "c", "order-"+string(rune('a'+i%26))+hex.EncodeToString([]byte{byte(i), byte(i >> 8)}))
		firsts[l[0]]++
	}
	for b, n := range firsts {
		if n > 32 {
			t.Errorf("%d of 1024 begin with %02x", n, b)
		}
	}
}

// A changed derivation would lose every record that is stored: these are computed
// apart, with Python's hashlib.
func TestLookupVectors(t *testing.T) {
	t.Parallel()
	for _, v := range lookupVectors {
		got := vault.LookupOf(v.tenant, v.holder, v.space, v.customer, v.reference)
		if hex.EncodeToString(got[:]) != v.want {
			t.Errorf("%s: got %x, want %s", v.reference, got, v.want)
		}
	}
}

var lookupVectors = []struct {
	tenant, holder            string
	space                     vault.Space
	customer, reference, want string
}{
	{"public", "merchant_1", vault.SpaceV1, "customer_1", "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5dac968d8a97662f7cd426641391d2a5f6fae3"},
	{"public", "entity_1", vault.SpaceV2, "", "order-1", "5989bb345a8600bd2cc12055033e9d9b43e83fb50065"},
	{"acme", "müller", vault.SpaceV1, "c", "ref", "500b4e6a4abe71f6e44a29cd37621c20ffe646553bb3"},
}

func TestMicrosRoundDownAndAreUTC(t *testing.T) {
	t.Parallel()
	in := time.Date(2026, 3, 1, 13, 0, 0, 999_999_999, time.FixedZone("x", 3600))
	m := vault.MicrosOf(in)
	if got := m.Time(); !got.Equal(in.Truncate(time.Microsecond)) || got.Location() != time.UTC {
		t.Errorf("got %s", got)
	}
}

func TestNamesOfStoredNumbers(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		vault.SpaceV1.String(): "v1", vault.SpaceV2.String(): "v2", vault.Space(0).String(): "unknown",
		vault.KindCard.String(): "card", vault.KindData.String(): "data", vault.KindJSON.String(): "json",
		vault.ModeLocal.String(): "local",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// What is stored must not change its number.
	if vault.SpaceV1 != 1 || vault.SpaceV2 != 2 || vault.KindCard != 1 || vault.KindData != 2 || vault.KindJSON != 3 || vault.ModeLocal != 1 {
		t.Error("a stored number has changed")
	}
	id := vault.NewKeyID()
	if u, err := uuid.Parse(id.String()); err != nil || u.Version() != 7 || id.Hex() != hex.EncodeToString(id[:]) {
		t.Errorf("key id %s: %v", id, err)
	}
}
