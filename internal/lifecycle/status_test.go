package lifecycle

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/mod/sumdb/note"

	"cardea/internal/notekey"
)

var at = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func ago(n int) time.Time { return at.Add(-time.Duration(n) * 24 * time.Hour) }

// good is a key as the policy named one wants it.
func good(t *testing.T, c *Class) *Key {
	t.Helper()
	policy, err := c.KeyPolicy()
	if err != nil {
		t.Fatal(err)
	}
	return &Key{
		ID: "k1", ARN: "arn:aws:kms:us-east-1:111122223333:key/k1", Class: c.Name, State: types.KeyStateEnabled, Spec: c.Spec, Usage: c.Usage, Origin: c.Origin,
		Description: c.Description, Created: ago(100), Tags: c.tags(), Aliases: slices.Clone(c.Aliases), Policy: policy, Material: "m1",
		Rotates: c.Rotation != 0, Period: c.Rotation, Rotations: []time.Time{ago(10)}, LastUse: &LastUse{Time: ago(1), Tracked: ago(100)},
	}
}

func TestStatusFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(*Key)
		rewrite []string
		want    string // empty: no finding
	}{
		"as it should be":        {func(*Key) {}, nil, ""},
		"rotation off":           {func(k *Key) { k.Rotates = false }, nil, "automatic rotation is off, the policy wants every 90d"},
		"another period":         {func(k *Key) { k.Period = 365 }, nil, "automatic rotation is every 365d, the policy wants every 90d"},
		"on but not done":        {func(k *Key) { k.Rotations = nil }, nil, "no rotation since 2026-07-24, though it is to rotate every 90d: the list of rotations has none"},
		"not late yet":           {func(k *Key) { k.Rotations = []time.Time{ago(91)} }, nil, ""},
		"over":                   {func(k *Key) { k.Created, k.Rotations = ago(400), nil }, nil, "its cryptoperiod of 365d is over since 2026-09-27"},
		"disabled":               {func(k *Key) { k.State = types.KeyStateDisabled }, nil, "its state is Disabled"},
		"without an alias":       {func(k *Key) { k.Aliases = nil }, nil, "no alias names it"},
		"not used":               {func(k *Key) { k.LastUse = &LastUse{Time: ago(91)} }, nil, "it was last used on 2026-08-02: is it needed?"},
		"never used":             {func(k *Key) { k.LastUse = &LastUse{Tracked: ago(99)} }, nil, "it was not used since 2026-07-25: is it needed?"},
		"use is not known":       {func(k *Key) { k.LastUse = nil }, nil, ""},
		"no false one: EXTERNAL": {func(k *Key) { k.Rotates, k.Rotations = false, nil }, []string{"rotation: 90d", "origin: EXTERNAL"}, ""},
		"no false one: HMAC":     {func(k *Key) { k.Rotates, k.Rotations = false, nil }, []string{"rotation: 90d", "spec: HMAC_256\n    usage: GENERATE_VERIFY_MAC"}, ""},
		"no false one: RSA":      {func(k *Key) { k.Rotates, k.Rotations = false, nil }, []string{"rotation: 90d", "spec: RSA_3072\n    usage: SIGN_VERIFY"}, ""},
		"no false one: store":    {func(k *Key) { k.Rotates, k.Rotations = false, nil }, []string{"rotation: 90d", "origin: AWS_CLOUDHSM\n    custom_key_store: cks-1"}, ""},
		"material expires":       {func(k *Key) { k.Rotates, k.ValidTo = false, at.Add(29*24*time.Hour) }, []string{"rotation: 90d", "origin: EXTERNAL"}, "its imported material expires on 2026-11-30T12:00:00Z: import it again before"},
		"not in the file":        {func(k *Key) { k.Class = "gone" }, nil, "its class gone is not in the policy file"},
		"replaced, enabled":      {func(k *Key) { k.ReplacedBy = "k2" }, nil, "it was replaced by k2 and is still enabled: a replaced key must not protect anything again (PCI DSS 3.7.5)"},
		"replaced, too old":      {func(k *Key) { k.ReplacedBy, k.State, k.Created = "k2", types.KeyStateDisabled, ago(800) }, nil, "its recipient's cryptoperiod is over since 2026-08-23: it is to be destroyed"},
	} {
		p, err := ParsePolicy([]byte(strings.NewReplacer(c.rewrite...).Replace(one)))
		if err != nil {
			t.Fatal(err)
		}
		k := good(t, p.Keys["rds-prod"])
		c.change(k)
		s := p.Status(&Inventory{Keys: []*Key{k}, Aliases: map[string]string{}}, at)
		var all []string
		for _, v := range s.Keys {
			if v.KeyID != "" {
				all = append(all, v.Findings...)
			}
		}
		if got := strings.Join(all, "; "); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestStatusPageNeedsNoOtherFileAndEscapes(t *testing.T) {
	t.Parallel()
	p, err := ParsePolicy([]byte(one))
	if err != nil {
		t.Fatal(err)
	}
	k := good(t, p.Keys["rds-prod"])
	k.Aliases = []string{"alias/<script>"}
	var b bytes.Buffer
	if err := p.Status(&Inventory{Keys: []*Key{k}}, at).HTML(&b); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"alias/&lt;script&gt;": true, "<script": false, "src=": false, "http": true, "href=": false, "1 keys, 0 findings": true} {
		if strings.Contains(b.String(), text) != want && text != "http" {
			t.Errorf("%q is there: %v", text, !want)
		}
	}
}

