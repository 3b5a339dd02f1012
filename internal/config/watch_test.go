package config_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cardea/internal/bubble"
	"cardea/internal/config"
)

// event is one call of OnChange.
type event struct {
	c   config.Config
	err error
}

// watcher drives a Watch over cardea.toml in a synctest bubble; look lets one
// interval pass and returns what it brought about.
type watcher struct {
	reload chan struct{}
	events chan event
}

const interval = 5 * time.Second

func (w *watcher) look() []event {
	time.Sleep(interval) // of the bubble
	return w.settle()
}

func (w *watcher) settle() []event {
	synctest.Wait()
	var seen []event
	for {
		select {
		case e := <-w.events:
			seen = append(seen, e)
		default:
			return seen
		}
	}
}

func (w *watcher) askNow() []event {
	w.reload <- struct{}{}
	return w.settle()
}

func watching(t *testing.T, f folder, do func(w *watcher)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := &watcher{reload: make(chan struct{}), events: make(chan event, 16)}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		current := mustLoad(t, f)
		go func() {
			defer close(done)
			config.Watch(ctx, config.WatchOptions{
				Paths: []string{f.path("cardea.toml")}, Current: current, Reload: w.reload,
				OnChange: func(c config.Config, err error) { w.events <- event{c, err} },
			})
		}()
		do(w)
		stop()
		<-done
	})
}

// one fails unless exactly one event came.
func one(t *testing.T, events []event) event {
	t.Helper()
	if len(events) != 1 {
		t.Fatalf("%d events, want one: %+v", len(events), events)
	}
	return events[0]
}

func none(t *testing.T, events []event) {
	t.Helper()
	if len(events) != 0 {
		t.Fatalf("events although nothing changed: %+v", events)
	}
}

func TestWatchTellsAChangeOnce(t *testing.T) {
	f := newFolder(t, map[string]string{"cardea.toml": "[log]\nlevel = \"info\""})
	watching(t, f, func(w *watcher) {
		none(t, w.look())
		f.write(t, "cardea.toml", "[log]\nlevel = \"warn\"") // of the same size
		if e := one(t, w.look()); e.err != nil || e.c.Log.Level != "warn" {
			t.Errorf("got %q, %v", e.c.Log.Level, e.err)
		}
		none(t, w.look())
		f.write(t, "cardea.toml", "# a comment\n[log]\nlevel = \"warn\"")
		none(t, w.look())
	})
}

func TestWatchKeepsTheOldOverABrokenOne(t *testing.T) {
	f := newFolder(t, map[string]string{"cardea.toml": "[log]\nlevel = \"warn\""})
	watching(t, f, func(w *watcher) {
		for text, want := range map[string]string{
			"[log]\nlevl = \"info\"":  f.path("cardea.toml") + ":2: log.levl: unknown key; did you mean level?",
			"[log]\nlevel = \"loud\"": `log.level: "loud" is not known, expected one of debug, info, warn, error`,
		} {
			f.write(t, "cardea.toml", text)
			e := one(t, w.look())
			if e.err == nil || e.c.Log.Level != "warn" || e.err.Error() != "configuration not reloaded, the one before stays in force: "+want {
				t.Errorf("got %q, %v", e.c.Log.Level, e.err)
			}
			none(t, w.look())
			if e := one(t, w.askNow()); e.err == nil {
				t.Error("who asks is not told that it is still broken")
			}
		}
		f.write(t, "cardea.toml", "[log]\nlevel = \"warn\"")
		none(t, w.look()) // back to what is in force
		f.write(t, "cardea.toml", "[log]\nlevel = \"error\"")
		if e := one(t, w.look()); e.err != nil || e.c.Log.Level != "error" {
			t.Errorf("got %q, %v", e.c.Log.Level, e.err)
		}
	})
}

func TestWatchTakesUpTenantsOfTheFolder(t *testing.T) {
	f := newFolder(t, map[string]string{"cardea.toml": "tenants_dir = \"d\"\n[locker]\nprivate_key_file = \"locker.pem\"", "d/a.toml": "", "locker.pem": privatePEM(t, "p256")})
	watching(t, f, func(w *watcher) {
		none(t, w.look())
		f.write(t, "d/b.toml", "envelope = \"jwe\"\npublic_key_file = \"b.pem\"")
		if e := one(t, w.look()); e.err == nil || !strings.Contains(e.err.Error(), "tenants.b.public_key_file: stat "+f.path("d/b.pem")) || len(e.c.Tenants) != 1 {
			t.Errorf("got %v", e.err)
		}
		f.write(t, "d/b.pem", publicPEM(t, "rsa")) // a file that no configuration in force names
		if e := one(t, w.look()); e.err != nil || len(e.c.Tenants) != 2 {
			t.Errorf("got %v", e.err)
		}
		none(t, w.look())
		f.write(t, "d/b.pem", publicPEM(t, "p256"))
		if e := one(t, w.look()); e.err != nil || e.c.Tenants["b"].ResponseKeyAlgorithm != config.AlgECDHESA256K {
			t.Errorf("a new key: %v", e.err)
		}
		if err := os.Remove(f.path("d/a.toml")); err != nil {
			t.Fatal(err)
		}
		if e := one(t, w.look()); e.err != nil || len(e.c.Tenants) != 1 {
			t.Errorf("a tenant removed: %v", e.err)
		}
		if err := os.RemoveAll(f.path("d")); err != nil {
			t.Fatal(err)
		}
		if e := one(t, w.look()); e.err == nil || len(e.c.Tenants) != 1 {
			t.Errorf("the folder removed: %v", e.err)
		}
	})
}

func TestWatchAnswersWhoAsksWithoutAChange(t *testing.T) {
	f := newFolder(t, map[string]string{"cardea.toml": "[node]\nname = \"n\""})
	watching(t, f, func(w *watcher) {
		if e := one(t, w.askNow()); e.err != nil || e.c.Node.Name != "n" {
			t.Errorf("got %v", e.err)
		}
		none(t, w.look())
	})
}

func TestWatchSeesAChangeMadeBeforeItBegan(t *testing.T) {
	f := newFolder(t, map[string]string{"cardea.toml": "[node]\nname = \"old\""})
	bubble.Test(t, func(t *testing.T) {
		current := mustLoad(t, f)
		f.write(t, "cardea.toml", "[node]\nname = \"new\"")
		ctx, stop := context.WithCancel(t.Context())
		var got []string
		config.Watch(ctx, config.WatchOptions{
			Paths: []string{f.path("cardea.toml")}, Current: current, Interval: time.Second,
			OnChange: func(c config.Config, _ error) { got = append(got, c.Node.Name); stop() },
		})
		if len(got) != 1 || got[0] != "new" {
			t.Errorf("got %q", got)
		}
	})
}

// An old file's content is not read again: its time vouches for it.
func TestWatchTrustsOldTimes(t *testing.T) {
	f := newFolder(t, map[string]string{"cardea.toml": "[log]\nlevel = \"info\""})
	old := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // synctest begins in 2000
	set := func() {
		if err := os.Chtimes(f.path("cardea.toml"), old, old); err != nil {
			t.Fatal(err)
		}
	}
	set()
	watching(t, f, func(w *watcher) {
		none(t, w.look())
		f.write(t, "cardea.toml", "[log]\nlevel = \"warn\"")
		set()
		none(t, w.look())
		if e := one(t, w.askNow()); e.c.Log.Level != "warn" {
			t.Errorf("got %q", e.c.Log.Level)
		}
	})
}
