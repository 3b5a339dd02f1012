package kms

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"cardea/internal/iam"
)

// Limits of tags. Lengths are in characters.
const (
	maxTags     = 50 // a key
	maxTagKey   = 128
	maxTagValue = 256
)

func (in *TagResourceInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	if v.required("tags", in.Tags != nil) {
		v.tags(in.Tags)
	}
}

func (in *UntagResourceInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	if v.required("tagKeys", in.TagKeys != nil) {
		for i, k := range in.TagKeys {
			v.chars("tagKeys."+strconv.Itoa(i+1)+".member", k, 1, maxTagKey)
		}
	}
}

func (in *ListResourceTagsInput) check(v *violations) {
	v.keyID("keyId", in.KeyID)
	v.page(in.Limit, in.Marker)
}

// tags checks the lengths of keys and values.
func (v *violations) tags(ts []Tag) {
	for i, t := range ts {
		member := "tags." + strconv.Itoa(i+1) + ".member."
		v.chars(member+"tagKey", t.TagKey, 1, maxTagKey)
		v.chars(member+"tagValue", t.TagValue, 0, maxTagValue)
	}
}

// TagResource adds tags to a key and gives tags that it has new values.
func (s *Service) TagResource(ctx context.Context, who Caller, in *TagResourceInput) error {
	return s.do(ctx, who, OpTagResource, in, func(c *call) error {
		c.param("keyId", in.KeyID)
		c.tagParams(in.Tags)
		if err := vetTags(in.Tags); err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{add: func(q *iam.Context) { addTags(q, in.Tags) }})
		if err != nil {
			return err
		}
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
			k.Tags = mergeTags(k.Tags, in.Tags)
			if len(k.Tags) > maxTags {
				return refuse(CodeTag, "Too many tags")
			}
			return nil
		})
	})
}

// UntagResource takes tags off a key; one that it does not have is no error.
func (s *Service) UntagResource(ctx context.Context, who Caller, in *UntagResourceInput) error {
	return s.do(ctx, who, OpUntagResource, in, func(c *call) error {
		c.param("keyId", in.KeyID)
		if len(in.TagKeys) > maxTags { // no key has more
			return refuse(CodeTag, "Too many tags")
		}
		for _, k := range in.TagKeys {
			c.param("tagKeys", k)
		}
		k, err := c.key(ctx, in.KeyID, ask{add: func(q *iam.Context) {
			for _, k := range in.TagKeys {
				q.Add("aws:TagKeys", iam.String(k))
			}
		}})
		if err != nil {
			return err
		}
		if d := &s.dual; d.Tag != "" && d.covers(k.Key) && slices.Contains(in.TagKeys, d.Tag) {
			if err := c.approveAs(k, approvalEndControl, nil); err != nil {
				return err
			}
		}
		return c.updateKey(ctx, k, func(_ context.Context, _ Tx, k *Key) error {
			k.Tags = slices.DeleteFunc(k.Tags, func(t Tag) bool { return slices.Contains(in.TagKeys, t.TagKey) })
			return nil
		})
	})
}

// ListResourceTags lists the tags of a key in the order of their keys.
func (s *Service) ListResourceTags(ctx context.Context, who Caller, in *ListResourceTagsInput) (*ListResourceTagsOutput, error) {
	return perform(ctx, s, who, OpListResourceTags, in, func(c *call, out *ListResourceTagsOutput) error {
		c.param("keyId", in.KeyID)
		after, err := openMarker(markTag, in.Marker)
		if err != nil {
			return err
		}
		k, err := c.key(ctx, in.KeyID, ask{})
		if err != nil {
			return err
		}
		var rest []Tag
		for _, t := range k.Tags {
			if t.TagKey > after {
				rest = append(rest, t)
			}
		}
		out.Tags, out.NextMarker, out.Truncated = cutPage(markTag, rest, pageSize(in.Limit, maxTags, maxTags), func(t Tag) string { return t.TagKey })
		return nil
	})
}

// vetTags refuses what no key can be tagged with.
func vetTags(ts []Tag) error {
	if len(ts) > maxTags {
		return refuse(CodeTag, "Too many tags")
	}
	seen := map[string]bool{}
	for _, t := range ts {
		if seen[t.TagKey] {
			return refuse(CodeTag, "Duplicate tag keys")
		}
		seen[t.TagKey] = true
		if len(t.TagKey) >= 4 && strings.EqualFold(t.TagKey[:4], "aws:") {
			return refuse(CodeTag, "aws: prefixed tag key names are not allowed for external use.")
		}
	}
	return nil
}

// mergeTags is old with the tags of added, in the order of their keys.
func mergeTags(old, added []Tag) []Tag {
	merged := slices.Clone(added)
	for _, t := range old {
		if !slices.ContainsFunc(added, func(n Tag) bool { return n.TagKey == t.TagKey }) {
			merged = append(merged, t)
		}
	}
	slices.SortFunc(merged, func(a, b Tag) int { return strings.Compare(a.TagKey, b.TagKey) })
	return merged
}

// addTags puts the tags of a request into the condition keys.
func addTags(q *iam.Context, ts []Tag) {
	for _, t := range ts {
		q.Add("aws:RequestTag/"+t.TagKey, iam.String(t.TagValue))
		q.Add("aws:TagKeys", iam.String(t.TagKey))
	}
}

// tagParams puts tags into the entry.
func (c *call) tagParams(ts []Tag) {
	for _, t := range ts {
		c.more.Request = append(c.more.Request, paramOf("tags."+t.TagKey, t.TagValue))
	}
}
