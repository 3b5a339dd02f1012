package ciphertext

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

const testARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func testKMSWrapped() KMSWrapped {
	return KMSWrapped{Mode: ModeKMS, KeyID: uuid.UUID{1}, Version: 1, KMSKey: testARN, Blob: []byte("blob of KMS")}
}

func testKMSRecord() KMSRecord {
	return KMSRecord{RecordHeader: RecordHeader{KeyID: uuid.UUID{1}, KeyVersion: 1}, KMSKey: testARN, Blob: []byte("blob of KMS")}
}

func TestKMSWrappedVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name    string
		Mode    Mode
		KeyID   uuid.UUID `json:"key_id"`
		Version uint32
		KMSKey  string `json:"kms_key"`
		Blob    hexBytes
		Wrapped hexBytes
	}
	for _, v := range readVectors[vector](t, "kmswrapped.json") {
		w := KMSWrapped{v.Mode, v.KeyID, v.Version, v.KMSKey, v.Blob}
		if b, err := w.Encode(); err != nil || !bytes.Equal(b, v.Wrapped) {
			t.Errorf("%s: encode: %v, %x", v.Name, err, b)
		}
		got, err := ParseKMSWrapped(v.Wrapped)
		if err != nil || got.Mode != v.Mode || got.KeyID != v.KeyID || got.Version != v.Version || got.KMSKey != v.KMSKey || !bytes.Equal(got.Blob, v.Blob) {
			t.Errorf("%s: parse: %v, %+v", v.Name, err, got)
		}
	}
}

func TestKMSRecordVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name    string
		Binding struct {
			Tenant, Holder, Space, Customer, Reference, Kind string
			KeyID                                            uuid.UUID `json:"key_id"`
			KeyVersion                                       uint32    `json:"key_version"`
			CreatedAt                                        int64     `json:"created_at"`
			ExpiresAt                                        int64     `json:"expires_at"`
		}
		EntitySecret hexBytes `json:"entity_secret"`
		Digest       hexBytes
		KMSKey       string `json:"kms_key"`
		Blob         hexBytes
		Record       hexBytes
	}
	for _, v := range readVectors[vector](t, "kmsrecord.json") {
		b := Binding(v.Binding)
		if d, err := b.KMSDigest(v.EntitySecret); err != nil || !bytes.Equal(d[:], v.Digest) {
			t.Errorf("%s: digest: %v, %x", v.Name, err, d)
		}
		r := KMSRecord{RecordHeader{b.KeyID, b.KeyVersion}, v.KMSKey, v.Blob}
		if e, err := r.Encode(); err != nil || !bytes.Equal(e, v.Record) {
			t.Errorf("%s: encode: %v, %x", v.Name, err, e)
		}
		got, err := ParseKMSRecord(v.Record)
		if err != nil || got.RecordHeader != r.RecordHeader || got.KMSKey != v.KMSKey || !bytes.Equal(got.Blob, v.Blob) {
			t.Errorf("%s: parse: %v, %+v", v.Name, err, got)
		}
	}
}

func TestKMSFormsRefuse(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*KMSWrapped){
		"mode 1 is not one of AWS KMS":                           func(w *KMSWrapped) { w.Mode = ModeLocal },
		"a reference has no ciphertext":                          func(w *KMSWrapped) { w.Mode = ModeKMSReference },
		"key id is nil":                                          func(w *KMSWrapped) { w.KeyID = uuid.Nil },
		"key version is 0":                                       func(w *KMSWrapped) { w.Version = 0 },
		"KMS key is empty":                                       func(w *KMSWrapped) { w.KMSKey = "" },
		"KMS key is not printable ASCII":                         func(w *KMSWrapped) { w.KMSKey = "a key" },
		"KMS key has 2049 bytes, at most 2048: too large":        func(w *KMSWrapped) { w.KMSKey = strings.Repeat("k", 2049) },
		"KMS ciphertext is empty":                                func(w *KMSWrapped) { w.Blob = nil },
		"KMS ciphertext has 6145 bytes, at most 6144: too large": func(w *KMSWrapped) { w.Blob = make([]byte, 6145) },
	} {
		w := testKMSWrapped()
		change(&w)
		if _, err := w.Encode(); err == nil || err.Error() != "wrapped key: "+want {
			t.Errorf("got %v, want %q", err, want)
		}
		// Whoever writes it nevertheless is not read.
		if _, err := ParseKMSWrapped(w.bytes()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: parse: %v", want, err)
		}
		r := KMSRecord{RecordHeader{w.KeyID, w.Version}, w.KMSKey, w.Blob}
		if strings.Contains(want, "mode") || strings.Contains(want, "reference") {
			continue
		}
		if _, err := r.Encode(); err == nil || err.Error() != "record: "+want {
			t.Errorf("record: got %v, want %q", err, want)
		}
		if _, err := ParseKMSRecord(r.bytes()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: parse record: %v", want, err)
		}
	}
}

