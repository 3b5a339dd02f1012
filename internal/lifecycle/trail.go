package lifecycle

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/cloudtrail"
	"cardea/internal/vault"
)

// Touched is what a key or person touched, as far as it is known.
type Touched struct {
	Since      time.Time       `json:"since,omitzero"` // the logs were read from then
	Until      time.Time       `json:"until,omitzero"`
	Sources    []string        `json:"sources,omitempty"` // logs that were read; none: who used it is not known
	Calls      int64           `json:"calls"`
	Failed     int64           `json:"failed"`
	Own        int64           `json:"own,omitempty"`        // calls of the run that asks, which are not in what follows, nor in Calls
	Problems   int64           `json:"unreadable,omitempty"` // parts of the logs that could not be read
	Principals []Use           `json:"principals"`
	Operations []Use           `json:"operations"`
	Tenants    []Use           `json:"tenants"`
	Keys       []Use           `json:"keys,omitempty"`       // that a person used
	VaultKeys  []vault.KeyInfo `json:"vault_keys,omitempty"` // data keys under the key
	Files      []string        `json:"files"`
}

// Use is the use by one principal, or by one operation, and so on.
type Use struct {
	Name   string    `json:"name"`
	Calls  int64     `json:"calls"`
	Failed int64     `json:"failed,omitempty"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
}

// KeyName is a key as logs name it.
type KeyName struct {
	ID      string
	Aliases []string // alias/…; records may have kept the alias that was asked for
}

// Of says whether an event names the key.
func (n KeyName) Of(e *cloudtrail.Event) bool {
	return slices.ContainsFunc(e.Keys, n.is)
}

func (n KeyName) is(key string) bool {
	if key == n.ID || strings.HasSuffix(key, "/"+n.ID) {
		return true
	}
	return slices.ContainsFunc(n.Aliases, func(a string) bool { return key == a || strings.HasSuffix(key, ":"+a) })
}

// InEntry says whether an entry of our own logs names the key: as what it is about, or
// in what people read of it.
func (n KeyName) InEntry(e *audit.Entry) bool {
	if n.is(e.Resource.Key) || strings.Contains(e.Detail, n.ID) {
		return true
	}
	v, ok := cloudtrail.EventOf(e)
	return ok && n.Of(&v)
}

// WriteTrail writes every entry of logs that a condition holds for: a line of JSON
// each, with its log and number. Entries that cannot be read are counted, and left to
// 'cardea audit verify'.
func WriteTrail(ctx context.Context, w io.Writer, src audit.Source, origins []string, is func(*audit.Entry) bool) (entries, problems int, err error) {
	out := bufio.NewWriter(w)
	for _, origin := range origins {
		name, err := json.Marshal(origin)
		if err != nil {
			return entries, problems, err
		}
		for n, err := range audit.Entries(ctx, src, origin, 0) {
			switch {
			case errors.Is(err, audit.ErrMalformedEntry), errors.Is(err, audit.ErrMalformedSegment):
				problems++
				continue
			case err != nil:
				return entries, problems, fmt.Errorf("entries of %s: %w", origin, err)
			case !is(&n.Entry):
				continue
			}
			entries++
			if _, err := fmt.Fprintf(out, `{"log":%s,"seq":%d,"entry":%s}`+"\n", name, n.Seq, n.Line); err != nil {
				return entries, problems, err
			}
		}
	}
	return entries, problems, out.Flush()
}
