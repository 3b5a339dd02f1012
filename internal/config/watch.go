package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// racyAge is how old a file's time must be to vouch for its content: a file
// written twice within the clock's grain keeps its time and may keep its size.
const racyAge = 3 * time.Second

// WatchOptions are what Load is called with, and when.
type WatchOptions struct {
	Paths    []string
	Env      []string
	Interval time.Duration // between looks; 0 means 5 s
	// Current is the configuration in force when the watch begins.
	Current Config
	// Reload asks for a load at once, changed or not, as SIGHUP does; may be nil.
	Reload <-chan struct{}
	// OnChange is called, from the goroutine of Watch, with a new valid
	// configuration and nil, or with the one still in force and the reason why the
	// new one was not taken. Files that stay broken are told once.
	OnChange func(Config, error)
	Now      func() time.Time // nil means time.Now
}

// Watch looks at the files that the configuration came from, the folder of
// tenants and the key files included, and loads it anew when one of them
// changes, until ctx ends. TLS certificates are not its business: the listener
// that uses them watches them.
func Watch(ctx context.Context, o WatchOptions) {
	if o.Interval <= 0 {
		o.Interval = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	current, told := o.Current, ""
	watched := current.watched(o.Paths)
	// No state is known yet: the first look loads, in case that something changed
	// between the caller's Load and now.
	seen := ""
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-o.Reload:
			asked = true
		case <-tick.C:
		}
		// Taken before loading: a change in between is seen at the next look.
		now := state(watched, current.TenantsDir, o.Now())
		if now == seen && !asked {
			continue
		}
		next, err := loadValid(o.Paths, o.Env)
		if err != nil {
			// What would mend it may be in a file that is not watched yet: look
			// again each time, but tell only what is new.
			seen = ""
			if asked || told != err.Error() {
				told = err.Error()
				o.OnChange(current, fmt.Errorf("configuration not reloaded, the one before stays in force: %w", err))
			}
			continue
		}
		changed := len(Changed(current, next)) > 0
		current, told, seen = next, "", now
		if files := current.watched(o.Paths); !slices.Equal(files, watched) {
			watched, seen = files, "" // the new files' state before the load is not known
		}
		if asked || changed {
			o.OnChange(current, nil)
		}
	}
}

func loadValid(paths, env []string) (Config, error) {
	c, err := Load(paths, env)
	if err != nil {
		return Config{}, err
	}
	return c, c.Validate()
}

// watched are the files to look at. The paths are among them even if the
// configuration was made in code.
func (c Config) watched(paths []string) []string {
	return append(append([]string{}, paths...), c.files...)
}

// state tells one state of the files from another: names in the folder of
// tenants, and of each file its time, size and, while the time is young, content.
func state(files []string, tenantsDir string, now time.Time) string {
	var b strings.Builder
	if tenantsDir != "" {
		entries, err := os.ReadDir(tenantsDir)
		fmt.Fprintf(&b, "%v\n", err)
		for _, e := range entries {
			fmt.Fprintf(&b, "%q\n", e.Name())
		}
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", path, errors.Unwrap(err))
			continue
		}
		fmt.Fprintf(&b, "%s %d %d", path, info.ModTime().UnixNano(), info.Size())
		if now.Sub(info.ModTime()) < racyAge && info.Size() <= maxConfigFile {
			if content, err := readBounded(path, maxConfigFile); err == nil {
				sum := sha256.Sum256(content)
				clear(content)
				b.WriteString(hex.EncodeToString(sum[:]))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
