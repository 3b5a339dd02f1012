package retention_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

// grown is a log with checkpoints at sizes of all shapes, and those.
func grown(t testing.TB, m *memLog, entries int) [][]byte {
	t.Helper()
	for n := 0; n < entries; {
		var batch []audit.Entry
		for range n%5 + 1 {
			batch = append(batch, entry("vault-1", n, noon.Add(time.Duration(n)*time.Minute)))
			n++
		}
		m.commit(t, vaultLog, noon, batch...)
	}
	return m.logs[vaultLog].checkpoints
}

func TestConsistencyOfAnyTwoCheckpointsIsProved(t *testing.T) {
	t.Parallel()
	m := newMemLog(t, vaultLog)
	all := grown(t, m, 70)
	for i, older := range all {
		for j := i; j < len(all); j++ {
			c, err := retention.ProveConsistency(t.Context(), m, older, all[j])
			if err != nil {
				t.Fatal(err)
			}
			back, err := retention.ParseConsistency(c.Encode())
			if err != nil || !retention.IsConsistency(c.Encode()) {
				t.Fatal(err)
			}
			from, to, err := back.Check(m.verifiers()...)
			if err != nil || from.Size > to.Size || from.Origin != vaultLog || i != j && from.Size == to.Size {
				t.Errorf("%d to %d: %+v to %+v, %v", i, j, from, to, err)
			}
		}
	}
	c, err := retention.ProveConsistency(t.Context(), m, all[0], nil)
	if err != nil || !bytes.Equal(c.Newer, all[len(all)-1]) {
		t.Errorf("to the newest: %v", err)
	}
}

// TestConsistencyFromNothing: a log that has no entries is the beginning of every log.
func TestConsistencyFromNothing(t *testing.T) {
	t.Parallel()
	m := newMemLog(t, vaultLog)
	all := grown(t, m, 10)
	sign := func(c audit.Checkpoint) []byte {
		signed, err := m.logs[vaultLog].signer.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	c, err := retention.ProveConsistency(t.Context(), m, sign(audit.Checkpoint{Root: audit.NewTree().Root()}), all[2])
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Check(m.verifiers()...); err != nil {
		t.Error(err)
	}
	if _, err := retention.ProveConsistency(t.Context(), m, sign(audit.Checkpoint{}), all[2]); !errors.Is(err, retention.ErrNotPrefix) {
		t.Errorf("nothing, with the root of something: %v", err)
	}
}

func TestConsistencyRefusesWhatItDoesNotProve(t *testing.T) {
	t.Parallel()
	m, other := newMemLog(t, vaultLog, "cardea/vault-2", "cardea/other"), newMemLog(t, vaultLog)
	all := grown(t, m, 70)
	m.commit(t, "cardea/vault-2", noon, entry("vault-2", 0, noon))
	// A log of the same name and size, signed by the same key, that says something else.
	other.logs[vaultLog].signer = m.logs[vaultLog].signer
	other.commit(t, vaultLog, noon, entry("vault-1", 1000, noon))
	grown(t, other, 70)
	forked := other.logs[vaultLog].checkpoints

	good, err := retention.ProveConsistency(t.Context(), m, all[3], all[15])
	if err != nil || len(good.Hashes) == 0 {
		t.Fatal(err)
	}
	if _, _, err := good.Check(m.verifiers()...); err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*retention.Consistency)) retention.Consistency {
		c := retention.Consistency{Older: bytes.Clone(good.Older), Newer: bytes.Clone(good.Newer)}
		c.Hashes = append(c.Hashes, good.Hashes...)
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		proof retention.Consistency
		is    error
		text  string
	}{
		"other older root": {changed(func(c *retention.Consistency) { c.Older = forked[4] }), retention.ErrNotPrefix, ""},
		"other newer root": {changed(func(c *retention.Consistency) { c.Newer = forked[16] }), retention.ErrNotPrefix, ""},
		"swapped": {
			changed(func(c *retention.Consistency) { c.Older, c.Newer = c.Newer, c.Older }),
			retention.ErrNotPrefix, "the older has",
		},
		"other origin": {
			changed(func(c *retention.Consistency) { c.Newer = m.logs["cardea/vault-2"].checkpoints[0] }),
			retention.ErrNotPrefix, "the older is of cardea/vault-1, the newer of cardea/vault-2",
		},
		"older of a stranger": {changed(func(c *retention.Consistency) { c.Older = hourly(t, 9).logs[vaultLog].checkpoints[0] }), audit.ErrUnknownKey, "older checkpoint: "},
		"newer of a stranger": {changed(func(c *retention.Consistency) { c.Newer = hourly(t, 900).logs[vaultLog].checkpoints[0] }), audit.ErrUnknownKey, "newer checkpoint: "},
		"changed checkpoint":  {changed(func(c *retention.Consistency) { c.Older[len(vaultLog)+1] ^= 1 }), audit.ErrBadSignature, "older checkpoint: "},
		"a hash changed":      {changed(func(c *retention.Consistency) { c.Hashes[1][0] ^= 1 }), retention.ErrNotPrefix, ""},
		"hashes exchanged":    {changed(func(c *retention.Consistency) { c.Hashes[0], c.Hashes[1] = c.Hashes[1], c.Hashes[0] }), retention.ErrNotPrefix, ""},
		"a hash missing":      {changed(func(c *retention.Consistency) { c.Hashes = c.Hashes[1:] }), retention.ErrNotPrefix, ""},
		"a hash too many":     {changed(func(c *retention.Consistency) { c.Hashes = append(c.Hashes, c.Hashes[0]) }), retention.ErrNotPrefix, ""},
		"a proof for others":  {changed(func(c *retention.Consistency) { c.Older = all[4] }), retention.ErrNotPrefix, ""},
	} {
		if _, _, err := c.proof.Check(m.verifiers()...); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %v %s", name, err, c.is, c.text)
		}
	}

	for name, c := range map[string]struct {
		older, newer []byte
		is           error
	}{
		"of a fork":     {forked[4], nil, retention.ErrNotPrefix},
		"to a fork":     {all[4], forked[10], retention.ErrNotPrefix},
		"swapped":       {all[5], all[4], retention.ErrNotPrefix},
		"other origins": {all[0], m.logs["cardea/vault-2"].checkpoints[0], retention.ErrNotPrefix},
		"no checkpoint": {[]byte("x"), nil, audit.ErrMalformedCheckpoint},
		"no newer":      {all[0], []byte("x"), audit.ErrMalformedCheckpoint},
		"an empty log":  {hourlyOf(t, "cardea/other"), nil, retention.ErrUnsigned},
	} {
		if _, err := retention.ProveConsistency(t.Context(), m, c.older, c.newer); !errors.Is(err, c.is) {
			t.Errorf("proof %s: got %v, want %v", name, err, c.is)
		}
	}
	m.logs[vaultLog].segments = m.logs[vaultLog].segments[:5]
	if _, err := retention.ProveConsistency(t.Context(), m, all[3], all[15]); !errors.Is(err, audit.ErrDamaged) {
		t.Errorf("of a log that is cut off: %v", err)
	}
}

