// Command cardea is a card vault and key-management system for PCI DSS.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/google/uuid"

	"cardea/internal/cli"
)

// What is alive is small, some ten megabytes, and most of what a request allocates
// dies with it. gcPercent lets the heap grow to five times what is alive before it
// is collected, and what is alive is never taken to be less than ballast: a busy
// server would otherwise collect twenty times a second, for a tenth of the
// processor. Nobody touches the ballast, so it takes no memory.
const (
	gcPercent = 400
	ballast   = 32 << 20
)

func main() {
	var weight []byte
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
		weight = make([]byte, ballast)
	}
	if _, set := os.LookupEnv("GOMAXPROCS"); !set {
		// SQLite's commits wait for the disk in a system call, which keeps one of the
		// places to run Go code from being used: one more makes up for it.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	uuid.EnableRandPool() // ids are no secrets; a system call for each would cost more than the rest of it

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, cli.Process{
		Args: os.Args[1:], Env: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	stop()
	runtime.KeepAlive(weight)
	os.Exit(code)
}
