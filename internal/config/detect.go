package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"time"
)

// Detect is detection while the node serves: its own audit logs, and AWS CloudTrail.
type Detect struct {
	RulesFile   string   `toml:"rules_file" path:"true"`
	ChangesFile string   `toml:"changes_file" path:"true"` // looked at again when it changes
	StateDir    string   `toml:"state_dir" path:"true"`
	OwnLogs     bool     `toml:"own_logs"` // of the vault and the key service that are served
	Interval    Duration `toml:"interval"`
	StallAfter  Duration `toml:"stall_after"`

	Source []DetectSource `toml:"source"`
}

// Enabled says whether anything is watched.
func (d Detect) Enabled() bool { return d.OwnLogs || len(d.Source) > 0 }

// DetectSource is where records of CloudTrail are. Which keys a type has,
// detectSourceKeys says.
type DetectSource struct {
	Name        string   `toml:"name"`
	Type        string   `toml:"type"` // DetectFolder …
	SilentAfter Duration `toml:"silent_after"`

	Path   string `toml:"path" path:"true"`
	Bucket string `toml:"bucket"`
	Prefix string `toml:"prefix"`

	Digests        bool   `toml:"digests"`                      // verified each hour
	PublicKeysFile string `toml:"public_keys_file" path:"true"` // "": AWS is asked

	Queue   string   `toml:"queue"`
	Buckets []string `toml:"buckets"`

	EventSource string `toml:"event_source"`

	Region   string `toml:"region"`
	Endpoint string `toml:"endpoint"`
	Profile  string `toml:"profile"`
}

// Types of DetectSource.
const (
	DetectFolder = "folder"
	DetectS3     = "s3"
	DetectSQS    = "sqs"
	DetectLookup = "lookup"
)

// DefaultDetectSource is a source of which nothing is said.
func DefaultDetectSource() DetectSource { return DetectSource{} }

func defaultDetect() Detect {
	return Detect{Interval: Duration{30 * time.Second}, StallAfter: Duration{15 * time.Minute}}
}

func (d *Detect) derive(dataDir string) {
	if d.StateDir == "" {
		d.StateDir = filepath.Join(dataDir, "detect")
	}
	for i := range d.Source {
		if s := &d.Source[i]; len(s.Buckets) == 0 {
			s.Buckets = nil // so that no list is the same as an empty one
		}
	}
}

// detectSourceKeys are the keys that only some types have.
func detectSourceKeys(kind string) []string {
	aws := []string{"region", "endpoint", "profile"}
	switch kind {
	case DetectFolder:
		return append(aws, "path", "digests", "public_keys_file")
	case DetectS3:
		return append(aws, "bucket", "prefix", "digests", "public_keys_file")
	case DetectSQS:
		return append(aws, "queue", "buckets")
	case DetectLookup:
		return append(aws, "event_source")
	}
	return nil
}

func (c *Config) readDetectFiles() {
	c.checkFile("detect.rules_file", c.Detect.RulesFile, false)
	c.checkFile("detect.changes_file", c.Detect.ChangesFile, false)
	for i, s := range c.Detect.Source {
		c.checkFile(fmt.Sprintf("detect.source[%d].public_keys_file", i), s.PublicKeysFile, false)
	}
}

func (c Config) validateDetect(v *validation) {
	d := c.Detect
	if !d.Enabled() {
		if d.RulesFile != "" || d.ChangesFile != "" {
			v.add("detect.own_logs", "is not set and there is no [[detect.source]]: nothing is watched, so rules_file and changes_file have no effect")
		}
		return
	}
	v.durationBetween("detect.interval", d.Interval, time.Second, time.Hour)
	v.durationBetween("detect.stall_after", d.StallAfter, time.Minute, 24*time.Hour)
	names := map[string]bool{"vault": true, "keys": true} // of our own logs
	for i, s := range d.Source {
		key := fmt.Sprintf("detect.source[%d]", i)
		if !deliveryNamePattern.MatchString(s.Name) {
			v.add(key+".name", "%q cannot name a source, expected 1 to 63 of a-z, 0-9 and hyphen", s.Name)
		} else if names[s.Name] {
			v.add(key+".name", "%q is taken; each source needs a name of its own, and vault and keys are those of our own logs", s.Name)
		}
		names[s.Name] = true
		s.validate(v, key)
	}
}

func (s DetectSource) validate(v *validation, key string) {
	types := []string{DetectFolder, DetectS3, DetectSQS, DetectLookup}
	v.oneOf(key+".type", s.Type, types...)
	if !slices.Contains(types, s.Type) {
		return
	}
	mine := append(detectSourceKeys(s.Type), "name", "type", "silent_after")
	for f, fv := range reflect.ValueOf(s).Fields() {
		if name := keyOf(f); name != "" && !slices.Contains(mine, name) && !fv.IsZero() {
			v.add(key+"."+name, "has no effect on type %q; remove it", s.Type)
		}
	}
	if s.SilentAfter.Duration != 0 {
		v.durationBetween(key+".silent_after", s.SilentAfter, time.Minute, 31*24*time.Hour)
	}
	if s.PublicKeysFile != "" && !s.Digests {
		v.add(key+".public_keys_file", "has no effect without digests = true; set that or remove this")
	}
	validateKMSEndpoint(v, key+".endpoint", s.Endpoint)
	switch s.Type {
	case DetectFolder:
		if s.Path == "" {
			v.add(key+".path", "is missing; name the folder with log files")
		}
		if !s.Digests || s.PublicKeysFile != "" {
			if s.Region != "" || s.Endpoint != "" || s.Profile != "" {
				v.add(key+".region", "endpoint and profile are for asking AWS for public keys; without that they have no effect")
			}
		}
	case DetectS3:
		validateBucket(v, key, s.Bucket, s.Prefix, s.Region, s.Endpoint)
	case DetectSQS:
		u, err := url.Parse(s.Queue)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			v.add(key+".queue", "is not the URL of a queue, expected https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
		}
		if len(s.Buckets) == 0 {
			v.add(key+".buckets", "is missing; name the buckets that may be read: whoever can write to the queue must not choose")
		}
		s.wantRegion(v, key)
	case DetectLookup:
		s.wantRegion(v, key)
	}
}

func (s DetectSource) wantRegion(v *validation, key string) {
	if s.Region == "" {
		v.add(key+".region", "is missing; name the Region")
	} else if !regionsPattern.MatchString(s.Region) {
		v.add(key+".region", "%q is not a Region, expected a name such as eu-central-1", s.Region)
	}
}
