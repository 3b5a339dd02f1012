package hsmtest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

func (s *suite) sealsAndOpens(t *testing.T) {
	b := s.open(t)
	m, _ := generate(t, b, keyspec.SymmetricDefault)
	for _, n := range []int{1, 16, 32, 33, 4096} {
		for _, aad := range [][]byte{{0}, someAAD, bytes.Repeat([]byte("context "), 1024)} {
			plain := secret.Random(n)
			sealed, err := b.Seal(t.Context(), m, aad, plain)
			if err != nil {
				t.Fatalf("seal %d bytes with %d of associated data: %v", n, len(aad), err)
			}
			got, err := b.Open(t.Context(), m, aad, sealed)
			if err != nil || !got.Equal(plain) {
				t.Errorf("open %d bytes with %d of associated data: %v, or another plaintext", n, len(aad), err)
			}
			if n >= 16 && bytes.Contains(sealed, plain.Expose()) {
				t.Error("the plaintext is in what was sealed")
			}
			again, err := b.Seal(t.Context(), m, aad, plain)
			if err != nil || bytes.Equal(again, sealed) {
				t.Errorf("seal again: %v, or the same bytes", err)
			}
		}
	}
}

func (s *suite) refusesTampered(t *testing.T) {
	b := s.open(t)
	m, _ := generate(t, b, keyspec.SymmetricDefault)
	other, _ := generate(t, b, keyspec.SymmetricDefault)
	sealed, err := b.Seal(t.Context(), m, someAAD, secret.Copy(someMessage))
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, m kms.MaterialRef, aad, sealed []byte) {
		t.Helper()
		p, err := b.Open(t.Context(), m, aad, sealed)
		wantError(t, what, err, kms.ErrNotOurs)
		if p.Len() > 0 {
			t.Errorf("%s: there is a plaintext", what)
		}
	}
	for i := range sealed {
		refuse(fmt.Sprintf("byte %d flipped", i), m, someAAD, flip(sealed, i))
		refuse(fmt.Sprintf("cut at %d", i), m, someAAD, sealed[:i])
	}
	refuse("a byte more", m, someAAD, append(bytes.Clone(sealed), 0))
	refuse("a byte before", m, someAAD, append([]byte{0}, sealed...))
	refuse("another material", other, someAAD, sealed)
	refuse("other associated data", m, flip(someAAD, 0), sealed)
	refuse("shorter associated data", m, someAAD[:len(someAAD)-1], sealed)
	refuse("longer associated data", m, append(bytes.Clone(someAAD), 0), sealed)
	for what, swap := range map[string]func(*kms.MaterialRef){
		"another key id":      func(r *kms.MaterialRef) { r.KeyID = other.KeyID },
		"another material id": func(r *kms.MaterialRef) { r.ID = other.ID },
		"another handle":      func(r *kms.MaterialRef) { r.Handle = other.Handle },
	} {
		r := m
		swap(&r)
		refuse(what, r, someAAD, sealed)
	}
	if _, err := b.Open(t.Context(), m, someAAD, sealed); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// leavesArguments checks who owns what: what the caller gives stays as it is, and
// what it gets is its own to wipe.
func (s *suite) leavesArguments(t *testing.T) {
	b := s.open(t)
	m, _ := generate(t, b, keyspec.SymmetricDefault)
	handle := bytes.Clone(m.Handle)
	plain, aad := secret.Copy(someMessage), bytes.Clone(someAAD)
	sealed, err := b.Seal(t.Context(), m, aad, plain)
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(sealed)
	for range 2 {
		p, err := b.Open(t.Context(), m, aad, sealed)
		if err != nil || !p.Equal(plain) {
			t.Fatalf("open: %v, or another plaintext", err)
		}
		p.Destroy()
	}
	if !bytes.Equal(plain.Expose(), someMessage) || !bytes.Equal(aad, someAAD) || !bytes.Equal(sealed, kept) || !bytes.Equal(m.Handle, handle) {
		t.Error("an argument was changed")
	}
	clear(m.Handle) // the backend must not have kept the slice
	m.Handle = handle
	if _, err := b.Open(t.Context(), m, aad, sealed); err != nil {
		t.Errorf("after the caller's handle was wiped: %v", err)
	}
}

// concurrency uses, destroys and makes material at the same time: nothing that is
// in use may be pulled from under its user. Run it with -race.
func (s *suite) concurrency(t *testing.T) {
	b := s.open(t)
	var refs []kms.MaterialRef
	for _, spec := range s.caps.Specs {
		if spec.Family() != keyspec.FamilyRSA {
			m, _ := generate(t, b, spec)
			refs = append(refs, m)
		}
	}
	var errs [4]error
	var all sync.WaitGroup
	for g := range errs {
		all.Go(func() {
			for i := range 40 * len(refs) {
				m := refs[(g+i)%len(refs)]
				var err error
				if m.Spec == keyspec.SymmetricDefault {
					err = sealAndOpen(t, b, m)
				} else {
					err = use(t, b, m)
				}
				if err != nil {
					errs[g] = fmt.Errorf("%s: %w", m.Spec, err)
					return
				}
				if fresh := newRef(m.Spec); i%16 == g {
					if fresh.Handle, _, err = b.Generate(t.Context(), fresh); err == nil {
						err = errors.Join(use(t, b, fresh), b.Destroy(t.Context(), fresh))
					}
					if err != nil {
						errs[g] = fmt.Errorf("fresh %s: %w", m.Spec, err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

func sealAndOpen(t testing.TB, b kms.Backend, m kms.MaterialRef) error {
	plain := secret.Random(32)
	sealed, err := b.Seal(t.Context(), m, someAAD, plain)
	if err != nil {
		return err
	}
	p, err := b.Open(t.Context(), m, someAAD, sealed)
	if err != nil {
		return err
	}
	if !p.Equal(plain) {
		return errors.New("another plaintext")
	}
	return nil
}
