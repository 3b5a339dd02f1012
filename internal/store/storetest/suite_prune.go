package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/store"
)

// toolNode is the log of the command line beside Node's.
const toolNode = Node + "-cli"

// pruner is a node whose log is pruned, and the command line that does it.
type pruner struct {
	t          *testing.T
	url        string
	keys       [2]*audit.Signer
	node, tool *store.Store
}

func newPruner(t *testing.T, url string) *pruner {
	t.Helper()
	p := &pruner{t: t, url: url, keys: [2]*audit.Signer{Signer(t, Node), Signer(t, toolNode)}}
	p.node = Open(t, url, WithSigner(p.keys[0]))
	p.tool = Open(t, url, OnNode(toolNode), WithSigner(p.keys[1]))
	return p
}

// write appends so many entries to the node's log, three a commit.
func (p *pruner) write(n int) {
	p.t.Helper()
	for ; n > 0; n -= 3 {
		if err := p.node.Append(p.t.Context(), Entry(p.t, "a"), Entry(p.t, "b"), Entry(p.t, "c")); err != nil {
			p.t.Fatal(err)
		}
	}
}

// plan is a pruning of the node's log up to about an entry, by its tiles.
func (p *pruner) plan(upTo int64) audit.Pruning {
	p.t.Helper()
	const origin = "cardea/" + Node
	from, to, err := p.node.PruneLimit(p.t.Context(), origin, upTo)
	if err != nil {
		p.t.Fatal(err)
	}
	tree := audit.NewTree()
	for hashes, err := range audit.TileLeaves(p.t.Context(), p.node, origin, to) {
		if err != nil {
			p.t.Fatal(err)
		}
		for _, h := range hashes {
			if err := tree.Append(h); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return audit.Pruning{Origin: origin, From: from, To: to, Root: tree.Root(), Archive: strings.Repeat("ab", 32), Last: at, Time: at}
}

// prune has s, whose key signs, prune.
func (p *pruner) prune(s *store.Store, key *audit.Signer, plan audit.Pruning) error {
	p.t.Helper()
	note, err := key.SignPruning(plan)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := s.RecordPruning(p.t.Context(), plan, note, p.entry(key, plan)); err != nil {
		return err
	}
	return s.FinishPruning(p.t.Context(), plan.Origin)
}

// entry is the entry of a pruning, in the log of key.
func (p *pruner) entry(key *audit.Signer, plan audit.Pruning) audit.Sealed {
	p.t.Helper()
	e := audit.Entry{
		Version: audit.EntryVersion, ID: "019a9b3c-5d2e-7000-8a4b-000000000001", Time: plan.Time, Node: strings.TrimPrefix(key.Origin(), "cardea/"),
		Who: audit.Actor{Type: "operator", Name: "root", Auth: "internal"}, Op: audit.OpLogPrune, Outcome: audit.Allowed, Result: "pruned",
		Resource: audit.Resource{Kind: "log", Reference: plan.Origin}, Detail: plan.Detail(),
	}
	return must[audit.Sealed](p.t)(e.Seal())
}

func (p *pruner) verify() audit.LogReport {
	p.t.Helper()
	return Verify(p.t, p.tool, p.keys[0].Verifier(), p.keys[1].Verifier()).Logs[0]
}

// first is the first entry of the node's log that is stored.
func (p *pruner) first() int64 {
	p.t.Helper()
	return must[audit.Absent](p.t)(audit.AbsentOf(p.t.Context(), p.tool, "cardea/"+Node)).Before
}

func testPrune(t *testing.T, url string) {
	p := newPruner(t, url)
	p.write(900) // 300 segments: more than are removed at a time
	plan := p.plan(10_000)
	if plan.From != 0 || plan.To != 768 {
		t.Fatalf("plan %+v, want 0 to 768: the last segment of full tiles", plan)
	}
	if err := p.prune(p.tool, p.keys[1], plan); err != nil {
		t.Fatal(err)
	}
	p.write(30) // the node goes on
	awaitSigned(t, p.node, p.keys[0])
	l := p.verify()
	if p.first() != plan.To || l.Pruned != plan.To || l.Entries != 930 || l.PrunedInto != plan.Archive {
		t.Errorf("the log begins at %d: %+v", p.first(), l)
	}
	for g, err := range p.tool.Segments(t.Context(), plan.Origin, 5) { // of what is not there
		if err != nil || g.First != plan.To {
			t.Errorf("segment %d, %v", g.First, err)
		}
		break
	}
	for range 2 { // it is restored, and pruned again by itself
		if err := p.node.Close(); err != nil {
			t.Fatal(err)
		}
		p.node = Open(t, url, WithSigner(p.keys[0]))
		p.write(300)
		plan := p.plan(10_000)
		if err := p.prune(p.node, p.keys[0], plan); err != nil {
			t.Fatal(err)
		}
		awaitSigned(t, p.node, p.keys[0])
		if l := p.verify(); p.first() != plan.To || l.Pruned != plan.To {
			t.Errorf("the log begins at %d: %+v", p.first(), l)
		}
	}
	var last int64
	for note, err := range p.tool.Prunings(t.Context(), plan.Origin) {
		r, oerr := audit.OpenPruning(note, p.keys[0].Verifier(), p.keys[1].Verifier())
		if err := errors.Join(err, oerr); err != nil || r.From != last {
			t.Errorf("record %+v after %d: %v", r, last, err)
		}
		last = r.To
	}
}

// testPruneAll prunes a log of which nothing is left.
func testPruneAll(t *testing.T, url string) {
	p := newPruner(t, url)
	for range 2 {
		var batch []audit.Sealed
		for range 256 {
			batch = append(batch, Entry(t, "entry"))
		}
		if err := p.node.Append(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	plan := p.plan(512)
	if err := errors.Join(p.prune(p.tool, p.keys[1], plan), p.node.Close()); err != nil || plan.To != 256 {
		t.Fatalf("%+v, %v", plan, err)
	}
	p.node = Open(t, url, WithSigner(p.keys[0])) // with no entry after the last full tile
	p.write(3)
	awaitSigned(t, p.node, p.keys[0])
	if l := p.verify(); l.Pruned != 256 || l.Entries != 515 {
		t.Errorf("%+v", l)
	}
}

func testPruneRefused(t *testing.T, url string) {
	p := newPruner(t, url)
	p.write(900)
	good := p.plan(600)
	for name, c := range map[string]func(*audit.Pruning){
		"not where a segment ends": func(p *audit.Pruning) { p.To++ },
		"beyond full tiles":        func(p *audit.Pruning) { p.To = 771 },
		"not from the beginning":   func(p *audit.Pruning) { p.From = 3 },
		"of no log":                func(p *audit.Pruning) { p.Origin = "cardea/nobody" },
	} {
		plan := good
		c(&plan)
		if err := p.prune(p.tool, p.keys[1], plan); !errors.Is(err, store.ErrNotPrunable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	size := entries(t, p.tool)
	reader := Open(t, url, OnNode("reader"), ReadOnly)
	if err := p.prune(reader, p.keys[1], good); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
	if l := p.verify(); p.first() != 0 || l.Pruned != 0 || entries(t, p.tool) != size {
		t.Errorf("something was pruned: %+v", l)
	}
	if err := p.prune(p.tool, p.keys[1], good); err != nil {
		t.Fatal(err)
	}
	if err := p.prune(p.tool, p.keys[1], good); !errors.Is(err, store.ErrNotPrunable) {
		t.Errorf("twice: %v", err)
	}
	if from, to, err := p.tool.PruneLimit(t.Context(), good.Origin, 600); err != nil || from != good.To || to != good.To {
		t.Errorf("what there is to prune afterwards: %d to %d, %v", from, to, err)
	}
}

// testPruneInterrupted: the record is durable, some of the entries are still there.
func testPruneInterrupted(t *testing.T, url string) {
	p := newPruner(t, url)
	p.write(900)
	Exec(t, url, "CREATE TABLE saved AS SELECT * FROM audit_segment")
	plan := p.plan(10_000)
	if err := p.prune(p.tool, p.keys[1], plan); err != nil {
		t.Fatal(err)
	}
	Exec(t, url, "INSERT INTO audit_segment SELECT * FROM saved WHERE first >= 30 AND first < $1 AND log_id = (SELECT id FROM audit_log WHERE origin = $2)", plan.To, plan.Origin)
	if l := p.verify(); p.first() != 30 || l.Pruned != 30 {
		t.Errorf("begins at %d: %+v", p.first(), l)
	}
	Exec(t, url, "UPDATE audit_pruning SET number = number + 1000")
	if err := p.node.FinishPruning(t.Context(), plan.Origin); err == nil || !strings.Contains(err.Error(), "the log that records the pruning is not signed that far") {
		t.Errorf("record that is not signed: %v", err)
	}
	Exec(t, url, "UPDATE audit_pruning SET number = number - 1000")
	if err := p.node.FinishPruning(t.Context(), plan.Origin); err != nil {
		t.Fatal(err)
	}
	if l := p.verify(); p.first() != plan.To || l.Pruned != plan.To {
		t.Errorf("begins at %d: %+v", p.first(), l)
	}
}

// testPruneKeepsRecords: the entry of the newest pruning of another log stays.
func testPruneKeepsRecords(t *testing.T, url string) {
	p := newPruner(t, url)
	p.write(300)
	p.write(600)
	other := p.plan(256)
	other.Origin = "cardea/" + Node
	if err := p.prune(p.tool, p.keys[1], other); err != nil {
		t.Fatal(err)
	}
	record := must[audit.Head](t)(p.tool.Head(t.Context(), "cardea/"+toolNode)).Size - 1
	for range 400 {
		if err := p.tool.Append(t.Context(), EntryOf(t, toolNode, "entry")); err != nil {
			t.Fatal(err)
		}
	}
	if _, to, err := p.tool.PruneLimit(t.Context(), "cardea/"+toolNode, 10_000); err != nil || to != record {
		t.Errorf("the recorder's log may be pruned before %d, %v; its entry %d must stay", to, err, record)
	}
	if err := p.prune(p.tool, p.keys[1], p.plan(600)); err != nil {
		t.Fatal(err)
	}
	if _, to, err := p.tool.PruneLimit(t.Context(), "cardea/"+toolNode, 10_000); err != nil || to != 256 {
		t.Errorf("with a newer record the log may be pruned before %d, %v, want 256", to, err)
	}
}
