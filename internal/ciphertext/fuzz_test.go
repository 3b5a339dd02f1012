package ciphertext

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzParseRecord(f *testing.F) {
	blob, err := SealRecord(key32(1), nil, testBinding(), []byte("a card"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Add(blob[:RecordOverhead])
	f.Add(blob[:RecordOverhead-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || r.box != nil || r.RecordHeader != (RecordHeader{}) {
				t.Fatalf("refused with %v and a header %v", err, r.RecordHeader)
			}
		} else if !bytes.Equal(r.append(nil), b) {
			t.Fatal("parse then encode is not the identity")
		}
		// No input opens: the fuzzer does not know the key.
		if _, err := OpenRecord(key32(2), nil, testBinding(), b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("open: got %v, want ErrCorrupt", err)
		}
	})
}

func FuzzParseWrapped(f *testing.F) {
	blob, err := WrapKey(key32(1), testKeyBinding(), key32(3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Add(blob[:wrappedHeaderSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseWrapped(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || w.payload != nil || w.WrappedHeader != (WrappedHeader{}) {
				t.Fatalf("refused with %v and a header %v", err, w.WrappedHeader)
			}
		} else if !bytes.Equal(w.append(nil), b) {
			t.Fatal("parse then encode is not the identity")
		}
		if _, err := UnwrapKey(key32(2), testKeyBinding(), b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("unwrap: got %v, want ErrCorrupt", err)
		}
	})
}
