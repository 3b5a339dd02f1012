package vault_test

import (
	"context"
	"errors"
	"testing"

	"cardea/internal/ciphertext"
	"cardea/internal/custodian"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// tokens is a device in memory.
type tokens map[string]secret.Bytes

func (d tokens) Wrap(_ context.Context, name string, aad []byte, master secret.Bytes) ([]byte, error) {
	d[name] = secret.Random(32)
	return ciphertext.SealBox(d[name], aad, master.Expose())
}

func (d tokens) Unwrap(_ context.Context, name string, aad, wrapped []byte) (secret.Bytes, error) {
	return ciphertext.OpenBox(d[name], aad, wrapped)
}

func (d tokens) Discard(_ context.Context, name string) error {
	delete(d, name)
	return nil
}

func TestInitTokenMakesASealThatTheDeviceOpens(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme", "beta")
	c, d := vault.NewCeremonies(n.gate, n.store), tokens{}
	if _, err := c.TokenSeal(t.Context(), "acme"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	if err := c.InitToken(vault.WithRequestID(t.Context(), "req"), operator(), "acme", d); err != nil {
		t.Fatal(err)
	}
	if e := only(t, n.entries(t, 0)); told(e) != "custodian.init allowed sealed" || e.Tenant != "acme" || e.RequestID != "req" || e.Detail != "token, generation 1, no custodians" {
		t.Errorf("entry says %s of %s: %q", told(e), e.Tenant, e.Detail)
	}
	s, err := c.TokenSeal(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	master, err := s.Unseal(t.Context(), d)
	if err != nil || master.Len() != 32 {
		t.Errorf("%d bytes, %v", master.Len(), err)
	}
	_, err = c.Seal(t.Context(), "acme")
	checkError(t, "as a seal of custodians", err, custodian.ErrTokenSeal)
	_, err = c.Rekey(t.Context(), operator(), "acme", nil, twoOfThree)
	checkError(t, "rekey", err, custodian.ErrTokenSeal)

	hs, err := c.Init(t.Context(), operator(), "beta", twoOfThree)
	if err != nil {
		t.Fatal(err)
	}
	defer destroy(hs)
	_, err = c.TokenSeal(t.Context(), "beta")
	checkError(t, "custodians' seal as a token's", err, custodian.ErrCustodianSeal)
}

func TestSecondMasterKeyInATokenIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	c, d := vault.NewCeremonies(n.gate, n.store), tokens{}
	errs := make([]error, 6)
	together(len(errs), func(i int) { errs[i] = c.InitToken(t.Context(), operator(), "acme", &lockedTokens{tokens: d}) })
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else {
			checkError(t, "a loser", err, vault.ErrSealed)
		}
	}
	if made != 1 {
		t.Errorf("%d ceremonies think they made the master key", made)
	}
}

// lockedTokens are of one caller alone.
type lockedTokens struct{ tokens }

func (d *lockedTokens) Wrap(ctx context.Context, name string, aad []byte, master secret.Bytes) ([]byte, error) {
	d.tokens = tokens{}
	return d.tokens.Wrap(ctx, name, aad, master)
}

// What was made in the device for nothing is taken back; what may be in force stays.
func TestKeyInTheDeviceFollowsItsSeal(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err, want error
		left      int
	}{{vault.ErrConflict, vault.ErrSealed, 0}, {errors.New("disk"), nil, 0}, {vault.ErrUnavailable, vault.ErrUncertain, 1}} {
		n := newNode(t, "acme")
		c := vault.NewCeremonies(n.gate, &custody{Custody: n.store, before: func(context.Context) error { return tc.err }})
		d := tokens{}
		err := c.InitToken(t.Context(), operator(), "acme", d)
		if tc.want == nil {
			tc.want = tc.err
		}
		checkError(t, "init", err, tc.want)
		if len(d) != tc.left {
			t.Errorf("%v: %d keys are left in the device, want %d", tc.err, len(d), tc.left)
		}
	}
}

func TestDamagedTokenSealIsCorrupt(t *testing.T) {
	t.Parallel()
	n := newNode(t, "acme")
	e := must(audited(n).Seal())
	if err := n.store.Update(t.Context(), func(tx vault.CustodyTx) error {
		tx.Append(e)
		return tx.PutMasterSeal(vault.MasterSeal{Tenant: "acme", Generation: 1, Blob: []byte("no seal")})
	}); err != nil {
		t.Fatal(err)
	}
	_, err := vault.NewCeremonies(n.gate, n.store).TokenSeal(t.Context(), "acme")
	checkError(t, "seal", err, vault.ErrCorrupt)
	checkError(t, "seal", err, custodian.ErrCorruptSeal)
}
