package ciphertext

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"cardea/internal/secret"
)

// The generators draw from few short texts, so that collisions of single
// fields and of their concatenations are common.

func genText() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 1, 3, -1)
}

func genMaybe() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 0, 3, -1)
}

func genID() *rapid.Generator[uuid.UUID] {
	return rapid.Map(rapid.ByteRange(1, 3), func(b byte) uuid.UUID { return uuid.UUID{15: b} })
}

func genBinding() *rapid.Generator[Binding] {
	return rapid.Custom(func(t *rapid.T) Binding {
		return Binding{
			Tenant:     genText().Draw(t, "tenant"),
			Holder:     genMaybe().Draw(t, "holder"),
			Space:      rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "space"),
			Customer:   genMaybe().Draw(t, "customer"),
			Reference:  genMaybe().Draw(t, "reference"),
			Kind:       rapid.SampledFrom([]string{"card", "data", "vault"}).Draw(t, "kind"),
			KeyID:      genID().Draw(t, "key id"),
			KeyVersion: rapid.Uint32Range(1, 3).Draw(t, "key version"),
			CreatedAt:  rapid.Int64Range(-1, 1).Draw(t, "created at"),
			ExpiresAt:  rapid.Int64Range(-1, 1).Draw(t, "expires at"),
		}
	})
}

func genKeyBinding() *rapid.Generator[KeyBinding] {
	return rapid.Custom(func(t *rapid.T) KeyBinding {
		return KeyBinding{
			Tenant:  genText().Draw(t, "tenant"),
			Holder:  genMaybe().Draw(t, "holder"),
			Purpose: rapid.SampledFrom([]string{"branch", "dedupe", "fingerprint"}).Draw(t, "purpose"),
			KeyID:   genID().Draw(t, "key id"),
			Version: rapid.Uint32Range(1, 3).Draw(t, "version"),
			Mode:    ModeLocal,
			KEK:     rapid.SampledFrom([]uuid.UUID{{}, {1}}).Draw(t, "kek"),
		}
	})
}

func testBinding() Binding {
	return Binding{
		Tenant: "acme", Holder: "merchant-1", Space: "v1", Customer: "cus_1", Reference: "0198f0a2-7c1e-7000-8000-000000000001",
		Kind: "card", KeyID: uuid.MustParse("0198f0a2-7c1e-7abc-8def-0123456789ab"), KeyVersion: 1,
		CreatedAt: 1_700_000_000_000_000, ExpiresAt: 1_800_000_000_000_000,
	}
}

func testKeyBinding() KeyBinding {
	return KeyBinding{
		Tenant: "acme", Holder: "merchant-1", Purpose: "branch", KeyID: uuid.UUID{1}, Version: 1, Mode: ModeLocal, KEK: uuid.UUID{2},
	}
}

// otherBindings is one binding for each field, which differs from b in it only,
// and two in which a character moved to the neighbouring field.
func otherBindings(b Binding) map[string]Binding {
	m := map[string]Binding{}
	change := func(name string, f func(*Binding)) {
		c := b
		f(&c)
		m[name] = c
	}
	change("tenant", func(b *Binding) { b.Tenant += "x" })
	change("holder", func(b *Binding) { b.Holder += "x" })
	change("space", func(b *Binding) { b.Space = "v2" })
	change("customer", func(b *Binding) { b.Customer = "" })
	change("reference", func(b *Binding) { b.Reference += "x" })
	change("kind", func(b *Binding) { b.Kind = "data" })
	change("key id", func(b *Binding) { b.KeyID[0]++ })
	change("key version", func(b *Binding) { b.KeyVersion++ })
	change("created at", func(b *Binding) { b.CreatedAt++ })
	change("expires at", func(b *Binding) { b.ExpiresAt = 0 })
	change("tenant and holder exchanged", func(b *Binding) { b.Tenant, b.Holder = b.Holder, b.Tenant })
	change("customer and reference exchanged", func(b *Binding) { b.Customer, b.Reference = b.Reference, b.Customer })
	change("holder and customer exchanged", func(b *Binding) { b.Holder, b.Customer = b.Customer, b.Holder })
	change("dates exchanged", func(b *Binding) { b.CreatedAt, b.ExpiresAt = b.ExpiresAt, b.CreatedAt })
	change("character moved to the next field", func(b *Binding) {
		n := len(b.Tenant) - 1
		b.Tenant, b.Holder = b.Tenant[:n], b.Tenant[n:]+b.Holder
	})
	return m
}

func otherKeyBindings(kb KeyBinding) map[string]KeyBinding {
	m := map[string]KeyBinding{}
	change := func(name string, f func(*KeyBinding)) {
		c := kb
		f(&c)
		m[name] = c
	}
	change("tenant", func(kb *KeyBinding) { kb.Tenant += "x" })
	change("holder", func(kb *KeyBinding) { kb.Holder = "" })
	change("purpose", func(kb *KeyBinding) { kb.Purpose = "dedupe" })
	change("key id", func(kb *KeyBinding) { kb.KeyID[0]++ })
	change("version", func(kb *KeyBinding) { kb.Version++ })
	change("kek", func(kb *KeyBinding) { kb.KEK = uuid.Nil })
	change("tenant and holder exchanged", func(kb *KeyBinding) { kb.Tenant, kb.Holder = kb.Holder, kb.Tenant })
	return m
}

// key32 is a fixed key of 32 bytes b.
func key32(b byte) secret.Bytes {
	k := make([]byte, KeySize)
	for i := range k {
		k[i] = b
	}
	return secret.New(k)
}

func mustSeal(t *testing.T, key secret.Bytes, entity []byte, b Binding, plaintext []byte) []byte {
	t.Helper()
	blob, err := SealRecord(key, entity, b, plaintext)
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	return blob
}

func mustWrap(t *testing.T, kek secret.Bytes, kb KeyBinding, key secret.Bytes) []byte {
	t.Helper()
	blob, err := WrapKey(kek, kb, key)
	if err != nil {
		t.Fatalf("wrap: %v", err)
	}
	return blob
}
