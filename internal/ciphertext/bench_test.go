package ciphertext

import (
	"bytes"
	"testing"
)

// A card in its stored form has about 200 bytes.
var benchPlaintext = bytes.Repeat([]byte("x"), 200)

func BenchmarkSealRecord(b *testing.B) {
	key, binding := key32(1), testBinding()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := SealRecord(key, nil, binding, benchPlaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenRecord(b *testing.B) {
	key, binding := key32(1), testBinding()
	blob, err := SealRecord(key, nil, binding, benchPlaintext)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OpenRecord(key, nil, binding, blob); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRecord(b *testing.B) {
	blob, err := SealRecord(key32(1), nil, testBinding(), benchPlaintext)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRecord(blob); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnwrapKey(b *testing.B) {
	blob, err := WrapKey(key32(1), testKeyBinding(), key32(3))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := UnwrapKey(key32(1), testKeyBinding(), blob); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMAC(b *testing.B) {
	key, pan := key32(1), []byte("4111111111111111")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := MAC(key, "cardea dedupe v1", pan); err != nil {
			b.Fatal(err)
		}
	}
}
