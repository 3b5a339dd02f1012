package detect

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cardea/internal/cloudtrail"
	"cardea/internal/disk"
)

// The file of a detector's memory: a line that names format and version, the
// SHA-256 of the rest, and gob under gzip. It is written by this program alone and
// trusted as its data folder is; the sum finds accidents, not forgers.
const stateHeader = "cardea detection state 1\n"

// maxState bounds a state file when it is read, in bytes after decompression.
const maxState = 4 << 30

// ErrState says that a state file cannot be used: delete it to begin anew, which
// costs the time of learning.
var ErrState = errors.New("detection state cannot be used")

type savedState struct {
	Rules          string // hash: thresholds may change under a baseline, so it is information only
	Newest, Closed int64
	Begun, Over    bool
	Stats          Stats
	State          state
	Open           []savedMinute
	Note           []byte
}

type savedMinute struct {
	N     int64
	Whos  []savedWho
	Pairs []savedPair
	Hits  []savedHit
	Logs  []savedLog
	Put   []cloudtrail.Event
}

type savedPrincipal struct {
	Name, Tenant, Account string
	Person, OnCall        bool
}

type savedWho struct {
	W                                      savedPrincipal
	All, Decrypts, Enum, Watched           tally
	Contexts, Merchants, EnumKeys, KeysSet distinct
	Admin                                  bool
	Fails                                  []savedFail
	Seen                                   []savedSeen
}

type savedFail struct {
	Class failure
	T     tally
}

type savedSeen struct {
	Prop  property
	Text  string
	First trace
}

type savedPair struct {
	W   savedPrincipal
	Key string
	Ops []savedOp
}

type savedOp struct {
	Op operation
	OK uint32
	T  tally
}

type savedHit struct {
	Rule   uint8
	W      savedPrincipal
	HasKey bool
	Key    string
	Detail string
	T      tally
	First  cloudtrail.Event
}

type savedLog struct {
	Account, Region, Source string
	T                       tally
}

// Snapshot writes all that the detector remembers, open windows too. A detector
// restored from it goes on as this one would.
func (d *Detector) Snapshot(w io.Writer) error {
	s := savedState{Rules: d.rules.hash, Newest: d.newest, Closed: d.closed, Begun: d.begun, Over: d.over, Stats: d.stats, State: d.state, Note: d.caller}
	for _, m := range d.open {
		s.Open = append(s.Open, saveMinute(m))
	}
	var body bytes.Buffer
	zip, err := gzip.NewWriterLevel(&body, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := errors.Join(gob.NewEncoder(zip).Encode(&s), zip.Close()); err != nil {
		return fmt.Errorf("encode detection state: %w", err)
	}
	sum := sha256.Sum256(body.Bytes())
	for _, part := range [][]byte{[]byte(stateHeader), sum[:], body.Bytes()} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func (w *who) saved() savedPrincipal {
	return savedPrincipal{Name: w.name, Tenant: w.tenant, Account: w.account, Person: w.person, OnCall: w.onCall}
}

func saveMinute(m *minute) savedMinute {
	out := savedMinute{N: m.n, Put: m.put}
	for w, x := range m.whos {
		s := savedWho{
			W: w.saved(), All: x.all, Decrypts: x.decrypts, Enum: x.enum, Watched: x.watched, Contexts: x.contexts, Merchants: x.merchants,
			EnumKeys: x.enumKeys, KeysSet: x.keys, Admin: x.admin,
		}
		for _, f := range x.fails {
			s.Fails = append(s.Fails, savedFail{f.class, f.tally})
		}
		for _, v := range x.seen {
			s.Seen = append(s.Seen, savedSeen{v.prop, v.value.text, v.first})
		}
		out.Whos = append(out.Whos, s)
	}
	for r, x := range m.pairs {
		s := savedPair{W: r.w.saved(), Key: r.k.name}
		for _, o := range x.ops {
			s.Ops = append(s.Ops, savedOp{o.Op, o.OK, o.tally})
		}
		out.Pairs = append(out.Pairs, s)
	}
	for r, h := range m.hits {
		out.Hits = append(out.Hits, savedHit{Rule: r.rule, W: r.w.saved(), HasKey: r.k != nil, Key: nameOf(r.k), Detail: r.detail, T: h.tally, First: h.first})
	}
	for r, t := range m.logs {
		out.Logs = append(out.Logs, savedLog{r.account, r.region, r.source, *t})
	}
	return out
}

// Restore makes a detector with the memory that Snapshot wrote. The error is an
// ErrState if the file is not one, or damaged.
func Restore(r io.Reader, o Options) (*Detector, error) {
	d, err := New(o)
	if err != nil {
		return nil, err
	}
	head := make([]byte, len(stateHeader)+sha256.Size)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(stateHeader)]) != stateHeader {
		return nil, fmt.Errorf("%w: it is not a state file of this version", ErrState)
	}
	body, err := io.ReadAll(io.LimitReader(r, maxState))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], head[len(stateHeader):]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", ErrState)
	}
	zip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	var s savedState
	if err := gob.NewDecoder(io.LimitReader(zip, maxState)).Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	d.newest, d.closed, d.begun, d.over, d.stats, d.caller = s.Newest, s.Closed, s.Begun, s.Over, s.Stats, s.Note
	d.state.take(&s.State)
	for i := range s.Open {
		d.open = append(d.open, d.restoreMinute(&s.Open[i]))
	}
	d.relist()
	return d, nil
}

