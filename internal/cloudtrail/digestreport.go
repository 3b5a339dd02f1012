package cloudtrail

import "time"

// Outcome is what was found of a digest or log file.
type Outcome string

// Outcomes that are findings. All else is valid.
const (
	OutcomeInvalidSignature Outcome = "invalid_signature"
	OutcomeNoSignature      Outcome = "no_signature" // nothing tells the signature
	OutcomeNoKey            Outcome = "no_key"
	OutcomeMoved            Outcome = "moved" // stands elsewhere than where CloudTrail put it
	OutcomeHashMismatch     Outcome = "hash_mismatch"
	OutcomeTrailingData     Outcome = "trailing_data"
	OutcomeMalformed        Outcome = "malformed" // cannot be read as what it is
	OutcomeMissingLog       Outcome = "missing_log"
	OutcomeMissingDigest    Outcome = "missing_digest"
	OutcomeGap              Outcome = "gap"          // validation was off, or the chain is broken
	OutcomeLateDigest       Outcome = "late_digest"  // the newest digest is too old
	OutcomeUnlistedLog      Outcome = "unlisted_log" // no digest knows it
)

// DigestFinding is one thing that is wrong.
type DigestFinding struct {
	Outcome Outcome   `json:"outcome"`
	Object  string    `json:"object"`
	Message string    `json:"message"`
	Time    time.Time `json:"time,omitzero"` // in the object's name: the end of the digest's hour
}

// DigestReport is the result of VerifyDigests.
type DigestReport struct {
	Trails []TrailReport `json:"trails"`
}

// OK reports whether nothing is wrong and something was verified.
func (r DigestReport) OK() bool {
	for _, t := range r.Trails {
		if len(t.Findings) > 0 {
			return false
		}
	}
	return len(r.Trails) > 0
}

// TrailReport is what was found of a trail in one account and region.
type TrailReport struct {
	Account  string          `json:"account"`
	Region   string          `json:"region"`
	Trail    string          `json:"trail"`
	Digests  int             `json:"digests"`          // valid ones
	Backfill int             `json:"backfill"`         // valid ones among them that CloudTrail made later
	Logs     int             `json:"logs"`             // valid log files
	First    time.Time       `json:"first,omitzero"`   // start of the oldest valid digest
	Last     time.Time       `json:"last,omitzero"`    // end of the newest one
	Findings []DigestFinding `json:"findings"`         // oldest last
	Notes    []DigestFinding `json:"notes"`            // what is no harm
	Omitted  int             `json:"omitted,omitzero"` // findings over the limit
}

// DigestOptions say what to verify. Keys and Now are required.
type DigestOptions struct {
	Keys   Keys
	Now    func() time.Time
	Prefix string // of what is looked at: of the names in Objects
	// Bucket is the bucket's name, and Base what comes before a name in Objects to
	// give the object's name in the bucket. Without Bucket both are taken from a
	// digest, so that a copy of a whole bucket that was moved is not noticed.
	Bucket, Base string
	Since, Until time.Time               // ends of the digests' hours; zero is all
	Late         time.Duration           // how old the newest digest may be, default 2 h
	Workers      int                     // log files read at the same time, default 8
	Progress     func(done, total int64) // files; the total is of those that are there
}
