package retention_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"cardea/internal/disk"
	"cardea/internal/retention"
)

// TestArchiveIsAddedToByManyAtOnce: the vault and the key service of one process begin to
// archive at the same moment, and so do a node and an operator.
func TestArchiveIsAddedToByManyAtOnce(t *testing.T) {
	t.Parallel()
	for name, logs := range map[string][]string{"two logs": {vaultLog, cliLog}, "one log": {vaultLog, vaultLog, vaultLog}} {
		for range 10 {
			m, dir := newMemStore(t, 600), filepath.Join(t.TempDir(), "a")
			m.commit(t, cliLog, hours(1), entry("vault-1-cli", 2, hours(1)))
			var g sync.WaitGroup
			for _, log := range logs {
				g.Go(func() {
					a, err := retention.OpenArchive(t.Context(), retention.Folder(dir))
					if err == nil {
						_, err = a.Add(t.Context(), m, log, hours(9), noon, m.verifiers())
					}
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			g.Wait()
			m.intact(retention.Folder(dir))
			a, err := retention.OpenArchive(t.Context(), retention.Folder(dir))
			if err != nil {
				t.Fatal(err)
			}
			var has []string
			for _, p := range a.Periods() {
				has = append(has, p.Log)
			}
			slices.Sort(has)
			if want := slices.Compact(slices.Sorted(slices.Values(logs))); !slices.Equal(has, want) {
				t.Errorf("%s: archived are %v", name, has)
			}
		}
	}
}

// TestArchiveGoesOnFromWhatOthersAdded, not from what it had when it was opened.
func TestArchiveGoesOnFromWhatOthersAdded(t *testing.T) {
	awsEnvironment(t)
	_, o := newFakeBucket(t)
	dir := t.TempDir()
	for name, place := range map[string]func() retention.Place{
		"bucket": func() retention.Place { return bucketAt(t, o) },
		"folder": func() retention.Place { return retention.Folder(dir) },
	} {
		m := newMemStore(t, 1200)
		early, err := retention.OpenArchive(t.Context(), place())
		if err != nil {
			t.Fatal(err)
		}
		m.archive(place(), hours(5))
		if r, err := early.Add(t.Context(), m, vaultLog, hours(10), noon, m.verifiers()); err != nil || r.Period.From != 300 || r.Period.To != 600 {
			t.Errorf("%s: %+v, %v", name, r.Period, err)
		}
		m.intact(place())
	}
}

// TestArchiveWaitsForAnother in vain if it is told to stop.
func TestArchiveWaitsForAnother(t *testing.T) {
	t.Parallel()
	m, dir := newMemStore(t, 600), t.TempDir()
	a := m.archive(retention.Folder(dir), hours(2))
	lock, err := disk.TryLock(filepath.Join(dir, ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := a.Add(ctx, m, vaultLog, hours(5), noon, m.verifiers()); !errors.Is(err, context.Canceled) {
		t.Errorf("add: %v", err)
	}
	if _, err := a.Prune(ctx, m, vaultLog, m.options(hours(2))); !errors.Is(err, context.Canceled) || m.first() != 0 {
		t.Errorf("prune: %v; the log begins at %d", err, m.first())
	}
}

// TestArchiveInABucketIsAddedToByManyMachines: nobody waits for another there, and the
// manifest tells who was faster.
func TestArchiveInABucketIsAddedToByManyMachines(t *testing.T) {
	awsEnvironment(t)
	put := func(b *fakeBucket, end string, then func()) {
		b.after = func(r *http.Request) {
			if strings.HasSuffix(r.URL.Path, end) {
				b.after = nil
				b.mu.Unlock() // of the request that is being answered
				then()
				b.mu.Lock()
			}
		}
	}
	archive := func(o retention.BucketOptions, m *memStore, log string) error {
		a, err := retention.OpenArchive(t.Context(), bucketAt(t, o))
		if err == nil {
			_, err = a.Add(t.Context(), m, log, hours(9), noon, m.verifiers())
		}
		return err
	}
	for name, c := range map[string]struct{ other, want string }{
		"another log":  {cliLog, ""},
		"the same log": {vaultLog, "archive cardea/vault-1: another process has added to the archive meanwhile: run it again"},
	} {
		b, o := newFakeBucket(t)
		m := newMemStore(t, 600)
		m.commit(t, cliLog, hours(1), entry("vault-1-cli", 2, hours(1)))
		put(b, ".gz", func() {
			if err := archive(o, m, c.other); err != nil {
				t.Errorf("%s: the faster one: %v", name, err)
			}
		})
		if err := archive(o, m, vaultLog); err == nil && c.want != "" || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v", name, err)
		}
		m.intact(bucketAt(t, o))
		a, err := retention.OpenArchive(t.Context(), bucketAt(t, o))
		if err != nil || len(b.objects) != len(a.Periods())+1 {
			t.Errorf("%s: %d periods, but objects %v, %v", name, len(a.Periods()), slices.Collect(maps.Keys(b.objects)), err)
		}
	}
}

// TestManifestWhoseAnswerWasLostIsKept: the client puts it again, and finds it there.
func TestManifestWhoseAnswerWasLostIsKept(t *testing.T) {
	awsEnvironment(t)
	b, o := newFakeBucket(t)
	m := newMemStore(t, 600)
	first := true
	b.lost = func(r *http.Request) bool {
		if first && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "manifest.json") {
			first = false
			return true
		}
		return false
	}
	t.Setenv("AWS_MAX_ATTEMPTS", "3")
	a := m.archive(bucketAt(t, o), hours(5))
	if first || len(a.Periods()) != 1 || len(b.objects) != 2 {
		t.Errorf("%+v, objects %v", a.Periods(), slices.Collect(maps.Keys(b.objects)))
	}
	m.intact(bucketAt(t, o))
}
