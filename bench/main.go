// Command bench measures the server against its bounds in one run, and prints
// the ratios: a bound is what the same machine can do at most for the same work,
// found by measuring its parts (docs/benchmarks.md). Load, server and database
// share the machine's cores, so all figures are lower bounds of what separate
// machines do. Ratios are quoted, absolute figures are not comparable between
// machines.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// options of a run.
type options struct {
	seconds   float64
	conns     int
	rows      int
	databases string
	quick     bool
	files     filesOptions
	audit     auditOptions

	vaultKeys  bool // the vault's keys in a KMS, and changing them, alone
	vaultParts string
	detect     bool // detection alone
	keys       bool // the key service alone
	keyParts   string
	localKMS   string
	kmsKeys    int
	kmsGrants  int
}

func (o options) window() time.Duration { return time.Duration(o.seconds * float64(time.Second)) }

func main() {
	var o options
	flag.Float64Var(&o.seconds, "seconds", 5, "length of each measurement")
	flag.IntVar(&o.conns, "conns", 64, "connections")
	flag.IntVar(&o.rows, "rows", 1_000_000, "rows of the large store; 0 leaves it out")
	flag.StringVar(&o.databases, "databases", "sqlite,postgres", "databases to measure")
	flag.BoolVar(&o.quick, "quick", false, "a second each, no large store: shows that the benchmark runs")
	flag.BoolVar(&o.vaultKeys, "vault-keys", false, "measure the vault's keys alone: in a key service, and while they are replaced")
	flag.StringVar(&o.vaultParts, "vault-keys-parts", "direct,envelope,rotate", "what of that to measure")
	flag.BoolVar(&o.detect, "detect", false, "measure detection alone")
	flag.BoolVar(&o.keys, "keys", false, "measure the key service alone")
	flag.StringVar(&o.keyParts, "kms-parts", "bound,sdk,scale", "what of the key service to measure")
	flag.StringVar(&o.localKMS, "local-kms", "", "binary of github.com/nsmithuk/local-kms to compare the key service with")
	flag.IntVar(&o.kmsKeys, "kms-keys", 5000, "keys of the key service's large store; 0 leaves it out")
	flag.IntVar(&o.kmsGrants, "kms-grants", 20_000, "grants in it")
	large := flag.Bool("large", false, "100,000 keys and 1 million grants in the key service's large store")
	o.files.flags()
	o.audit.flags()
	flag.Parse()
	if o.quick {
		o.rows, o.kmsKeys = 0, 0
		if !given("seconds") {
			o.seconds = 1
		}
	}
	if *large {
		o.kmsKeys, o.kmsGrants = 100_000, 1_000_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if key, ok := os.LookupEnv(boundVariable); ok {
		if err := serveBound(ctx, key); err != nil {
			fmt.Fprintln(os.Stderr, "bench: bound:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// given reports whether the command line has the flag.
func given(name string) (found bool) {
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// row is a line of the report.
type row struct {
	what     string
	rate     float64
	bound    float64 // 0: there is none
	p50, p99 time.Duration
	cpu      time.Duration // of the server, a request; not of a database in another process
	note     string
}

// with fills the figures of a run in.
func (x row) with(r result) row {
	x.rate, x.p50, x.p99, x.cpu = r.rate(), r.P50, r.P99, r.CPU
	return x
}

// report is the table that is printed as it grows.
type report struct{ rows []row }

func (r *report) add(x row) {
	r.rows = append(r.rows, x)
	fmt.Fprintf(os.Stderr, "  %s: %.0f/s\n", x.what, x.rate)
}

func (r *report) print() {
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "what\tper s\tbound\tratio\tp50 ms\tp99 ms\tserver CPU µs\tnote\t")
	for _, x := range r.rows {
		rate, bound, ratio, p50, p99, cpu := "", "", "", "", "", ""
		if x.rate > 0 {
			rate = fmt.Sprintf("%.0f", x.rate)
		}
		if x.cpu > 0 {
			cpu = fmt.Sprintf("%.1f", float64(x.cpu)/float64(time.Microsecond))
		}
		if x.bound > 0 {
			bound, ratio = fmt.Sprintf("%.0f", x.bound), fmt.Sprintf("%.0f %%", 100*x.rate/x.bound)
		}
		if x.p99 > 0 {
			p50, p99 = ms(x.p50), ms(x.p99)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", x.what, rate, bound, ratio, p50, p99, cpu, x.note)
	}
	tw.Flush()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "cardea-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var r report
	defer r.print()
	if o.detect { // needs no server
		return measureDetect(o, &r, dir)
	}
	exe, err := build(ctx, dir)
	if err != nil {
		return err
	}
	if given("audit-entries") {
		return measureAudit(ctx, o, &r, exe, dir)
	}
	if o.vaultKeys {
		return measureVaultKeys(ctx, o, &r, exe, dir)
	}
	if !o.keys && !o.files.alone {
		if err := measureDetect(o, &r, dir); err != nil {
			return fmt.Errorf("detection: %w", err)
		}
	}
	if o.files.alone || !o.keys {
		if err := measureFiles(ctx, o, &r, exe, dir); err != nil || o.files.alone {
			return err
		}
	}
	if !o.keys {
		if err := measureAudit(ctx, o, &r, exe, dir); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		if err := measureVault(ctx, o, &r, exe, dir); err != nil {
			return err
		}
	}
	for _, db := range strings.Split(o.databases, ",") {
		if err := measureKeys(ctx, o, &r, exe, dir, db); err != nil {
			return fmt.Errorf("key service on %s: %w", db, err)
		}
	}
	return measureLocalKMS(ctx, o, &r, dir)
}

func measureVault(ctx context.Context, o options, r *report, exe, dir string) error {
	for _, db := range strings.Split(o.databases, ",") {
		var err error
		switch db {
		case "sqlite":
			err = measureSQLite(ctx, o, r, exe, dir)
		case "postgres":
			err = measurePostgres(ctx, o, r, exe, dir)
		default:
			err = fmt.Errorf("unknown database %q", db)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", db, err)
		}
	}
	if err := measureEnvelope(ctx, o, r, exe, dir); err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	return measureKeyCache(r)
}
