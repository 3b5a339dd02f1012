// Command cardea is a card vault and key-management system for PCI DSS.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/google/uuid"

	"cardea/internal/cli"
)

// gcPercent lets the heap grow to five times what is alive before it is collected.
// What is alive is small, some ten megabytes, and most of what a request allocates
// dies with it: the usual 100 would spend a tenth of the processor on collecting.
const gcPercent = 400

func main() {
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	uuid.EnableRandPool() // ids are no secrets; a system call for each would cost more than the rest of it

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, cli.Process{
		Args: os.Args[1:], Env: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	stop()
	os.Exit(code)
}
