package store_test

import (
	"errors"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
)

// TestRightsInTheSpecificationSuffice: a role with the rights that
// docs/spec/key-service-tables.md lists can do all that the key service does, and
// each of them is needed.
func TestRightsInTheSpecificationSuffice(t *testing.T) {
	t.Parallel()
	if os.Getenv("CARDEA_TEST_POSTGRES") != "" {
		t.Skip("makes roles, which it does not do on somebody's server")
	}
	text, err := os.ReadFile("../../docs/spec/key-service-tables.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := map[string][]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (INSERT|UPDATE|DELETE) \| (.+) \|$`).FindAllStringSubmatch(string(text), -1) {
		rights[row[1]] = strings.Split(row[2], ", ")
	}
	if len(rights) != 3 {
		t.Fatalf("rights %v", rights)
	}
	admin := storetest.Postgres(t)
	if err := storetest.Open(t, admin).Close(); err != nil {
		t.Fatal(err)
	}
	role := "cardea_key_service_" + strconv.Itoa(os.Getpid())
	storetest.Exec(t, admin, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		storetest.Exec(t, admin, "DROP OWNED BY "+role)
		storetest.Exec(t, admin, "DROP ROLE "+role)
	})
	storetest.Exec(t, admin, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO "+role)
	storetest.Exec(t, admin, "GRANT INSERT ON audit_log, audit_segment, audit_tile, audit_checkpoint TO "+role)
	storetest.Exec(t, admin, "GRANT UPDATE ON audit_log TO "+role)
	for right, tables := range rights {
		storetest.Exec(t, admin, "GRANT "+right+" ON "+strings.Join(tables, ", ")+" TO "+role)
	}
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	now := time.Now()
	s := storetest.Open(t, u.String(), func(o *store.Options) { o.Now = func() time.Time { return now } })
	use := func() error {
		err := useAll(t, store.NewKeyService(s), store.NewIdentities(s))
		now = now.Add(25 * time.Hour)
		return errors.Join(err, s.PruneChanges(t.Context(), 1000))
	}
	if err := use(); err != nil {
		t.Fatalf("with the rights listed: %v", err)
	}
	for right, tables := range rights {
		for _, table := range tables {
			storetest.Exec(t, admin, "REVOKE "+right+" ON "+table+" FROM "+role)
			if err := use(); err == nil || !strings.Contains(err.Error(), "permission denied for table "+table) {
				t.Errorf("without %s on %s: %v", right, table, err)
			}
			storetest.Exec(t, admin, "GRANT "+right+" ON "+table+" TO "+role)
			for deadline := time.Now().Add(time.Minute); use() != nil; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("with %s on %s again: %v", right, table, use())
				}
			}
		}
	}
}

// useAll calls everything that writes.
func useAll(t *testing.T, ks *store.KeyService, ids *store.Identities) error {
	k, e := storetest.Key(), storetest.Entry(t, "rights")
	a := &kms.Alias{Account: k.Account, Region: k.Region, Name: "alias/" + k.ID, KeyID: k.ID}
	g := storetest.Grant(k.KeyRef)
	cks := &kms.KeyStore{Account: k.Account, Region: k.Region, ID: "cks-" + k.ID}
	changed := *k
	changed.Version = 1
	connected := *cks
	connected.Version = 1
	user, session := storetest.IdentityRow("user", k.ID), storetest.IdentityRow("session", k.ID)
	user2 := *user
	user2.Version = 1
	session.ExpiresAt = time.Unix(1, 0)
	uses := []kms.Usage{{Key: k.KeyRef, At: time.Unix(1, 0)}}
	ctx := t.Context()
	put := ks.Update(ctx, func(tx kms.Tx) error {
		tx.Append(e)
		return errors.Join(tx.PutKey(ctx, k), tx.PutKey(ctx, &changed), tx.PutAlias(ctx, a, false), tx.PutAlias(ctx, a, true), tx.PutGrant(ctx, g),
			tx.PutKeyStore(ctx, cks), tx.PutKeyStore(ctx, &connected))
	})
	use := errors.Join(ks.PutUsage(ctx, uses), ks.PutUsage(ctx, uses))
	remove := ks.Update(ctx, func(tx kms.Tx) error {
		tx.Append(e)
		return errors.Join(tx.DeleteGrant(ctx, k.KeyRef, g.ID), tx.DeleteAlias(ctx, a.Account, a.Region, a.Name), tx.DeleteKey(ctx, k.KeyRef),
			tx.DeleteKeyStore(ctx, cks.Account, cks.Region, cks.ID))
	})
	people := ids.Update(ctx, func(tx identity.Tx) error {
		tx.Append(e)
		return errors.Join(tx.Put(ctx, user), tx.Put(ctx, &user2), tx.Delete(ctx, user.Kind, user.Account, user.Name), tx.Put(ctx, session))
	})
	_, expired := ids.DeleteExpired(ctx, time.Now(), 1000)
	return errors.Join(put, use, remove, people, expired)
}