func TestKMSFormsAreNotTakenForOthers(t *testing.T) {
	t.Parallel()
	kms := testKMSWrapped().bytes()
	if _, err := ParseWrapped(kms); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("KMS's form as local: %v", err)
	}
	if _, err := ParseKMSWrapped(mustWrap(t, key32(1), testKeyBinding(), key32(3))); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("local form as KMS's: %v", err)
	}
	if _, err := ParseRecord(testKMSRecord().bytes()); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("KMS's record as local: %v", err)
	}
	if _, err := ParseKMSRecord(mustSeal(t, key32(1), nil, testBinding(), nil)); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("local record as KMS's: %v", err)
	}
	kek := slices.Clone(kms)
	kek[37] = 1
	if _, err := ParseKMSWrapped(kek); err != ErrCorrupt { //nolint:errorlint // the exact sentinel is the point
		t.Errorf("wrapping key id: %v", err)
	}
}

// TestKMSDigestIsOfItsBindingOnly: bindings that differ have digests that differ.
func TestKMSDigestIsOfItsBindingOnly(t *testing.T) {
	t.Parallel()
	digest := func(t interface{ Fatal(...any) }, b Binding, entity []byte) string {
		d, err := b.KMSDigest(entity)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(d[:])
	}
	b, entity := testBinding(), bytes.Repeat([]byte{5}, KeySize)
	seen := map[string]string{digest(t, b, nil): "the binding itself"}
	for name, other := range otherBindings(b) {
		d := digest(t, other, nil)
		if seen[d] != "" {
			t.Errorf("%s has the digest of %s", name, seen[d])
		}
		seen[d] = name
	}
	if seen[digest(t, b, entity)] != "" {
		t.Error("the entity's secret does not count")
	}
	rapid.Check(t, func(t *rapid.T) {
		x, y := genBinding().Draw(t, "x"), genBinding().Draw(t, "y")
		if (digest(t, x, nil) == digest(t, y, nil)) != (x == y) {
			t.Fatal("digests and bindings disagree")
		}
	})
	for want, f := range map[string]func() error{
		"binding: key id is nil":                      func() error { b := b; b.KeyID = uuid.Nil; _, err := b.KMSDigest(nil); return err },
		"entity secret has 31 bytes, want 32 or none": func() error { _, err := b.KMSDigest(entity[1:]); return err },
	} {
		if err := f(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzParseKMSForms(f *testing.F) {
	f.Add(testKMSWrapped().bytes())
	f.Add(KMSWrapped{Mode: ModeKMSReference, KeyID: uuid.UUID{1}, Version: 1, KMSKey: "k"}.bytes())
	f.Add(testKMSRecord().bytes())
	f.Add(testKMSRecord().bytes()[:recordHeaderSize+2])
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := ParseKMSWrapped(b); err == nil {
			if e, err := w.Encode(); err != nil || !bytes.Equal(e, b) {
				t.Fatalf("parse then encode a key is not the identity: %v", err)
			}
		} else if !errors.Is(err, ErrCorrupt) || w.Blob != nil || w.KMSKey != "" {
			t.Fatalf("refused with %v", err)
		}
		if r, err := ParseKMSRecord(b); err == nil {
			if e, err := r.Encode(); err != nil || !bytes.Equal(e, b) {
				t.Fatalf("parse then encode a record is not the identity: %v", err)
			}
		} else if !errors.Is(err, ErrCorrupt) || r.Blob != nil || r.KMSKey != "" {
			t.Fatalf("refused with %v", err)
		}
	})
}
