package cli

import (
	"crypto/fips140"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the release build with -ldflags "-X cardea/internal/cli.version=v1.2.3".
var version = "devel"

type versionCommand struct {
	output
}

type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	FIPS     string `json:"fips_140_3"` // off, on, only
	Module   string `json:"fips_module"`
}

// buildInfo is what this binary knows of itself.
func buildInfo() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, FIPS: "off", Module: fips140.Version()}
	if fips140.Enabled() {
		v.FIPS = "on"
	}
	if fips140.Enforced() {
		v.FIPS = "only"
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}

// Help implements kong.HelpProvider.
func (versionCommand) Help() string {
	return "Examples:\n  cardea version\n  cardea version --output json\n  GODEBUG=fips140=on cardea version"
}

func (c versionCommand) Run(p *Process) error {
	v := buildInfo()
	return c.print(p.Stdout, v, func(w io.Writer) error {
		revision := v.Revision
		if v.Modified {
			revision += " with changes"
		}
		if revision != "" {
			revision = "revision  " + revision + "\n"
		}
		_, err := fmt.Fprintf(w, "cardea %s\n%sgo        %s %s\nFIPS 140-3 mode %s, module %s\n", v.Version, revision, v.Go, v.Platform, v.FIPS, v.Module)
		return err
	})
}
