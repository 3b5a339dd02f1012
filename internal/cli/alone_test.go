package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"cardea/internal/config"
	"cardea/internal/lifecycle"
)

func TestOneCommandWorksOnAKeyAtATime(t *testing.T) {
	t.Parallel()
	cfg := config.Config{}
	cfg.Node.DataDir = t.TempDir()
	held, err := workAloneOn(cfg, &lifecycle.Key{ID: "new", Replaces: "old"})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []lifecycle.Key{{ID: "new"}, {ID: "old"}, {ID: "newest", Replaces: "new"}} {
		if _, err := workAloneOn(cfg, &k); err == nil || !strings.Contains(err.Error(), "another command is at work on key ") || !strings.Contains(err.Error(), "look at its report, and run this again if it is still wanted") {
			t.Errorf("%s: %v", k.ID, err)
		}
	}
	other, err := workAloneOn(cfg, &lifecycle.Key{ID: "newest"}) // what was refused holds nothing
	if err != nil {
		t.Error(err)
	}
	other.release()
	held.release()
	if held, err = workAloneOn(cfg, &lifecycle.Key{ID: "old"}); err != nil {
		t.Error(err)
	}
	held.release()

	cfg.Node.DataDir = filepath.Join(t.TempDir(), "not there")
	if _, err := workAlone(cfg, "key k"); err != nil || fileExists(cfg.Node.DataDir) {
		t.Errorf("a folder was made where no installation is, or %v", err)
	}
}
