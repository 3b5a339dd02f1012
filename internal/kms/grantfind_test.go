package kms_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

// putGrants stores n grants of a key to a grantee behind the service's back.
func putGrants(t testing.TB, f *kmstest.Fixture, k *kms.Key, grantee string, from, n int, operations ...kms.GrantOperation) {
	t.Helper()
	f.Update(t, func(ctx context.Context, tx kms.Tx) error {
		for i := range n {
			id := hex.EncodeToString([]byte(fmt.Sprintf("grant-%026d", from+i)))
			err := tx.PutGrant(ctx, &kms.Grant{
				Key: k.KeyRef, ID: id, Grantee: grantee, Issuer: rootUser, Operations: operations, CreatedAt: f.Clock.Now(), TokenKey: make([]byte, 32),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// grantReads counts the lists of grants that are read from the store from now on.
func grantReads(f *kmstest.Fixture) *atomic.Int64 {
	var n atomic.Int64
	f.Store.Fail(func(call string) error {
		if call == "Grants" || call == "Grant" {
			n.Add(1)
		}
		return nil
	})
	return &n
}

func TestGrantsAreReadOnceForEachGranteeOfAKey(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	putGrants(t, f, k, "arn:aws:iam::111122223333:user/many", 0, 2000, "Decrypt")
	putGrants(t, f, k, app, 2000, 1, "Encrypt")
	n := grantReads(f)
	for i := range 5 {
		if err := mayEncrypt(t, f, kmstest.User(t), k, nil); err != nil {
			t.Fatal(err)
		}
		if got := n.Load(); got != 1 {
			t.Errorf("after %d requests %d lists were read", i+1, got)
		}
	}
	n.Store(0)
	for range 5 { // that there is none is remembered too: of the user, and of its account
		if err := mayEncrypt(t, f, kmstest.As(kmstest.Subject(t, kmstest.Account, "nobody", "")), k, nil); err == nil {
			t.Error("a user without a grant was let in")
		}
	}
	if got := n.Load(); got != 2 {
		t.Errorf("for a user without a grant %d lists were read", got)
	}
	n.Store(0)
	if err := mayEncrypt(t, f, kmstest.Admin(t), k, nil); err != nil || n.Load() != 0 {
		t.Errorf("whom a policy allows: %v, %d lists were read", err, n.Load())
	}
}

func TestAGranteeWithMoreGrantsThanTheCacheTakes(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	putGrants(t, f, k, app, 0, 6100, "Decrypt")
	n := grantReads(f)
	denied(t, f, mayEncrypt(t, f, kmstest.User(t), k, nil), "kms:Encrypt", noGrant)
	if got := n.Load(); got != 8 { // seven pages, and the account's
		t.Errorf("%d pages were read", got)
	}
	f.Store.Fail(nil)
	putGrants(t, f, k, app, 6100, 1, "Encrypt")
	for range 2 {
		if err := mayEncrypt(t, f, kmstest.User(t), k, nil); err != nil {
			t.Errorf("the last of 6101 grants: %v", err)
		}
	}
}

// withSecondNode makes another node on the same store.
func withSecondNode(t testing.TB) (*kmstest.Fixture, *kms.Service) {
	t.Helper()
	var o kms.Options
	f := kmstest.New(t, func(options *kms.Options) { o = *options })
	o.Node = "second"
	s, err := kms.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

func TestAGrantTokenIsValidAtOnceOnEveryNode(t *testing.T) {
	t.Parallel()
	f, second := withSecondNode(t)
	k, other := f.Key(t, keyspec.SymmetricDefault), f.Key(t, keyspec.SymmetricDefault)
	encrypts := func(who kms.Caller, tokens ...string) error {
		_, err := second.Encrypt(t.Context(), who, &kms.EncryptInput{KeyID: k.ID, Plaintext: text("x"), GrantTokens: tokens})
		return err
	}
	user := kmstest.User(t)
	denied(t, f, encrypts(user), "kms:Encrypt", noGrant) // now the second node remembers that there is none
	in := kms.CreateGrantInput{KeyID: k.ID, Name: "n", GranteePrincipal: app, Operations: grantOps("Encrypt", "RetireGrant")}
	g := createGrant(t, f, in)
	denied(t, f, encrypts(user), "kms:Encrypt", noGrant)
	otherToken := createGrant(t, f, kms.CreateGrantInput{KeyID: other.ID, GranteePrincipal: app, Operations: grantOps("Encrypt")}).GrantToken
	for _, tokens := range [][]string{{g.GrantToken}, {otherToken, g.GrantToken}, {createGrant(t, f, in).GrantToken}} {
		if err := encrypts(user, tokens...); err != nil {
			t.Errorf("with the grant's token: %v", err)
		}
	}
	denied(t, f, encrypts(user, otherToken), "kms:Encrypt", noGrant)
	denied(t, f, encrypts(kmstest.As(kmstest.Subject(t, kmstest.Account, "thief", "")), g.GrantToken), "kms:Encrypt", noGrant)
	_, err := second.Decrypt(t.Context(), user, &kms.DecryptInput{KeyID: k.ID, CiphertextBlob: encrypt(t, f, k.ID, "x", nil), GrantTokens: []string{g.GrantToken}})
	denied(t, f, err, "kms:Decrypt", noGrant)
	if err := second.RetireGrant(t.Context(), user, &kms.RetireGrantInput{GrantToken: g.GrantToken}); err != nil {
		t.Error(err)
	}
	kmstest.Refused(t, encrypts(user, g.GrantToken), kms.CodeInvalidGrantToken, "Grant token is invalid.")
	if err := encrypts(kmstest.Admin(t), g.GrantToken); err != nil {
		t.Errorf("whom a policy allows, a token that has ended does not hinder: %v", err)
	}
}

func TestForgedGrantTokensAreInvalid(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	token := createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: app, Operations: grantOps("Decrypt")}).GrantToken
	calls := backendCalls(f)
	for i := range len(token) {
		for _, c := range []byte{'A', 'b', '-'} {
			forged := []byte(token)
			if forged[i] == c {
				continue
			}
			forged[i] = c
			err := mayEncrypt(t, f, kmstest.User(t), k, nil, string(forged))
			if e, is := errors.AsType[*kms.Error](err); !is || e.Code != kms.CodeInvalidGrantToken && e.Code != kms.CodeAccessDenied {
				t.Fatalf("changed at %d: %v", i, err)
			}
			if err := f.RetireGrant(t.Context(), kmstest.Admin(t), &kms.RetireGrantInput{GrantToken: string(forged)}); err == nil {
				t.Fatalf("changed at %d it still retires the grant", i)
			}
		}
	}
	for _, s := range []string{token + "A", token[:len(token)-1], token + "\n", token + "=", " " + token} {
		kmstest.Refused(t, mayEncrypt(t, f, kmstest.Admin(t), k, nil, s), kms.CodeInvalidGrantToken, "Grant token is invalid.")
	}
	if got := calls(); len(got) > 0 {
		t.Errorf("refused requests called the backend: %v", got)
	}
}

// Whatever grants there are and whatever else is allowed: if a statement denies, the
// request is denied, the entry names the statement, and no key is used.
func TestNoGrantOvercomesADeny(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		f := kmstest.New(t)
		const deny = `{"Sid":"No","Effect":"Deny",%s"Action":["kms:Encrypt","kms:RetireGrant"],"Resource":"*"}`
		where := rapid.SampledFrom([]string{"resource policy", "identity policy inline", "permissions boundary", "session policy inline"}).Draw(r, "where")
		statements := []string{`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`}
		if rapid.Bool().Draw(r, "named in the key policy") {
			statements = append(statements, `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`)
		}
		if where == "resource policy" {
			statements = append(statements, fmt.Sprintf(deny, `"Principal":"*",`))
		}
		at := len(statements) - 1
		k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
			k.Policy = `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
		})
		who := appSession(t, kmstest.AllowKMS)
		if rapid.Bool().Draw(r, "user") {
			who = kmstest.As(kmstest.Subject(t, kmstest.Account, "user", kmstest.AllowKMS))
		}
		if where != "resource policy" {
			p, err := iam.ParsePolicy(iam.IdentityPolicy, []byte(`{"Version":"2012-10-17","Statement":[`+
				`{"Effect":"Allow","Action":"*","Resource":"*"},`+fmt.Sprintf(deny, "")+`]}`))
			if err != nil {
				t.Fatal(err)
			}
			at = 1
			named := []iam.NamedPolicy{{Name: "inline", Policy: p}}
			switch where {
			case "identity policy inline":
				who.Identity = named
			case "permissions boundary":
				who.Boundary = p
			default:
				who.Session = named
			}
		}
		var tokens []string
		var ids []string
		for _, grantee := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{app, appRole, appAnna, rootUser}), rapid.ID[string]).Draw(r, "grantees") {
			g := createGrant(t, f, kms.CreateGrantInput{KeyID: k.ID, GranteePrincipal: grantee, RetiringPrincipal: grantee, Operations: grantOps("Encrypt", "RetireGrant")})
			ids = append(ids, g.GrantID)
			if rapid.Bool().Draw(r, "token") {
				tokens = append(tokens, g.GrantToken)
			}
		}
		calls := backendCalls(f)
		detail := fmt.Sprintf(`denied by %s /Statement/%d "No"`, where, at)
		denied(t, f, mayEncrypt(t, f, who, k, nil, tokens...), "kms:Encrypt", detail)
		for _, id := range ids {
			denied(t, f, f.RetireGrant(t.Context(), who, &kms.RetireGrantInput{KeyID: k.ARN(), GrantID: id}), "kms:RetireGrant", detail)
		}
		if got := calls(); len(got) > 0 {
			t.Errorf("denied requests called the backend: %v", got)
		}
	})
}

func TestAllOperationsOfTheAPIThatAGrantCanPermitAreKnown(t *testing.T) {
	t.Parallel()
	for _, o := range kms.Operations() {
		if o.Grant != "" && o.Name != "ReEncrypt" && !slices.Contains(kms.GrantOperations, o.Grant) {
			t.Errorf("%s is permitted by an unknown grant operation %s", o.Name, o.Grant)
		}
	}
}
