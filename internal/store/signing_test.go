package store_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
)

// distantKey is a signing key that is elsewhere: it answers when it may.
type distantKey struct {
	private ed25519.PrivateKey
	answers chan struct{} // closed when it answers; nil: it fails at once
	down    atomic.Bool
	asked   atomic.Int64
}

var errDown = errors.New("key service is down")

func (k *distantKey) Public(context.Context) (ed25519.PublicKey, error) {
	if k.down.Load() {
		return nil, errDown
	}
	return k.private.Public().(ed25519.PublicKey), nil
}

func (k *distantKey) Sign(ctx context.Context, message []byte) ([]byte, error) {
	k.asked.Add(1)
	if k.answers != nil {
		select {
		case <-k.answers:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if k.down.Load() {
		return nil, errDown
	}
	return ed25519.Sign(k.private, message), nil
}

func openDistant(t *testing.T, path string, key *distantKey) (*store.Store, *audit.Signer) {
	t.Helper()
	if key.private == nil {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		key.private = private
	}
	signer, err := audit.NewRemoteSigner(audit.RemoteOptions{Origin: "cardea/node-1", Key: key, Record: func(string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + path, Node: "node-1", Signer: signer, CheckpointInterval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s, signer
}

// checkpointsOf are the sizes that are signed.
func checkpointsOf(t *testing.T, s *store.Store, signer *audit.Signer) (sizes []int64) {
	t.Helper()
	for signed, err := range s.Checkpoints(t.Context(), "cardea/node-1") {
		if err != nil {
			t.Fatal(err)
		}
		c, err := audit.OpenCheckpoint(signed, signer.Verifier())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, c.Size)
	}
	return sizes
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			t.Fatal("in vain: ", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSlowSigningKeepsNothingWaiting: while the key service sits on a signature,
// entries are written, and the checkpoint that comes of it is a good one.
func TestSlowSigningKeepsNothingWaiting(t *testing.T) {
	t.Parallel()
	key := &distantKey{answers: make(chan struct{})}
	s, signer := openDistant(t, filepath.Join(t.TempDir(), "a.db"), key)
	appendOne(t, s, 1)
	await(t, "the key is asked", func() bool { return key.asked.Load() > 0 })
	for i := range 20 {
		appendOne(t, s, 2+i) // would not return if commits waited for the key
	}
	if sizes := checkpointsOf(t, s, signer); len(sizes) > 0 {
		t.Errorf("signed without the key: %v", sizes)
	}
	close(key.answers)
	await(t, "all is signed", func() bool {
		sizes := checkpointsOf(t, s, signer)
		return len(sizes) > 1 && sizes[0] == 1 && sizes[len(sizes)-1] == 21
	})
	r, err := audit.Verify(t.Context(), s, audit.VerifyOptions{Verifiers: []string{signer.Verifier()}})
	if err != nil || !r.OK() || r.Logs[0].UnsignedTail != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestOutageOfTheSigningKeyDelaysCheckpointsOnly: entries are durable, the store says
// that it cannot sign, closing is no failure, and the next start catches up.
func TestOutageOfTheSigningKeyDelaysCheckpointsOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	key := &distantKey{}
	s, signer := openDistant(t, path, key)
	if s.SigningTrouble() != nil {
		t.Error("trouble before anything was signed")
	}
	// How many checkpoints there are depends on when the signer looks at the log.
	signed := func(size int64) bool {
		sizes := checkpointsOf(t, s, signer)
		return len(sizes) > 0 && sizes[len(sizes)-1] == size
	}
	appendOne(t, s, 1)
	await(t, "the log is signed", func() bool { return signed(1) })
	key.down.Store(true)
	appendOne(t, s, 2)
	await(t, "the trouble is known", func() bool { return s.SigningTrouble() != nil })
	if tr := s.SigningTrouble(); !errors.Is(tr.Err, errDown) || tr.Since.IsZero() {
		t.Errorf("got %+v", tr)
	}
	appendOne(t, s, 3)
	if !signed(1) {
		t.Error("signed without the key")
	}
	key.down.Store(false)
	await(t, "it is signed again", func() bool { return s.SigningTrouble() == nil && signed(3) })
	key.down.Store(true)
	appendOne(t, s, 4)
	if err := s.Close(); err != nil {
		t.Errorf("closed without a signature: %v", err)
	}

	key.down.Store(false)
	s, _ = openDistant(t, path, key)
	await(t, "the next start signs", func() bool { return signed(4) })
	if sizes := checkpointsOf(t, s, signer); sizes[0] != 1 {
		t.Errorf("signed are %v, want 1 to begin with", sizes)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func appendOne(t *testing.T, s *store.Store, n int) {
	t.Helper()
	if err := s.Append(t.Context(), storetest.EntryOf(t, "node-1", fmt.Sprint("r", n))); err != nil {
		t.Fatal(err)
	}
}
