package config_test

import (
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
)

const fourSources = `
[detect]
own_logs = true
rules_file = "detection.toml"
changes_file = "changes.toml"
[[detect.source]]
name = "copy"
type = "folder"
path = "trail"
digests = true
public_keys_file = "keys.json"
[[detect.source]]
name = "bucket"
type = "s3"
bucket = "trail-bucket"
prefix = "AWSLogs/"
region = "eu-central-1"
digests = true
silent_after = "6h"
[[detect.source]]
name = "queue"
type = "sqs"
queue = "https://sqs.eu-central-1.amazonaws.com/111122223333/trail"
buckets = ["trail-bucket"]
region = "eu-central-1"
[[detect.source]]
name = "small"
type = "lookup"
region = "eu-central-1"
event_source = "*"
`

func detectFolder(t *testing.T, text string) folder {
	t.Helper()
	return newFolder(t, map[string]string{"cardea.toml": text, "detection.toml": "", "changes.toml": "", "keys.json": "{}"})
}

func TestSourcesOfDetection(t *testing.T) {
	f := detectFolder(t, fourSources)
	c := mustLoad(t, f)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	d := c.Detect
	if !d.Enabled() || d.RulesFile != f.path("detection.toml") || d.Interval.Duration != 30*time.Second || d.StallAfter.Duration != 15*time.Minute ||
		!strings.HasSuffix(d.StateDir, "cardea-data/detect") {
		t.Errorf("%+v", d)
	}
	if s := d.Source[0]; s.Path != f.path("trail") || s.PublicKeysFile != f.path("keys.json") {
		t.Errorf("%+v", s)
	}
	printed, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, "again/cardea.toml", printed)
	again, err := config.Load([]string{f.path("again/cardea.toml")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if changed := config.Changed(c, again); len(changed) > 0 {
		t.Errorf("changed: %q", changed)
	}
	if config.Default().Detect.Enabled() {
		t.Error("detection runs though nobody asked for it")
	}
}

func TestSourcesThatCannotWorkAreRefused(t *testing.T) {
	const lookup = "[[detect.source]]\nname = \"a\"\ntype = \"lookup\"\nregion = \"eu-central-1\"\n"
	for text, want := range map[string]string{
		"[detect]\nrules_file = \"detection.toml\"":              "detect.own_logs: is not set and there is no [[detect.source]]: nothing is watched, so rules_file and changes_file have no effect",
		"[detect]\nown_logs = true\nrules_file = \"none.toml\"":  "detect.rules_file: open ",
		"[detect]\nown_logs = true\ninterval = \"0s\"":           "detect.interval: 0s is out of range, expected 1s to 1h",
		"[detect]\nown_logs = true\nstall_after = \"1s\"":        "detect.stall_after: 1s is out of range, expected 1m to 24h",
		"[[detect.source]]\ntype = \"folder\"\npath = \"x\"":     `detect.source[0].name: "" cannot name a source`,
		"[[detect.source]]\nname = \"vault\"\ntype = \"folder\"": `detect.source[0].name: "vault" is taken`,
		lookup + lookup: `detect.source[1].name: "a" is taken`,
		"[[detect.source]]\nname = \"a\"\ntype = \"kafka\"":                                                             `detect.source[0].type: "kafka" is not known, expected one of folder, s3, sqs, lookup`,
		"[[detect.source]]\nname = \"a\"\ntype = \"folder\"":                                                            "detect.source[0].path: is missing; name the folder with log files",
		lookup + "bucket = \"b-1\"":                                                                                     `detect.source[0].bucket: has no effect on type "lookup"; remove it`,
		lookup + "silent_after = \"1s\"":                                                                                "detect.source[0].silent_after: 1s is out of range, expected 1m to 744h",
		lookup + "endpoint = \"http://example.com\"":                                                                    "detect.source[0].endpoint: http://example.com is plain HTTP to another machine",
		strings.ReplaceAll(lookup, "eu-central-1", ""):                                                                  "detect.source[0].region: is missing; name the Region",
		strings.ReplaceAll(lookup, "eu-central-1", "Europe"):                                                            `detect.source[0].region: "Europe" is not a Region`,
		strings.ReplaceAll(lookup, "lookup", "s3"):                                                                      `detect.source[0].bucket: "" is not a bucket`,
		strings.ReplaceAll(lookup, "lookup", "sqs"):                                                                     "detect.source[0].buckets: is missing; name the buckets that may be read",
		strings.ReplaceAll(lookup, "lookup", "sqs") + "queue = \"q\"":                                                   "detect.source[0].queue: is not the URL of a queue",
		"[[detect.source]]\nname = \"a\"\ntype = \"folder\"\npath = \"x\"\nregion = \"eu-central-1\"":                   "detect.source[0].region: endpoint and profile are for asking AWS for public keys",
		"[[detect.source]]\nname = \"a\"\ntype = \"folder\"\npath = \"x\"\npublic_keys_file = \"keys.json\"":            "detect.source[0].public_keys_file: has no effect without digests = true",
		"[[detect.source]]\nname = \"a\"\ntype = \"folder\"\npath = \"x\"\ndigests = true\npublic_keys_file = \"none\"": "detect.source[0].public_keys_file: open ",
	} {
		err := mustLoad(t, detectFolder(t, text)).Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v\nwant %s", text, err, want)
		}
	}
}
