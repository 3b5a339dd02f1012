// Package hsmtest has the one suite of tests that every kms.Backend passes.
//
// It promises that backends which pass it can be exchanged: they bind material and
// ciphertext to the same things, refuse with the same errors, and differ only in
// what their Caps say.
package hsmtest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// Caps are what a backend can do.
type Caps struct {
	// Specs are those of which the backend makes keys. It refuses others with
	// keyspec.ErrUnsupported.
	Specs []keyspec.Spec
	// Import says that it takes material, else it refuses with keyspec.ErrUnsupported.
	Import bool
	// Seal makes a backend unusable, as when its root key is sealed or its device is
	// gone, and returns what makes it usable again. nil if there is no such thing.
	Seal func(t testing.TB, b kms.Backend) (unseal func())
}

// AllSpecs are the specs that package keyspec knows.
func AllSpecs() []keyspec.Spec {
	return []keyspec.Spec{
		keyspec.SymmetricDefault, keyspec.HMAC224, keyspec.HMAC256, keyspec.HMAC384, keyspec.HMAC512,
		keyspec.RSA2048, keyspec.RSA3072, keyspec.RSA4096,
		keyspec.ECCNISTP256, keyspec.ECCNISTP384, keyspec.ECCNISTP521, keyspec.ECCSECGP256K1, keyspec.ECCEdwards25519,
		keyspec.MLDSA44, keyspec.MLDSA65, keyspec.MLDSA87,
	}
}

// suite is one run. Each test makes a backend of its own.
type suite struct {
	caps Caps
	open func(t testing.TB) kms.Backend
}

// Run runs the suite. newBackend returns a usable backend that shares nothing the
// suite could disturb with others, and closes it by t.Cleanup.
func Run(t *testing.T, newBackend func(t testing.TB) kms.Backend, caps Caps) {
	s := &suite{caps, newBackend}
	t.Run("ready", s.ready)
	t.Run("specs that it has not are refused", s.refusesOtherSpecs)
	t.Run("random", s.random)
	t.Run("material has a handle and a public half", s.generates)
	t.Run("material is bound to key, id, spec and handle", s.bindsMaterial)
	t.Run("operations that are not of the spec are refused", s.refusesOtherOperations)
	t.Run("destroy", s.destroys)
	t.Run("import", s.imports)
	t.Run("concurrency", s.concurrency)
	if s.has(keyspec.SymmetricDefault) {
		t.Run("what is sealed opens", s.sealsAndOpens)
		t.Run("what was changed does not open", s.refusesTampered)
		t.Run("plaintext belongs to the caller", s.leavesArguments)
	}
	t.Run("pairs", s.pairs)
	t.Run("mac", s.macs)
	if caps.Seal != nil {
		t.Run("nothing works while it is sealed", s.sealed)
	}
}

func (s *suite) has(spec keyspec.Spec) bool { return slices.Contains(s.caps.Specs, spec) }

// slow specs are like RSA_2048, but making a key takes seconds.
func slow(spec keyspec.Spec) bool { return spec == keyspec.RSA3072 || spec == keyspec.RSA4096 }

// each runs f for each spec that the backend has of those given.
func (s *suite) each(t *testing.T, specs []keyspec.Spec, f func(t *testing.T, spec keyspec.Spec)) {
	for _, spec := range specs {
		if s.has(spec) {
			t.Run(string(spec), func(t *testing.T) { f(t, spec) })
		}
	}
}

// newRef names material that there is not yet.
func newRef(spec keyspec.Spec) kms.MaterialRef {
	id := secret.Random(32)
	return kms.MaterialRef{KeyID: uuid.NewString(), ID: hex.EncodeToString(id.Expose()), Spec: spec}
}

// generate makes material and returns its public half.
func generate(t testing.TB, b kms.Backend, spec keyspec.Spec) (kms.MaterialRef, []byte) {
	t.Helper()
	m := newRef(spec)
	handle, public, err := b.Generate(t.Context(), m)
	if err != nil {
		t.Fatalf("generate %s: %v", spec, err)
	}
	m.Handle = handle
	return m, public
}

// wantError checks that err wraps want.
func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

var (
	someAAD     = []byte("associated data of a test")
	someMessage = []byte("pay 12.50 to the bearer")
)

// use does to m what its spec is for, and returns the error.
func use(t testing.TB, b kms.Backend, m kms.MaterialRef) error {
	t.Helper()
	var err error
	switch m.Spec.Family() {
	case keyspec.FamilySymmetric:
		_, err = b.Seal(t.Context(), m, someAAD, secret.Copy(someMessage))
	case keyspec.FamilyHMAC:
		_, err = b.MAC(t.Context(), m, m.Spec.MACAlgorithms()[0], someMessage)
	case keyspec.FamilyRSA, keyspec.FamilyECC, keyspec.FamilyEdwards, keyspec.FamilyMLDSA:
		_, err = b.Sign(t.Context(), m, m.Spec.SigningAlgorithms()[0], keyspec.MessageRaw, someMessage)
	case keyspec.FamilyNone:
		t.Fatalf("spec %q", m.Spec)
	}
	return err
}