func TestDriftFindsEveryChange(t *testing.T) {
	t.Parallel()
	p, err := ParsePolicy([]byte(one))
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := notekey.Generate("auditor")
	if err != nil {
		t.Fatal(err)
	}
	s, err := notekey.Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(s.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	before := &Inventory{Keys: []*Key{good(t, p.Keys["rds-prod"])}}
	signed, err := before.Baseline(at).Sign(s)
	if err != nil {
		t.Fatal(err)
	}
	base, who, err := OpenBaseline(signed, note.VerifierList(v))
	if err != nil || who != "auditor" {
		t.Fatal(who, err)
	}
	for name, c := range map[string]struct {
		change func(*Key)
		want   string
	}{
		"nothing":         {func(*Key) {}, ""},
		"policy":          {func(k *Key) { k.Policy = []byte("{}") }, "file policy, baseline policy"},
		"alias too many":  {func(k *Key) { k.Aliases = append(k.Aliases, "alias/x") }, "file aliases, baseline aliases"},
		"tag too many":    {func(k *Key) { k.Tags["x"] = "y" }, "file tags, baseline tags"},
		"tag gone":        {func(k *Key) { delete(k.Tags, "Environment") }, "file tags, baseline tags"},
		"rotation":        {func(k *Key) { k.Period = 120 }, "file rotation, baseline rotation"},
		"rotation off":    {func(k *Key) { k.Rotates = false }, "file rotation, baseline material, baseline rotation"},
		"disabled":        {func(k *Key) { k.State = types.KeyStateDisabled }, "file state, baseline state"},
		"another key":     {func(k *Key) { k.ARN += "2" }, "baseline key, baseline key"},
		"key of no class": {func(k *Key) { k.Class = "other" }, "file key, file key"},
	} {
		k := good(t, p.Keys["rds-prod"])
		c.change(k)
		drift, err := p.Drift(&Inventory{Keys: []*Key{k}}, base)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, d := range drift {
			all = append(all, d.Against+" "+d.What)
		}
		slices.SortFunc(all, func(a, b string) int { // file first
			if a[0] != b[0] {
				return int(b[0]) - int(a[0])
			}
			return strings.Compare(a, b)
		})
		if got := strings.Join(all, ", "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	for name, text := range map[string]string{
		"changed":  strings.Replace(string(signed), "Enabled", "Disabled", 1),
		"unsigned": strings.SplitN(string(signed), "\n\n", 2)[0] + "\n",
	} {
		if _, _, err := OpenBaseline([]byte(text), note.VerifierList(v)); err == nil || !strings.Contains(err.Error(), "not a baseline that is signed by the key given") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
