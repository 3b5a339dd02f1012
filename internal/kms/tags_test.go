package kms_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
)

func tagsOf(t testing.TB, f *kmstest.Fixture, id string) []kms.Tag {
	t.Helper()
	out, err := f.ListResourceTags(t.Context(), kmstest.Admin(t), &kms.ListResourceTagsInput{KeyID: id})
	if err != nil {
		t.Fatal(err)
	}
	return out.Tags
}

func TestTagAndUntagResource(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	if got := tagsOf(t, f, k.ID); got == nil || len(got) > 0 {
		t.Errorf("without tags: %v", got)
	}
	tag := func(ts ...kms.Tag) {
		t.Helper()
		if err := f.TagResource(t.Context(), kmstest.Admin(t), &kms.TagResourceInput{KeyID: k.ID, Tags: ts}); err != nil {
			t.Fatal(err)
		}
	}
	tag(kms.Tag{TagKey: "team", TagValue: "pay"}, kms.Tag{TagKey: "env", TagValue: "prod"})
	tag(kms.Tag{TagKey: "env", TagValue: ""}, kms.Tag{TagKey: "Env", TagValue: "other"})
	want := []kms.Tag{{TagKey: "Env", TagValue: "other"}, {TagKey: "env"}, {TagKey: "team", TagValue: "pay"}}
	if got := tagsOf(t, f, k.ID); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := f.TagResource(t.Context(), kmstest.Admin(t), &kms.TagResourceInput{KeyID: k.ID, Tags: []kms.Tag{}}); err != nil {
		t.Errorf("no tags: %v", err)
	}
	if err := f.UntagResource(t.Context(), kmstest.Admin(t), &kms.UntagResourceInput{KeyID: k.ID, TagKeys: []string{"env", "unknown"}}); err == nil {
		e := f.Last(t)
		wantParams(t, &e, map[string]string{"keyId": k.ID, "tagKeys": "env|unknown"})
	} else {
		t.Fatal(err)
	}
	if got := tagsOf(t, f, k.ID); !slices.Equal(got, slices.Delete(want, 1, 2)) {
		t.Errorf("after untagging: %v", got)
	}
}

func TestListResourceTagsPages(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	var want []kms.Tag
	for i := range 50 {
		want = append(want, kms.Tag{TagKey: fmt.Sprintf("key %02d", i), TagValue: "é"})
	}
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Tags = want })
	var got []kms.Tag
	in := &kms.ListResourceTagsInput{KeyID: k.ARN(), Limit: i32(7)}
	for more := true; more; {
		out, err := f.ListResourceTags(t.Context(), kmstest.Admin(t), in)
		if err != nil {
			t.Fatal(err)
		}
		got, in.Marker, more = append(got, out.Tags...), out.NextMarker, out.Truncated
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	err := f.TagResource(t.Context(), kmstest.Admin(t), &kms.TagResourceInput{KeyID: k.ID, Tags: []kms.Tag{{TagKey: "one more"}}})
	kmstest.Refused(t, err, kms.CodeTag, "Too many tags")
	if err := f.TagResource(t.Context(), kmstest.Admin(t), &kms.TagResourceInput{KeyID: k.ID, Tags: []kms.Tag{{TagKey: "key 00", TagValue: "new"}}}); err != nil {
		t.Errorf("a new value for the first of 50: %v", err)
	}
}

