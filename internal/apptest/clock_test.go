package apptest

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"cardea/internal/cli"
)

// clockEnv, in the environment of this program, makes it cardea, on the clock of the
// file that is named.
const clockEnv = "CARDEA_TEST_CLOCK"

// clockFile is the clock of processes: the file says how far it is ahead. It goes on
// over their ends.
type clockFile string

func newClockFile(t *testing.T) clockFile {
	t.Helper()
	c := clockFile(filepath.Join(t.TempDir(), "clock"))
	write(t, string(c), "0s")
	return c
}

func (c clockFile) ahead() time.Duration {
	text, err := os.ReadFile(string(c))
	if err != nil {
		panic(err)
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		panic(err)
	}
	return d
}

func (c clockFile) now() time.Time { return time.Now().Add(c.ahead()) }

// pass puts the clock ahead. One at a time may.
func (c clockFile) pass(t *testing.T, d time.Duration) {
	t.Helper()
	next := string(c) + ".next"
	write(t, next, (c.ahead() + d).String())
	if err := os.Rename(next, string(c)); err != nil { // whole, whoever reads it meanwhile
		t.Fatal(err)
	}
}

// clockedMain is cmd/cardea on a clock.
func clockedMain(c clockFile) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return cli.Main(ctx, cli.Process{Args: os.Args[1:], Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Now: c.now})
}
