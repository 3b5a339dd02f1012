package lifecycle

import (
	"bytes"
	"errors"
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
		"schedule passed":        {func(k *Key) { k.NextRotation = ago(3) }, nil, "its rotation of 2026-10-29 was not done: ask AWS support, and rotate it by 'cardea keys rotate --key-id k1'"},
		"schedule just passed":   {func(k *Key) { k.NextRotation = ago(1) }, nil, ""},
		"period not told":        {func(k *Key) { k.Period = 0 }, nil, ""},
		"not told and not done":  {func(k *Key) { k.Period, k.Rotations = 0, nil }, nil, "no rotation since 2026-07-24"},
		"no material":            {func(k *Key) { k.Rotates, k.State = false, types.KeyStatePendingImport }, []string{"rotation: 90d", "origin: EXTERNAL"}, "it has no material, or what it had expired: import it by 'cardea ceremony import'"},
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

func TestStatusTellsRecordsAndWhatMayNotBeRead(t *testing.T) {
	t.Parallel()
	p, err := ParsePolicy([]byte(one))
	if err != nil {
		t.Fatal(err)
	}
	k, old := good(t, p.Keys["rds-prod"]), good(t, p.Keys["rds-prod"])
	old.ID, old.ARN, old.ReplacedBy, old.State = "k0", "arn:aws:kms:us-east-1:111122223333:key/k0", "k1", types.KeyStateDisabled
	s := p.Status(&Inventory{Keys: []*Key{k, old}, Unread: []string{"k9"}}, at)
	if s.Findings != 1 || len(s.Unread) != 1 {
		t.Errorf("%+v", s)
	}
	s.AddRecords(map[string]int64{k.ARN: 5, "k0": 2})
	if *s.Keys[0].Records != 5 || *s.Keys[1].Records != 2 || s.Findings != 2 || !strings.Contains(strings.Join(s.Keys[1].Findings, ""), "it was replaced, and 2 records are still under it: 'cardea keys rotate --key-id k0' goes on") {
		t.Errorf("%+v", s)
	}
	var b bytes.Buffer
	if err := s.HTML(&b); err != nil || !strings.Contains(b.String(), "their tags may not be read: <code>k9</code>") || !strings.Contains(b.String(), `<td class="n">5</td>`) {
		t.Errorf("%s, %v", b.String(), err)
	}
}

func TestPlanDoesNotMakeAKeyThatMayBeThere(t *testing.T) {
	t.Parallel()
	p, err := ParsePolicy([]byte(one))
	if err != nil {
		t.Fatal(err)
	}
	_, conflicts, err := p.Plan(&Inventory{Unread: []string{"k8", "k9"}})
	if err != nil || len(conflicts) != 1 || conflicts[0] != "keys.rds-prod: no key was found, but one of those that may not be read could be it: k8, k9: run this as somebody who may list their tags" {
		t.Errorf("%v, %v", conflicts, err)
	}
	k := good(t, p.Keys["rds-prod"])
	inv := &Inventory{Keys: []*Key{k}, Aliases: map[string]string{k.Aliases[0]: k.ID}, Unread: []string{"k9"}}
	if steps, conflicts, err := p.Plan(inv); err != nil || len(steps)+len(conflicts) != 0 { // the key that is meant is there
		t.Errorf("%v, %v, %v", steps, conflicts, err)
	}
	drift, err := p.Drift(inv, nil)
	if err != nil || len(drift) != 1 || drift[0].Key != "k9" || drift[0].What != "key" || drift[0].Want != "readable" {
		t.Errorf("%v, %v", drift, err)
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
		"period untold":   {func(k *Key) { k.Period = 0 }, "baseline rotation"},
		"alias gone":      {func(k *Key) { k.Aliases = nil }, "file aliases, baseline aliases"},
		"tag changed":     {func(k *Key) { k.Tags["Environment"] = "test" }, "file tags, baseline tags"},
		"rotated":         {func(k *Key) { k.Material = "m2" }, ""}, // by itself, as it is to
		"imported anew":   {func(k *Key) { k.Rotates, k.Material = false, "m2" }, "file rotation, baseline material, baseline rotation"},
		"to be destroyed": {func(k *Key) { k.State = types.KeyStatePendingDeletion }, "file key, baseline state"},
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

func TestKeyOfAnExternalStoreNeedsItsManager(t *testing.T) {
	t.Parallel()
	k := &Key{ARN: "arn:aws:kms:us-east-1:111122223333:key/k1", State: types.KeyStateEnabled, Spec: "SYMMETRIC_DEFAULT", Store: "cks-1", Origin: "EXTERNAL_KEY_STORE"}
	r := &Rotator{Now: func() time.Time { return at }}
	if _, err := r.begin(t.Context(), k); !errors.Is(err, ErrNoMaterial) || !strings.Contains(err.Error(), "is in an external key store: have its manager make a new key, and name that by --xks-key-id") {
		t.Errorf("got %v", err)
	}
}