func (s *suite) ready(t *testing.T) {
	if err := s.open(t).Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func (s *suite) refusesOtherSpecs(t *testing.T) {
	b := s.open(t)
	for _, spec := range append(AllSpecs(), keyspec.SM2, "", "AES_256") {
		if s.has(spec) {
			continue
		}
		_, _, err := b.Generate(t.Context(), newRef(spec))
		wantError(t, "generate "+string(spec), err, keyspec.ErrUnsupported)
		_, _, err = b.Import(t.Context(), newRef(spec), secret.Random(32))
		wantError(t, "import "+string(spec), err, keyspec.ErrUnsupported)
	}
}

func (s *suite) random(t *testing.T) {
	b := s.open(t)
	for _, n := range []int{1, 16, 32, 1024} {
		x, err := b.Random(t.Context(), n)
		if err != nil || x.Len() != n {
			t.Fatalf("%d bytes: got %d, %v", n, x.Len(), err)
		}
		if y, err := b.Random(t.Context(), n); err != nil || n >= 16 && x.Equal(y) {
			t.Errorf("%d bytes: %v, or the same twice", n, err)
		}
	}
}

func (s *suite) generates(t *testing.T) {
	b := s.open(t)
	s.each(t, s.caps.Specs, func(t *testing.T, spec keyspec.Spec) {
		if slow(spec) { // made in pairs
			return
		}
		m, public := generate(t, b, spec)
		if len(m.Handle) == 0 {
			t.Error("no handle")
		}
		if err := use(t, b, m); err != nil {
			t.Errorf("use: %v", err)
		}
		if !spec.Asymmetric() {
			if public != nil {
				t.Error("a public half of what has none")
			}
			return
		}
		if _, err := keyspec.ParsePublic(spec, public); err != nil {
			t.Errorf("public half: %v", err)
		}
		if spec.Family() == keyspec.FamilyRSA { // slow, and proves no more
			return
		}
		if _, other := generate(t, b, spec); bytes.Equal(other, public) {
			t.Error("two keys are the same")
		}
	})
}

// bindsMaterial swaps each part of a reference, before the backend has seen the
// right one and, in case it has a cache, after.
func (s *suite) bindsMaterial(t *testing.T) {
	specs := slices.Clone(s.caps.Specs)
	for _, spec := range specs {
		if slow(spec) {
			continue
		}
		t.Run(string(spec), func(t *testing.T) {
			b := s.open(t)
			m, _ := generate(t, b, spec)
			other, _ := generate(t, b, spec)
			for _, when := range []string{"before use", "after use"} {
				for what, swap := range map[string]func(*kms.MaterialRef){
					"another key id":         func(r *kms.MaterialRef) { r.KeyID = other.KeyID },
					"another material id":    func(r *kms.MaterialRef) { r.ID = other.ID },
					"another handle":         func(r *kms.MaterialRef) { r.Handle = other.Handle },
					"no handle":              func(r *kms.MaterialRef) { r.Handle = nil },
					"a flipped first bit":    func(r *kms.MaterialRef) { r.Handle = flip(m.Handle, 0) },
					"a flipped last bit":     func(r *kms.MaterialRef) { r.Handle = flip(m.Handle, len(m.Handle)-1) },
					"a handle cut short":     func(r *kms.MaterialRef) { r.Handle = m.Handle[:len(m.Handle)-1] },
					"a handle with more":     func(r *kms.MaterialRef) { r.Handle = append(bytes.Clone(m.Handle), 0) },
					"a handle of great size": func(r *kms.MaterialRef) { r.Handle = make([]byte, 1<<20) },
				} {
					r := m
					swap(&r)
					wantError(t, when+", "+what, use(t, b, r), kms.ErrNotOurs)
				}
				for _, as := range specs {
					if as != spec {
						r := m
						r.Spec = as
						wantError(t, when+", as "+string(as), use(t, b, r), kms.ErrNotOurs)
					}
				}
				if err := use(t, b, m); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1
	return c
}

func (s *suite) refusesOtherOperations(t *testing.T) {
	b := s.open(t)
	s.each(t, s.caps.Specs, func(t *testing.T, spec keyspec.Spec) {
		if slow(spec) {
			return
		}
		m, _ := generate(t, b, spec)
		ctx := t.Context()
		if f := spec.Family(); f != keyspec.FamilySymmetric {
			_, err := b.Seal(ctx, m, someAAD, secret.Copy(someMessage))
			wantError(t, "seal", err, keyspec.ErrUnsupported)
			_, err = b.Open(ctx, m, someAAD, make([]byte, 128))
			wantError(t, "open", err, keyspec.ErrUnsupported)
		}
		for _, a := range []keyspec.SigningAlgorithm{keyspec.SignPSSSHA256, keyspec.SignECDSASHA384, keyspec.SignEd25519, keyspec.SignMLDSA, "", "SM2DSA"} {
			if !slices.Contains(spec.SigningAlgorithms(), a) {
				_, err := b.Sign(ctx, m, a, keyspec.MessageRaw, someMessage)
				wantError(t, "sign "+string(a), err, keyspec.ErrUnsupported)
			}
		}
		for _, a := range []keyspec.EncryptionAlgorithm{keyspec.EncryptSymmetric, keyspec.EncryptOAEPSHA1, keyspec.EncryptOAEPSHA256, ""} {
			if !slices.Contains(spec.EncryptionAlgorithms(), a) || spec == keyspec.SymmetricDefault {
				_, err := b.Decrypt(ctx, m, a, make([]byte, 256))
				wantError(t, "decrypt "+string(a), err, keyspec.ErrUnsupported)
			}
		}
		for _, a := range []keyspec.MACAlgorithm{keyspec.MACHMACSHA224, keyspec.MACHMACSHA256, keyspec.MACHMACSHA384, keyspec.MACHMACSHA512, ""} {
			if !slices.Contains(spec.MACAlgorithms(), a) {
				_, err := b.MAC(ctx, m, a, someMessage)
				wantError(t, "mac "+string(a), err, keyspec.ErrUnsupported)
			}
		}
		if len(spec.AgreementAlgorithms()) == 0 {
			_, err := b.Agree(ctx, m, nil)
			wantError(t, "agree", err, keyspec.ErrUnsupported)
		}
	})
}

func (s *suite) destroys(t *testing.T) {
	b := s.open(t)
	if err := b.Destroy(t.Context(), newRef(s.caps.Specs[0])); err != nil {
		t.Errorf("destroy what there is not: %v", err)
	}
	m, _ := generate(t, b, s.caps.Specs[0])
	other, _ := generate(t, b, s.caps.Specs[0])
	for range 2 {
		if err := b.Destroy(t.Context(), m); err != nil {
			t.Errorf("destroy: %v", err)
		}
	}
	if err := use(t, b, other); err != nil {
		t.Errorf("other material after one was destroyed: %v", err)
	}
}

// sealed expects ErrSealed of every method, whatever is in a cache.
func (s *suite) sealed(t *testing.T) {
	b := s.open(t)
	ctx := t.Context()
	refs := map[keyspec.Spec]kms.MaterialRef{}
	for _, spec := range s.caps.Specs {
		if slow(spec) {
			continue
		}
		refs[spec], _ = generate(t, b, spec)
		if err := use(t, b, refs[spec]); err != nil {
			t.Fatal(err)
		}
	}
	unseal := s.caps.Seal(t, b)
	wantError(t, "ready", b.Ready(ctx), kms.ErrSealed)
	_, err := b.Random(ctx, 32)
	wantError(t, "random", err, kms.ErrSealed)
	for spec, m := range refs {
		_, _, err := b.Generate(ctx, newRef(spec))
		wantError(t, "generate "+string(spec), err, kms.ErrSealed)
		if s.caps.Import {
			_, _, err = b.Import(ctx, newRef(spec), secret.Random(32))
			wantError(t, "import "+string(spec), err, kms.ErrSealed)
		}
		wantError(t, "use of "+string(spec), use(t, b, m), kms.ErrSealed)
		switch spec.Family() {
		case keyspec.FamilySymmetric:
			_, err = b.Open(ctx, m, someAAD, make([]byte, 128))
			wantError(t, "open", err, kms.ErrSealed)
		case keyspec.FamilyRSA:
			_, err = b.Decrypt(ctx, m, keyspec.EncryptOAEPSHA256, make([]byte, 256))
			wantError(t, "decrypt", err, kms.ErrSealed)
		case keyspec.FamilyECC:
			if len(spec.AgreementAlgorithms()) > 0 {
				_, err = b.Agree(ctx, m, nil)
				wantError(t, "agree", err, kms.ErrSealed)
			}
		default:
		}
	}
	unseal()
	if err := b.Ready(ctx); err != nil {
		t.Fatalf("ready after it was unsealed: %v", err)
	}
	for spec, m := range refs {
		if err := use(t, b, m); err != nil {
			t.Errorf("%s after it was unsealed: %v", spec, err)
		}
	}
}
