package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
)

func loadRetention(t *testing.T, text string) (config.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cardea.toml")
	if err := os.WriteFile(file, []byte("[audit.retention]\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, nil)
	return c, errors.Join(err, c.Validate())
}

func TestRetentionOfLogs(t *testing.T) {
	t.Parallel()
	c, err := loadRetention(t, "dir = \"archive\"\nprune = true\n")
	r := c.Audit.Retention
	if err != nil || !filepath.IsAbs(r.Dir) || !r.Enabled() || r.AtHand.Duration != 92*24*time.Hour || r.Kept.Duration != 1096*24*time.Hour || r.ArchiveAfter.Duration != 720*time.Hour {
		t.Errorf("%+v, %v", r, err)
	}
	if c, err := loadRetention(t, ""); err != nil || c.Audit.Retention.Enabled() {
		t.Errorf("nothing is said of an archive: %+v, %v", c.Audit.Retention, err)
	}
	for text, want := range map[string]string{
		"prune = true": "audit.retention.prune: needs an archive: set dir or bucket",

		"dir = \"a\"\nat_hand = \"720h\"":                                    "audit.retention.at_hand",
		"dir = \"a\"\nkept = \"8000h\"":                                      "audit.retention.kept",
		"dir = \"a\"\nkms_key = \"k\"":                                       "audit.retention.bucket: is missing; prefix",
		"dir = \"a\"\nbucket = \"b-1\"\nregion = \"x-1\"":                    "audit.retention.dir: and bucket are two archives",
		"bucket = \"b-1\"":                                                   "audit.retention.region: is missing",
		"bucket = \"b-1\"\nregion = \"eu-central-1\"\nobject_lock = \"yes\"": "audit.retention.object_lock",
		"dir = \"a\"\narchive_after = \"1m\"":                                "audit.retention.archive_after",
		"dir = \"a\"\ninterval = \"1m\"":                                     "audit.retention.interval",
	} {
		if _, err := loadRetention(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