func TestTagsRefused(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	for _, c := range []struct {
		tags    []kms.Tag
		code    kms.Code
		message string
	}{
		{nil, kms.CodeValidation, "1 validation error detected: Value null at 'tags' failed to satisfy constraint: Member must not be null"},
		{[]kms.Tag{{TagKey: "a"}, {TagKey: "b"}, {TagKey: "a", TagValue: "c"}}, kms.CodeTag, "Duplicate tag keys"},
		{[]kms.Tag{{TagKey: "aws:cloudformation:stack-name"}}, kms.CodeTag, "aws: prefixed tag key names are not allowed for external use."},
		{
			[]kms.Tag{{TagKey: "a"}, {TagKey: ""}},
			kms.CodeValidation,
			"1 validation error detected: Value at 'tags.2.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1",
		},
		{
			[]kms.Tag{{TagKey: strings.Repeat("x", 129)}},
			kms.CodeValidation,
			"1 validation error detected: Value '" + strings.Repeat("x", 128) + "…' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128",
		},
		{
			[]kms.Tag{{TagKey: "a", TagValue: strings.Repeat("x", 257)}},
			kms.CodeValidation,
			"1 validation error detected: Value '" + strings.Repeat("x", 128) + "…' at 'tags.1.member.tagValue' failed to satisfy constraint: Member must have length less than or equal to 256",
		},
	} {
		err := f.TagResource(t.Context(), kmstest.Admin(t), &kms.TagResourceInput{KeyID: k.ID, Tags: c.tags})
		kmstest.Refused(t, err, c.code, c.message)
	}
	if err := f.TagResource(t.Context(), kmstest.Admin(t), &kms.TagResourceInput{
		KeyID: k.ID, Tags: []kms.Tag{{TagKey: strings.Repeat("ü", 128), TagValue: strings.Repeat("ü", 256)}},
	}); err != nil {
		t.Errorf("the longest tag: %v", err)
	}
	kmstest.Refused(t, f.UntagResource(t.Context(), kmstest.Admin(t), &kms.UntagResourceInput{KeyID: k.ID, TagKeys: slices.Repeat([]string{"a"}, 51)}), kms.CodeTag, "Too many tags")
	err := f.UntagResource(t.Context(), kmstest.Admin(t), &kms.UntagResourceInput{KeyID: k.ID})
	kmstest.Refused(t, err, kms.CodeValidation, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null")
}

func TestTaggingCanBeLimitedByTags(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) { k.Tags = []kms.Tag{{TagKey: "owner", TagValue: "pay"}} })
	other := f.Key(t, keyspec.SymmetricDefault)
	who := kmstest.As(kmstest.Subject(t, kmstest.Account, "dev", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:TagResource","kms:UntagResource"],`+
		`"Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/owner":"pay"},"ForAllValues:StringEquals":{"aws:TagKeys":["env"]}}}]}`))
	tag := func(id, key string) error {
		return f.TagResource(t.Context(), who, &kms.TagResourceInput{KeyID: id, Tags: []kms.Tag{{TagKey: key}}})
	}
	if err := tag(k.ID, "env"); err != nil {
		t.Error(err)
	}
	denied(t, f, tag(k.ID, "owner"), "kms:TagResource", noIdentityPolicy)
	denied(t, f, tag(other.ID, "env"), "kms:TagResource", noIdentityPolicy)
	if err := f.UntagResource(t.Context(), who, &kms.UntagResourceInput{KeyID: k.ID, TagKeys: []string{"env"}}); err != nil {
		t.Error(err)
	}
	denied(t, f, f.UntagResource(t.Context(), who, &kms.UntagResourceInput{KeyID: k.ID, TagKeys: []string{"owner"}}), "kms:UntagResource", noIdentityPolicy)
	_, err := f.ListResourceTags(t.Context(), who, &kms.ListResourceTagsInput{KeyID: k.ID})
	denied(t, f, err, "kms:ListResourceTags", noIdentityPolicy)
}

// TestOnlyTheFirstViolationsAreTold: what is told, and logged, does not grow with
// what is sent.
func TestOnlyTheFirstViolationsAreTold(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	err := f.TagResource(t.Context(), kmstest.User(t), &kms.TagResourceInput{KeyID: k.ID, Tags: make([]kms.Tag, 100_000)})
	e, is := errors.AsType[*kms.Error](err)
	if !is || e.Code != kms.CodeValidation || !strings.HasPrefix(e.Message, "100000 validation errors detected: Value at 'tags.1.member.tagKey'") {
		t.Fatalf("got %.200v", err)
	}
	if n := strings.Count(e.Message, "; "); n != 19 || strings.Count(e.Message, "'tags.20.member.tagKey'") != 1 {
		t.Errorf("%d more violations told in %d bytes", n, len(e.Message))
	}
}
