package kms_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func TestListKeysPages(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	var want []string
	for range 7 {
		want = append(want, createKey(t, f, kms.CreateKeyInput{}).KeyID)
	}
	slices.Sort(want)
	for _, limit := range []*int32{i32(1), i32(3), i32(6), i32(7), i32(1000), nil} {
		var got []string
		in := &kms.ListKeysInput{Limit: limit}
		for {
			out, err := f.ListKeys(t.Context(), kmstest.Admin(t), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range out.Keys {
				if k.KeyARN != "arn:aws:kms:eu-central-1:111122223333:key/"+k.KeyID {
					t.Errorf("got %+v", k)
				}
				got = append(got, k.KeyID)
			}
			if out.Truncated != (out.NextMarker != "") || out.Truncated && len(out.Keys) != int(*limit) {
				t.Errorf("page of %d keys, truncated %v, marker %q", len(out.Keys), out.Truncated, out.NextMarker)
			}
			if !out.Truncated {
				break
			}
			in.Marker = out.NextMarker
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	for _, who := range []kms.Caller{kmstest.Foreigner(t), kmstest.In(kmstest.Admin(t), kmstest.OtherRegion)} {
		if out, err := f.ListKeys(t.Context(), who, &kms.ListKeysInput{}); err != nil || len(out.Keys) > 0 || out.Keys == nil {
			t.Errorf("elsewhere: %v, %v", out, err)
		}
	}
	_, err := f.ListKeys(t.Context(), kmstest.User(t), &kms.ListKeysInput{})
	denied(t, f, err, "kms:ListKeys", noIdentityPolicy)
}

func TestListsRefuseMarkersAndLimits(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	f.Key(t, keyspec.SymmetricDefault)
	out, err := f.ListKeys(t.Context(), kmstest.Admin(t), &kms.ListKeysInput{Limit: i32(1)})
	if err != nil {
		t.Fatal(err)
	}
	keyMarker := out.NextMarker
	user := userARN(kmstest.Account, "app")
	lists := map[string]func(limit *int32, marker string) error{
		"ListKeys": func(l *int32, m string) error {
			_, err := f.ListKeys(t.Context(), kmstest.Admin(t), &kms.ListKeysInput{Limit: l, Marker: m})
			return err
		},
		"ListAliases": func(l *int32, m string) error {
			_, err := f.ListAliases(t.Context(), kmstest.Admin(t), &kms.ListAliasesInput{Limit: l, Marker: m})
			return err
		},
		"ListResourceTags": func(l *int32, m string) error {
			_, err := f.ListResourceTags(t.Context(), kmstest.Admin(t), &kms.ListResourceTagsInput{KeyID: k.ID, Limit: l, Marker: m})
			return err
		},
		"ListKeyPolicies": func(l *int32, m string) error {
			_, err := f.ListKeyPolicies(t.Context(), kmstest.Admin(t), &kms.ListKeyPoliciesInput{KeyID: k.ID, Limit: l, Marker: m})
			return err
		},
		"ListGrants": func(l *int32, m string) error {
			_, err := f.ListGrants(t.Context(), kmstest.Admin(t), &kms.ListGrantsInput{KeyID: k.ID, Limit: l, Marker: m})
			return err
		},
		"ListRetirableGrants": func(l *int32, m string) error {
			_, err := f.ListRetirableGrants(t.Context(), kmstest.Admin(t), &kms.ListRetirableGrantsInput{RetiringPrincipal: user, Limit: l, Marker: m})
			return err
		},
	}
	for name, list := range lists {
		for _, marker := range []string{"x", "!", "aw", keyMarker + "A", keyMarker + "\n", strings.ToUpper(keyMarker)} {
			kmstest.Refused(t, list(nil, marker), kms.CodeInvalidMarker, "The marker is not one of this list.")
		}
		if name != "ListKeys" {
			kmstest.Refused(t, list(nil, keyMarker), kms.CodeInvalidMarker, "The marker is not one of this list.")
		}
		kmstest.Refused(t, list(i32(0), ""), kms.CodeValidation,
			"1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1")
		kmstest.Refused(t, list(i32(1001), ""), kms.CodeValidation,
			"1 validation error detected: Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000")
		kmstest.Refused(t, list(nil, strings.Repeat("k", 1025)), kms.CodeValidation,
			"1 validation error detected: Value '"+strings.Repeat("k", 128)+"…' at 'marker' failed to satisfy constraint: Member must have length less than or equal to 1024")
		if err := list(i32(1000), ""); err != nil {
			t.Errorf("%s with the largest limit: %v", name, err)
		}
	}
}

func TestUpdateKeyDescription(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	for _, d := range []string{"branch keys", strings.Repeat("ü", 8192), ""} {
		if err := f.UpdateKeyDescription(t.Context(), kmstest.Admin(t), &kms.UpdateKeyDescriptionInput{KeyID: k.ID, Description: d}); err != nil {
			t.Fatal(err)
		}
		out, err := f.DescribeKey(t.Context(), kmstest.Admin(t), &kms.DescribeKeyInput{KeyID: k.ID})
		if err != nil || out.KeyMetadata.Description != d {
			t.Errorf("got %q, %v", out.KeyMetadata.Description, err)
		}
	}
	err := f.UpdateKeyDescription(t.Context(), kmstest.Admin(t), &kms.UpdateKeyDescriptionInput{KeyID: "alias/x", Description: "d"})
	kmstest.Refused(t, err, kms.CodeNotFound, "Invalid keyId 'alias/x'")
	err = f.UpdateKeyDescription(t.Context(), kmstest.User(t), &kms.UpdateKeyDescriptionInput{KeyID: k.ID, Description: "d"})
	denied(t, f, err, "kms:UpdateKeyDescription", noIdentityPolicy)
	err = f.UpdateKeyDescription(t.Context(), kmstest.Foreigner(t), &kms.UpdateKeyDescriptionInput{KeyID: k.ARN(), Description: "d"})
	denied(t, f, err, "kms:UpdateKeyDescription", "denied: the action cannot be used from another account")
}

// TestConcurrentUpdatesOfOneKeyAllSucceed on two nodes: each begins anew no more often
// than there are others.
func TestConcurrentUpdatesOfOneKeyAllSucceed(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	nodes := []*kms.Service{f.Service, node(t, f, "other")}
	const n = 20
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			err := nodes[i%2].TagResource(t.Context(), kmstest.Admin(t), &kms.TagResourceInput{KeyID: k.ID, Tags: []kms.Tag{{TagKey: fmt.Sprint("t", i)}}})
			if err != nil {
				t.Errorf("tag %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if tags := stored(t, f, k.KeyRef).Tags; len(tags) != n {
		t.Errorf("%d tags for %d requests: %v", len(tags), n, tags)
	}
	if got := len(f.Entries(t)); got != n {
		t.Errorf("%d entries for %d requests", got, n)
	}
}

// busyStore does something before transactions.
type busyStore struct {
	*kmstest.Store
	left   int
	meddle func(left int)
}

func (s *busyStore) Update(ctx context.Context, fn func(kms.Tx) error) error {
	if s.left > 0 {
		s.left--
		s.meddle(s.left)
	}
	return s.Store.Update(ctx, fn)
}

// TestChangedByOthersBeginsAnew has another node change the key between reading and
// writing, each time and for some times.
func TestChangedByOthersBeginsAnew(t *testing.T) {
	t.Parallel()
	for times, fails := range map[int]bool{1: false, 19: false, 20: true} {
		f := kmstest.New(t)
		k := f.Key(t, keyspec.SymmetricDefault)
		busy := &busyStore{Store: f.Store, left: times}
		busy.meddle = func(left int) {
			ok(t, f.UpdateKeyDescription(t.Context(), kmstest.Admin(t), &kms.UpdateKeyDescriptionInput{KeyID: k.ID, Description: fmt.Sprint(left)}))
		}
		s := must(kms.New(kms.Options{
			Node: "busy", Store: busy, Soft: f.Soft, Secrets: f.Soft, Now: f.Clock.Now,
			Regions: []string{kmstest.Region}, Accounts: func(context.Context, string) bool { return true },
		}))(t)
		err := s.DisableKey(t.Context(), kmstest.Admin(t), &kms.DisableKeyInput{KeyID: k.ID})
		want := kms.StateDisabled
		if fails {
			want = kms.StateEnabled
			kmstest.Refused(t, err, kms.CodeConflict, "Other requests keep changing the resource at the same time. Try again.")
		} else {
			ok(t, err)
		}
		if got := stored(t, f, k.KeyRef); got.State != want || got.Description != "0" {
			t.Errorf("after %d changes by others the key is %s, want %s", times, got.State, want)
		}
		if got := len(f.Entries(t)); got != times+1 {
			t.Errorf("%d entries for %d requests", got, times+1)
		}
	}
}
