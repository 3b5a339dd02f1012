package lifecycle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"golang.org/x/mod/sumdb/note"

	"cardea/internal/notekey"
)

const (
	baselineHeader = "cardea key baseline v1"
	maxBaseline    = 8 << 20 // bytes
)

// Baseline is how keys were when somebody looked at them and signed it: what a
// change is measured by (PCI DSS 11.5.2).
type Baseline struct {
	At   time.Time       `json:"at"`
	Keys []BaselineEntry `json:"keys"` // sorted by ARN
}

// BaselineEntry is what of a key must not change unnoticed.
type BaselineEntry struct {
	ARN      string            `json:"arn"`
	Class    string            `json:"class"`
	State    string            `json:"state"`
	Material string            `json:"material,omitempty"` // where KMS does not rotate by itself
	Policy   string            `json:"policy"`
	Aliases  []string          `json:"aliases"`
	Tags     map[string]string `json:"tags"`
	Rotation string            `json:"rotation"`
}

// ErrBaseline says that a text is no signed baseline of who is trusted.
var ErrBaseline = errors.New("not a baseline that is signed by the key given")

func entry(k *Key) BaselineEntry {
	e := BaselineEntry{
		ARN: k.ARN, Class: k.Class, State: string(k.State), Policy: string(k.Policy), Aliases: append([]string{}, k.Aliases...),
		Tags: k.Tags, Rotation: rotationText(k.Rotates, k.Period),
	}
	if !k.Rotates {
		e.Material = k.Material
	}
	return e
}

// Baseline is how the keys are now.
func (inv *Inventory) Baseline(now time.Time) *Baseline {
	b := &Baseline{At: now.UTC().Truncate(time.Second), Keys: []BaselineEntry{}}
	for _, k := range inv.Keys {
		b.Keys = append(b.Keys, entry(k))
	}
	slices.SortFunc(b.Keys, func(x, y BaselineEntry) int { return strings.Compare(x.ARN, y.ARN) })
	return b
}

// Sign makes a signed note of it: the header, and one line of JSON.
func (b *Baseline) Sign(s note.Signer) ([]byte, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	return note.Sign(&note.Note{Text: baselineHeader + "\n" + string(text) + "\n"}, s)
}

// OpenBaseline verifies and reads one. Errors wrap ErrBaseline.
func OpenBaseline(signed []byte, by note.Verifiers) (*Baseline, string, error) {
	if len(signed) > maxBaseline {
		return nil, "", fmt.Errorf("%w: longer than %d bytes", ErrBaseline, maxBaseline)
	}
	n, err := notekey.Open(signed, by)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrBaseline, err)
	}
	line, ok := strings.CutPrefix(n.Text, baselineHeader+"\n")
	b := &Baseline{}
	if !ok || !strings.HasSuffix(line, "\n") {
		return nil, "", fmt.Errorf("%w: its first line is not %q", ErrBaseline, baselineHeader)
	}
	if err := jsonv2.Unmarshal([]byte(line), b, jsonv2.RejectUnknownMembers(true)); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrBaseline, err)
	}
	return b, n.Sigs[0].Name, nil
}

// Drift is a thing that is not as it should be.
type Drift struct {
	Against string `json:"against"` // file or baseline
	Class   string `json:"class"`
	Key     string `json:"key,omitempty"`
	What    string `json:"what"` // policy, aliases, tags, rotation, state, material, key
	Want    string `json:"want"`
	Is      string `json:"is"`
}

// Drift compares what there is with the policy file and, if it is not nil, with a
// baseline. Tags and aliases that the file does not have are drift, too: by an alias
// too many a key serves what it should not.
func (p *Policy) Drift(inv *Inventory, b *Baseline) ([]Drift, error) {
	out := []Drift{}
	for _, name := range slices.Sorted(maps.Keys(p.Keys)) {
		c := p.Keys[name]
		k, err := inv.Of(name)
		switch {
		case err != nil:
			out = append(out, Drift{Against: "file", Class: name, What: "key", Want: "one", Is: err.Error()})
			continue
		case k == nil:
			out = append(out, Drift{Against: "file", Class: name, What: "key", Want: "one", Is: "none"})
			continue
		}
		policy, err := c.KeyPolicy()
		if err != nil {
			return nil, err
		}
		want := BaselineEntry{
			ARN: k.ARN, State: "Enabled", Policy: string(policy), Aliases: slices.Sorted(slices.Values(c.Aliases)), Tags: c.tags(), Rotation: rotationText(c.Rotation != 0, c.Rotation),
		}
		is := entry(k)
		is.Material = ""
		if c.Rotation != 0 && k.rotatesEvery(c.Rotation) {
			want.Rotation = is.Rotation
		}
		is.Tags = maps.Clone(is.Tags)
		delete(is.Tags, tagReplaces)
		out = append(out, difference("file", name, want, is)...)
	}
	for _, k := range inv.Keys {
		if p.Keys[k.Class] == nil && k.Live() {
			out = append(out, Drift{Against: "file", Class: k.Class, Key: k.ARN, What: "key", Want: "none", Is: string(k.State)})
		}
	}
	for _, id := range inv.Unread {
		out = append(out, Drift{Against: "file", Key: id, What: "key", Want: "readable", Is: "its tags may not be read: it may be of the policy"})
	}
	if b == nil {
		return out, nil
	}
	now := map[string]BaselineEntry{}
	for _, k := range inv.Keys {
		now[k.ARN] = entry(k)
	}
	for _, was := range b.Keys {
		is, ok := now[was.ARN]
		if !ok {
			out = append(out, Drift{Against: "baseline", Class: was.Class, Key: was.ARN, What: "key", Want: was.State, Is: "none"})
			continue
		}
		delete(now, was.ARN)
		out = append(out, difference("baseline", was.Class, was, is)...)
	}
	for _, arn := range slices.Sorted(maps.Keys(now)) {
		out = append(out, Drift{Against: "baseline", Class: now[arn].Class, Key: arn, What: "key", Want: "none", Is: now[arn].State})
	}
	return out, nil
}

func difference(against, class string, want, is BaselineEntry) (out []Drift) {
	add := func(what, w, i string) {
		if w != i {
			out = append(out, Drift{Against: against, Class: class, Key: want.ARN, What: what, Want: w, Is: i})
		}
	}
	add("state", want.State, is.State)
	add("material", want.Material, is.Material)
	add("rotation", want.Rotation, is.Rotation)
	add("aliases", strings.Join(want.Aliases, ", "), strings.Join(is.Aliases, ", "))
	add("tags", tagText(want.Tags), tagText(is.Tags))
	if !bytes.Equal([]byte(want.Policy), []byte(is.Policy)) {
		add("policy", want.Policy, is.Policy)
	}
	return out
}

// tagText is tags as one text, unambiguously.
func tagText(tags map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		all = append(all, strconv.Quote(k)+"="+strconv.Quote(tags[k]))
	}
	return strings.Join(all, ", ")
}
