package retention_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

func TestEveryEntryOfEveryLogCanBeProved(t *testing.T) {
	t.Parallel()
	m := newMemLog(t, vaultLog)
	for n := 0; n < 70; { // checkpoints at sizes of all shapes
		var batch []audit.Entry
		for range n%5 + 1 {
			batch = append(batch, entry("vault-1", n, noon.Add(time.Duration(n)*time.Minute)))
			n++
		}
		m.commit(t, vaultLog, noon, batch...)
	}
	for n := range 70 {
		p, err := retention.Prove(t.Context(), m, []string{vaultLog}, entry("vault-1", n, noon).ID)
		if err != nil {
			t.Fatal(err)
		}
		back, err := retention.ParseProof(p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		e, c, err := back.Check(m.verifiers()...)
		if err != nil || e.Resource.Reference != fmt.Sprint("ref-", n) || back.Seq != int64(n) || c.Size <= int64(n) || c.Size > int64(n)+5 {
			t.Errorf("entry %d: %+v, %+v, %v", n, e, c, err)
		}
	}
}

func TestProofRefusesWhatItDoesNotProve(t *testing.T) {
	t.Parallel()
	m := hourly(t, 200)
	p, err := retention.Prove(t.Context(), m, []string{vaultLog}, entry("vault-1", 100, noon).ID)
	if err != nil {
		t.Fatal(err)
	}
	good := p.Encode()
	for name, c := range map[string]struct {
		change func([]byte) []byte
		is     error
	}{
		"entry":      {func(b []byte) []byte { return bytes.Replace(b, []byte("shop"), []byte("shpo"), 1) }, retention.ErrWrongProof},
		"number":     {func(b []byte) []byte { return bytes.Replace(b, []byte("entry 100\n"), []byte("entry 101\n"), 1) }, retention.ErrWrongProof},
		"far number": {func(b []byte) []byte { return bytes.Replace(b, []byte("entry 100\n"), []byte("entry 9000\n"), 1) }, retention.ErrWrongProof},
		"checkpoint": {func(b []byte) []byte { return bytes.Replace(b, []byte("\n120\n"), []byte("\n121\n"), 1) }, audit.ErrBadSignature},
		"zeros":      {func(b []byte) []byte { return bytes.Replace(b, []byte("entry 100\n"), []byte("entry 0100\n"), 1) }, retention.ErrMalformedProof},
		"magic":      {func(b []byte) []byte { return b[1:] }, retention.ErrMalformedProof},
		"no end":     {func(b []byte) []byte { return b[:bytes.Index(b, []byte("\n\n"))] }, retention.ErrMalformedProof},
		"hash":       {func(b []byte) []byte { return bytes.Replace(b, []byte("=\n\n"), []byte("\n\n"), 1) }, retention.ErrMalformedProof},
		"long":       {func(b []byte) []byte { return append(b, make([]byte, retention.MaxProof)...) }, retention.ErrMalformedProof},
	} {
		changed := c.change(bytes.Clone(good))
		if bytes.Equal(changed, good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		q, err := retention.ParseProof(changed)
		if err == nil {
			_, _, err = q.Check(m.verifiers()...)
		}
		if !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
	}
	if _, _, err := p.Check(hourly(t, 1).verifiers()...); !errors.Is(err, audit.ErrUnknownKey) {
		t.Errorf("of a stranger: %v", err)
	}
	if _, err := retention.Prove(t.Context(), m, []string{vaultLog}, "x"); !errors.Is(err, retention.ErrNoEntry) || err.Error() != "entry x: there is no such entry" {
		t.Error(err)
	}
	m.logs[vaultLog].checkpoints = m.logs[vaultLog].checkpoints[:1]
	if _, err := retention.Prove(t.Context(), m, []string{vaultLog}, entry("vault-1", 100, noon).ID); !errors.Is(err, retention.ErrUnsigned) {
		t.Error(err)
	}
}

func FuzzParseProof(f *testing.F) {
	f.Add([]byte("cardea audit proof 1\nentry 0\n{}\n\n"))
	f.Add([]byte("cardea audit proof 1\nentry 12\n{}\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\ncardea/x\n13\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := retention.ParseProof(b)
		if err == nil && !bytes.Equal(p.Encode(), b) {
			t.Fatalf("%q is not how it is written", b)
		}
	})
}
