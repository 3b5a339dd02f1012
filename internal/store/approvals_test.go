package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
)

// oneApproval judges every note as an approval of disabling a key, the note being the key's ARN.
type oneApproval struct{ expires time.Time }

func (o oneApproval) Read(signed []byte, _ time.Time) (*kms.Approved, error) {
	return &kms.Approved{
		Wanted: kms.Wanted{Operation: "key.disable", Target: string(signed), Approvals: 1}, ID: "the-approval",
		Requester: "alice", Approvers: []string{"bob"}, Expires: o.expires, Register: "0123456789abcdef",
	}, nil
}

func (o oneApproval) Check(signed []byte, at time.Time, _ kms.Wanted) (*kms.Approved, error) {
	return o.Read(signed, at)
}

// TestAnApprovalIsUsedOrWithdrawnNeverBoth, on two nodes of one database (of SQLite: in
// one process), of which each may have an older picture of the key.
func TestAnApprovalIsUsedOrWithdrawnNeverBoth(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db storetest.Database) {
		url := db.URL(t)
		stores := []*store.Store{storetest.Open(t, url)}
		if db.Name == "postgres" {
			stores = append(stores, storetest.Open(t, url, storetest.OnNode("test-2")))
		}
		soft := kmstest.New(t).Soft
		var nodes [2]*kms.Service
		for i := range nodes {
			s, err := kms.New(kms.Options{
				Node: fmt.Sprintf("test-%d", i+1), Store: store.NewKeyService(stores[i%len(stores)]), Soft: soft, Secrets: soft,
				Accounts: func(_ context.Context, account string) bool { return account == kmstest.Account }, Regions: []string{kmstest.Region},
				DualControl: kms.DualControl{
					Judge: oneApproval{time.Now().Add(time.Hour)}, Operations: []string{"DisableKey"}, Approvals: 1,
					CheckValue: func(keyspec.Spec, secret.Bytes) (string, error) { return "", nil },
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			nodes[i] = s
		}
		operator := kms.Operator("olivia", "", "")
		var ended [2]int // how often it was used, and withdrawn
		for range 20 {
			made, err := nodes[0].CreateKey(t.Context(), kmstest.Admin(t), &kms.CreateKeyInput{})
			if err != nil {
				t.Fatal(err)
			}
			id, arn := made.KeyMetadata.KeyID, made.KeyMetadata.ARN
			if _, err := nodes[0].DepositApproval(t.Context(), operator, &kms.DepositApprovalInput{Note: arn}); err != nil {
				t.Fatal(err)
			}
			var used, withdrawn error
			var both sync.WaitGroup
			both.Go(func() { used = nodes[0].DisableKey(t.Context(), kmstest.Admin(t), &kms.DisableKeyInput{KeyID: id}) })
			both.Go(func() {
				_, withdrawn = nodes[1].WithdrawApproval(t.Context(), operator, &kms.WithdrawApprovalInput{KeyARN: arn, ID: "the-approval"})
			})
			both.Wait()
			list, err := nodes[0].ListApprovals(t.Context(), operator, &kms.ListApprovalsInput{KeyARN: arn})
			if err != nil || len(list.Approvals) != 1 {
				t.Fatalf("%+v, %v", list, err)
			}
			a := list.Approvals[0]
			if (used == nil) == (withdrawn == nil) || (used == nil) == a.Spent.IsZero() || (withdrawn == nil) == a.Withdrawn.IsZero() {
				t.Errorf("used: %v; withdrawn: %v; stored: %+v", used, withdrawn, a)
			}
			if used == nil {
				ended[0]++
			} else {
				ended[1]++
			}
		}
		t.Logf("used %d times, withdrawn %d times", ended[0], ended[1])
	})
}
