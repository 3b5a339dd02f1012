package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cardea/internal/config"
	"cardea/internal/disk"
	"cardea/internal/lifecycle"
)

// alone is work that one command of an installation does at a time: two that rotate a
// key would make two, and each would write over the report of the other.
type alone []*disk.Lock

// workAlone keeps other commands from work on the same things, such as keys by id, until
// it is released or the process ends. Who reads how far work is does so afterwards.
func workAlone(cfg config.Config, things ...string) (alone, error) {
	dir := filepath.Join(cfg.Node.DataDir, "locks")
	if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrNotExist) {
		return nil, nil // no installation here: what is recorded says so
	} else if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	var held alone
	for _, thing := range things {
		if thing == "" {
			continue
		}
		lock, err := disk.TryLock(filepath.Join(dir, strings.NewReplacer(":", "-", "/", "-", " ", "-").Replace(thing)+".lock"))
		if errors.Is(err, disk.ErrHeld) {
			err = fmt.Errorf("another command is at work on %s: when it has ended, look at its report, and run this again if it is still wanted", thing)
		}
		if err != nil {
			held.release()
			return nil, err
		}
		held = append(held, lock)
	}
	return held, nil
}

// workAloneOn is workAlone on a key of a key service, and on the one whose place it
// takes: while a key is being replaced an alias may name the new one already.
func workAloneOn(cfg config.Config, k *lifecycle.Key) (alone, error) {
	old := ""
	if k.Replaces != "" {
		old = "key " + k.Replaces
	}
	return workAlone(cfg, "key "+k.ID, old)
}

func (a alone) release() {
	for _, lock := range a {
		lock.Release() //nolint:errcheck // it ends with this process, too
	}
}
