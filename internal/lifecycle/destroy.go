package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/mod/sumdb/note"
)

// ErrInUse says why a key must not be destroyed.
var ErrInUse = errors.New("the key is in use")

// Destruction is the record of a key's destruction (PCI DSS 3.7.5).
type Destruction struct {
	Key         string      `json:"key"` // ARN
	Class       string      `json:"class,omitempty"`
	Spec        string      `json:"spec"`
	Usage       string      `json:"usage"`
	Material    string      `json:"material,omitempty"` // id of the last one
	Origin      string      `json:"origin"`
	Created     time.Time   `json:"created"`
	Rotations   []time.Time `json:"rotations"`
	LastUse     time.Time   `json:"last_use,omitzero"`
	LastUseText string      `json:"last_use_basis"`     // how it is known that nothing uses it
	Evidence    []string    `json:"evidence,omitempty"` // how it is known that nothing needs it
	ReplacedBy  string      `json:"replaced_by,omitempty"`
	Reason      string      `json:"reason"`
	Request     string      `json:"approval_request"`
	Requester   string      `json:"requester"`
	Approvers   []string    `json:"approvers"`
	Register    string      `json:"register_sha256,omitempty"` // the version that approvals were checked with
	WindowDays  int         `json:"window_days"`
	Trail       []TrailFile `json:"trail,omitempty"` // the key's audit trail
	Recorded    time.Time   `json:"recorded"`
	Deletion    time.Time   `json:"deletion"` // when the key service destroys it, unless it is cancelled
}

// TrailFile is a file of a key's audit trail.
type TrailFile struct {
	Name    string `json:"name"`
	What    string `json:"what"`
	Entries int    `json:"entries,omitempty"` // that name the key
	SHA256  string `json:"sha256"`
}

// DestructionOf begins the record of a key's destruction.
func DestructionOf(k *Key, a *Approved, reason string, window Days, now time.Time) Destruction {
	d := Destruction{
		Key: k.ARN, Class: k.Class, Spec: k.Spec, Usage: k.Usage, Material: k.Material, Origin: k.Origin, Created: k.Created, Rotations: append([]time.Time{}, k.Rotations...), ReplacedBy: k.ReplacedBy,
		Reason: reason, Request: a.ID, Requester: a.Requester, Approvers: a.Approvers, Register: a.Register, WindowDays: int(window), Recorded: now.UTC().Truncate(time.Second),
	}
	if k.LastUse != nil {
		d.LastUse = k.LastUse.Time
	}
	return d
}

// recordHeader is the first line of a signed record.
const recordHeader = "cardea key destruction record v1"

// Sign makes a signed note of it: the header, and one line of JSON.
func (d *Destruction) Sign(s note.Signer) ([]byte, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("destruction record: %w", err)
	}
	return note.Sign(&note.Note{Text: recordHeader + "\n" + string(text) + "\n"}, s)
}

// Unused returns how it is known that a key was not used for a time, or an error
// that wraps ErrInUse. checked says that a person has looked elsewhere, where the key
// service cannot tell.
func (k *Key) Unused(now time.Time, since time.Duration, checked bool) (basis string, err error) {
	switch u := k.LastUse; {
	case u != nil && !u.Time.IsZero() && now.Sub(u.Time) < since:
		return "", fmt.Errorf("%w: %s on %s, less than %d days ago: find out who uses it", ErrInUse, u.Operation, u.Time.Format(time.RFC3339), days(since))
	case u != nil && !u.Time.IsZero():
		return "last use on " + u.Time.Format(time.RFC3339), nil
	case u != nil && !u.Tracked.IsZero() && !u.Tracked.After(k.Created.Add(time.Minute)):
		return "never used since it was made", nil
	case u != nil && !u.Tracked.IsZero() && now.Sub(u.Tracked) >= since:
		return "not used since " + u.Tracked.Format(time.RFC3339), nil
	case checked:
		return "by whoever asked for it: the key service does not tell", nil
	}
	return "", fmt.Errorf("%w, as far as is known: the key service does not tell the last use over %d days: look into CloudTrail, then give --use-checked", ErrInUse, days(since))
}

// ScheduleDeletion has a key destroyed after a number of days, 7 to 30, and checks
// that it will be. A key that is waiting already keeps its date, so that it may be
// called again. The caller has looked at Unneeded and at approvals.
func ScheduleDeletion(ctx context.Context, c *awskms.Client, k *Key, window Days) (time.Time, error) {
	if window < 7 || window > 30 {
		return time.Time{}, fmt.Errorf("window: %s must be 7d to 30d", window)
	}
	if k.Live() {
		if _, err := c.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: aws.String(idOf(k.ARN)), PendingWindowInDays: aws.Int32(int32(window))}); err != nil {
			return time.Time{}, fmt.Errorf("schedule deletion: %w", err)
		}
	}
	d, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &k.ARN})
	if err != nil {
		return time.Time{}, fmt.Errorf("describe key: %w", err)
	}
	if d.KeyMetadata.KeyState != types.KeyStatePendingDeletion || d.KeyMetadata.DeletionDate == nil {
		return time.Time{}, fmt.Errorf("%w: key %s is %s", ErrUnproved, k.ARN, d.KeyMetadata.KeyState)
	}
	return d.KeyMetadata.DeletionDate.UTC(), nil
}

// CancelDeletion keeps a key that is waiting for its destruction. It is disabled
// afterwards.
func CancelDeletion(ctx context.Context, c *awskms.Client, id string) (arn string, err error) {
	id = idOf(id) // not every key service takes ARNs here
	if _, err := c.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: &id}); err != nil {
		return "", fmt.Errorf("cancel deletion: %w", err)
	}
	d, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &id})
	if err != nil {
		return "", fmt.Errorf("describe key: %w", err)
	}
	if s := d.KeyMetadata.KeyState; s == types.KeyStatePendingDeletion {
		return "", fmt.Errorf("%w: key %s is still %s", ErrUnproved, id, s)
	}
	return aws.ToString(d.KeyMetadata.Arn), nil
}