// take keeps the maps that gob left out because they were empty.
func (s *state) take(from *state) {
	s.Began, s.PolicyOrder = from.Began, from.PolicyOrder
	s.Subjects, s.Keys, s.Pairs = orMap(from.Subjects), orMap(from.Keys), orMap(from.Pairs)
	s.Logs, s.Policies, s.Cool = orMap(from.Logs), orMap(from.Policies), orMap(from.Cool)
	for _, x := range s.Subjects {
		x.Meters = orMap(x.Meters)
	}
	for _, p := range s.Pairs {
		p.Ops = orMap(p.Ops)
	}
}

func orMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}

// relist finds what is active in the open hour.
func (d *Detector) relist() {
	list := func(m *meter) {
		if m.Five.T.N > 0 || m.Hour.T.N > 0 || m.Sum1 > 0 {
			m.listed = true
			d.active = append(d.active, m)
		}
	}
	for _, x := range d.state.Subjects {
		for _, m := range x.Meters {
			list(m)
		}
		if x.Strange.Hour.Served > 0 || x.Strange.Five.Served > 0 {
			x.Strange.listed = true
			d.meeting = append(d.meeting, x)
		}
	}
	for _, p := range d.state.Pairs {
		for _, m := range p.Ops {
			list(m)
		}
		if p.Last/60 == (d.closed+1)/60 && len(p.Ops) > 0 {
			p.listed = true
			d.activePairs = append(d.activePairs, p)
		}
	}
}

func (d *Detector) restoreWho(s *savedPrincipal) *who {
	w := d.names.who[s.Name]
	if w == nil {
		w = &who{name: s.Name, tenant: s.Tenant, account: s.Account, person: s.Person, onCall: s.OnCall}
		d.names.who[w.name] = w
	}
	return w
}

func (d *Detector) restoreMinute(s *savedMinute) *minute {
	m := d.pools.minute(s.N)
	m.put = s.Put
	for i := range s.Whos {
		v := &s.Whos[i]
		w := d.restoreWho(&v.W)
		x := &whoMinute{
			w: w, all: v.All, decrypts: v.Decrypts, enum: v.Enum, watched: v.Watched, contexts: v.Contexts, merchants: v.Merchants, enumKeys: v.EnumKeys,
			keys: v.KeysSet, admin: v.Admin,
		}
		for _, f := range v.Fails {
			x.fails = append(x.fails, failTally{f.Class, f.T})
		}
		for _, n := range v.Seen {
			if n.Prop < properties {
				x.seen = append(x.seen, seen{n.Prop, d.names.word(n.Prop, n.Text), n.First})
			}
		}
		m.whos[w] = x
	}
	for i := range s.Pairs {
		v := &s.Pairs[i]
		w := d.restoreWho(&v.W)
		k, _ := d.names.key(v.Key, d.rules.Engine.MaxKeys)
		x := &pairMinute{w: w, k: k}
		for _, o := range v.Ops {
			if o.Op < operations {
				x.ops = append(x.ops, opTally{o.Op, o.OK, o.T})
			}
		}
		m.pairs[pairRef{w, k}] = x
	}
	for i := range s.Hits {
		v := &s.Hits[i]
		if v.Rule >= ruleCount {
			continue
		}
		ref := hitRef{rule: v.Rule, w: d.restoreWho(&v.W), detail: v.Detail}
		if v.HasKey {
			ref.k, _ = d.names.key(v.Key, d.rules.Engine.MaxKeys)
		}
		m.hits[ref] = &hit{ref: ref, tally: v.T, first: v.First}
	}
	for _, l := range s.Logs {
		t := l.T
		m.logs[logRef{l.Account, l.Region, l.Source}] = &t
	}
	return m
}

// Save writes the memory to a file, which is the old one or the new one whenever
// the power fails.
func (d *Detector) Save(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return fmt.Errorf("save detection state: %w", err)
	}
	err = errors.Join(d.Snapshot(f), f.Chmod(0o600), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save detection state: %w", err), os.Remove(f.Name()))
	}
	return disk.SyncDir(filepath.Dir(path))
}

// Load restores the memory from a file, or makes a new detector if there is none.
func Load(path string, o Options) (*Detector, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return New(o)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	d, err := Restore(f, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}