// hourlyOf is a checkpoint of another log.
func hourlyOf(t testing.TB, origin string) []byte {
	t.Helper()
	m := newMemLog(t, origin)
	m.commit(t, origin, noon, entry(strings.TrimPrefix(origin, "cardea/"), 0, noon))
	return m.logs[origin].checkpoints[0]
}

func TestConsistencyFileHasOneForm(t *testing.T) {
	t.Parallel()
	m := newMemLog(t, vaultLog)
	all := grown(t, m, 30)
	c, err := retention.ProveConsistency(t.Context(), m, all[3], all[7])
	if err != nil {
		t.Fatal(err)
	}
	good := string(c.Encode())
	older := fmt.Sprintf("older %d\n", len(all[3]))
	for name, text := range map[string]string{
		"magic":          strings.Replace(good, "consistency 1", "consistency 2", 1),
		"nothing":        "cardea audit consistency 1\n",
		"no older":       good[:strings.Index(good, older)],
		"cut off":        good[:len(good)-1],
		"more":           good + "\n",
		"length":         strings.Replace(good, older, fmt.Sprintf("older %d\n", len(all[3])+1), 1),
		"zeros":          strings.Replace(good, older, "older 0"+older[6:], 1),
		"sign":           strings.Replace(good, older, "older +"+older[6:], 1),
		"negative":       strings.Replace(good, older, "older -1\n", 1),
		"huge":           strings.Replace(good, older, "older 99999999999999999999\n", 1),
		"hash":           strings.Replace(good, "=\n", "\n", 1),
		"carriage":       strings.Replace(good, "=\n", "=\r\n", 1),
		"an empty line":  strings.Replace(good, "\n", "\n\n", 1),
		"another proof":  "cardea audit proof 1\nentry 0\n{}\n\n",
		"too long":       good + strings.Repeat("x", retention.MaxProof),
		"order of notes": strings.NewReplacer("older ", "newer ", "newer ", "older ").Replace(good),
	} {
		if _, err := retention.ParseConsistency([]byte(text)); !errors.Is(err, retention.ErrMalformedProof) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParseConsistency(f *testing.F) {
	f.Add([]byte("cardea audit consistency 1\nolder 0\nnewer 0\n"))
	f.Add([]byte("cardea audit consistency 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nolder 2\nx\nnewer 1\ny"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := retention.ParseConsistency(b)
		if err == nil && !bytes.Equal(c.Encode(), b) {
			t.Fatalf("%q is not how it is written", b)
		}
		if err == nil && !retention.IsConsistency(b) {
			t.Fatalf("%q is not told to be one", b)
		}
	})
}
