package kms_test

import (
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

// Requests that change one key at the same time either succeed, and then what they
// changed is there, or say that they did not.
func TestConcurrentUpdatesOfOneKeyLoseNone(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	const n = 40
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			errs[i] = f.TagResource(t.Context(), kmstest.Admin(t), &kms.TagResourceInput{KeyID: k.ID, Tags: []kms.Tag{{TagKey: fmt.Sprint("t", i)}}})
		})
	}
	wg.Wait()
	done := 0
	tags := stored(t, f, k.KeyRef).Tags
	for i, err := range errs {
		there := slices.Contains(tags, kms.Tag{TagKey: fmt.Sprint("t", i)})
		if err == nil {
			done++
		} else {
			kmstest.Refused(t, err, kms.CodeConflict, "Other requests keep changing the resource at the same time. Try again.")
		}
		if there != (err == nil) {
			t.Errorf("tag %d is there: %v, though its request ended with %v", i, there, err)
		}
	}
	if done == 0 {
		t.Error("none succeeded")
	}
	if got := len(f.Entries(t)); got != n {
		t.Errorf("%d entries for %d requests", got, n)
	}
}
