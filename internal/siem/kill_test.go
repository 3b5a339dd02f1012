package siem

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"cardea/internal/audit"
)

// The process is killed so many times, each time with so many entries more in its log.
const (
	kills  = 5
	growth = 700
	whole  = (kills + 1) * growth
)

// childEnv makes a test binary the process that is killed.
const childEnv = "CARDEA_SIEM_CHILD"

// TestChildDelivers is the process that is killed: it delivers as much of a log as
// there is by then, the same each time, to a syslog receiver and to a file, and waits
// for more until it is killed; with the whole log it ends when nothing is left.
func TestChildDelivers(t *testing.T) {
	dir, address := os.Getenv(childEnv), os.Getenv(childEnv+"_ADDRESS")
	if dir == "" {
		t.Skip("only run by TestNothingIsLostWhenTheProcessIsKilled")
	}
	entries, err := strconv.Atoi(os.Getenv(childEnv + "_ENTRIES"))
	if err != nil {
		t.Fatal(err)
	}
	log := newMemLog(t, "node-1")
	for from := 0; from < entries; from += growth { // commits as they were the last time
		log.add(t, growth, func(i int, e *audit.Entry) { e.ID = fmt.Sprintf("019a9b3c-5d2e-7f10-8a4b-%012x", from+i) })
	}
	o, _, _ := options(t, dir, []*memLog{log},
		Receiver{Name: "syslog", Sink: NewSyslog(SyslogOptions{Address: address, Encoder: encoder(FormatNDJSON)}), BatchEntries: 50},
		Receiver{Name: "file", Sink: NewFile(FileOptions{Path: filepath.Join(dir, "cardea.ndjson"), Encoder: encoder(FormatNDJSON), Now: time.Now}), BatchEntries: 20})
	d := mustOpen(t, o)
	if entries < whole {
		running(t, d)
		io.Copy(io.Discard, os.Stdin) // until it is killed, or who would kill it has ended
		return
	}
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsLostWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := newSyslogServer(t, nil, nil)
	start := func(entries int) *exec.Cmd {
		c := exec.Command(os.Args[0], "-test.run=^TestChildDelivers$", "-test.v")
		c.Env = append(os.Environ(), childEnv+"="+dir, childEnv+"_ADDRESS="+server.Addr().(*net.TCPAddr).String(), childEnv+"_ENTRIES="+strconv.Itoa(entries))
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if !testing.Verbose() {
			c.Stdout, c.Stderr = nil, nil
		}
		if _, err := c.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range kills {
		before := len(server.got())
		// The log has grown by more than is waited for, and is not whole: however late
		// the kill comes, the process is there to be killed.
		c := start(growth * (i + 1))
		eventually(t, "something arrives", func() bool { return len(server.got()) > before+90*i })
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err == nil {
			t.Fatalf("it ended before it was killed for the %d. time", i+1)
		}
	}
	if err := start(whole).Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last one is there", func() bool {
		// Not as the last of all: what a killed one sent may still be being read.
		return slices.Contains(server.got(), entryID("cardea/node-1", whole-1))
	})

	check := func(where string, ids []string) {
		count := map[string]int{}
		for _, id := range ids {
			count[id]++
		}
		for i := range int64(whole) {
			if count[entryID("cardea/node-1", i)] == 0 {
				t.Fatalf("%s: entry %d is lost", where, i)
			}
		}
		if len(count) != whole {
			t.Errorf("%s: %d ids, want %d", where, len(count), whole)
		}
		t.Logf("%s: %d events, %d of them again", where, len(ids), len(ids)-len(count))
	}
	check("syslog", server.got())
	text, err := os.ReadFile(filepath.Join(dir, "cardea.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	check("file", idsIn(t, text))
	// A repetition is the same to the byte.
	lines := map[string][]byte{}
	for line := range bytes.Lines(text) {
		id := idsIn(t, line)[0]
		if before, ok := lines[id]; ok && !bytes.Equal(before, line) {
			t.Errorf("%s is not the same when repeated", id)
		}
		lines[id] = line
	}
}
