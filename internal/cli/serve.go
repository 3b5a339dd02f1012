package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"cardea/internal/app"
	"cardea/internal/config"
	"cardea/internal/httpd"
	"cardea/internal/store"
)

// configFlag is the flag of every command that works on an installation.
type configFlag struct {
	Config []string `short:"c" type:"path" placeholder:"FILE" help:"Configuration file; later ones override earlier ones. Environment variables CARDEA__SECTION__KEY override all."`
}

// load reads and validates the configuration.
func (c configFlag) load(p *Process) (config.Config, error) {
	cfg, err := config.Load(c.Config, p.Env)
	if err != nil {
		return cfg, err
	}
	return cfg, cfg.Validate()
}

type serveCommand struct {
	configFlag
}

// Help implements kong.HelpProvider.
func (serveCommand) Help() string {
	return "Examples:\n  cardea serve --config /etc/cardea/cardea.toml\n\n" +
		"SIGHUP, or a change of the files, takes up new tenants and certificates. SIGTERM finishes what was accepted."
}

// watchInterval is how often the configuration files are looked at.
const watchInterval = 2 * time.Second

func (c serveCommand) Run(ctx context.Context, p *Process) error {
	cfg, err := c.load(p)
	if err != nil {
		return err
	}
	log, err := logger(cfg, p.Stderr)
	if err != nil {
		return err
	}
	// From here on, since a SIGHUP that nobody waits for ends the process: whoever
	// reloads a node that has yet to come up means the same.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	a, err := app.New(ctx, cfg, app.Options{Logger: log, Now: p.Now, Version: version})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted(err, "another program listens there; change vault.listen, key_service.listen or ops.listen, or stop it")
	case errors.Is(err, store.ErrLogTaken):
		return hinted(err, "is another cardea running with node.name %q?", cfg.Node.Name)
	case err != nil:
		return explained(err)
	}
	reloading, stop := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	reloads.Go(func() { c.reload(reloading, p, a, cfg, log, hup) })
	err = a.Run(ctx)
	stop()
	reloads.Wait() // one that is under way uses what Close closes
	if cerr := a.Close(); err == nil {
		err = cerr
	}
	return err
}

// reload takes up the configuration again at SIGHUP, which hup tells of, and when its
// files change.
func (c serveCommand) reload(ctx context.Context, p *Process, a *app.App, cfg config.Config, log *slog.Logger, hup <-chan os.Signal) {
	asked := make(chan struct{})
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
			}
			select {
			case <-ctx.Done():
				return
			case asked <- struct{}{}:
			}
		}
	}()
	config.Watch(ctx, config.WatchOptions{
		Paths: c.Config, Env: p.Env, Interval: watchInterval, Current: cfg, Reload: asked, Now: p.Now,
		OnChange: func(cfg config.Config, err error) {
			if err == nil {
				err = a.Reload(ctx, cfg)
			}
			if err != nil {
				log.ErrorContext(ctx, "configuration not taken up, the one in force stays", slog.Any("error", err))
			}
		},
	})
}

// logger is the operator's log.
func logger(cfg config.Config, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	return httpd.NewLogger(w, cfg.Log.Format, level)
}
