package adminapi

import (
	"context"
	"io"
	"net/http"
	"time"

	"cardea/internal/iam"
	"cardea/internal/vault"
)

// Job is a job on keys as the client gets it.
type Job struct {
	ID         string         `json:"job"`
	Kind       vault.JobKind  `json:"kind"`
	Tenant     string         `json:"tenant"`
	Holder     string         `json:"holder,omitempty"`
	State      vault.JobState `json:"state"`
	Reason     string         `json:"reason"`
	By         string         `json:"by"`
	Step       string         `json:"step,omitempty"`
	Key        string         `json:"key,omitempty"` // that it is at
	KeyVersion uint32         `json:"key_version,omitempty"`
	Rate       int            `json:"rate,omitempty"`
	Verify     bool           `json:"verify"`
	Retire     bool           `json:"retire"`
	Total      int64          `json:"total"`
	Moved      int64          `json:"moved"`
	Verified   int64          `json:"verified"`
	Skipped    int64          `json:"skipped"`
	Bad        int64          `json:"bad"`
	Error      string         `json:"error,omitempty"`
	Node       string         `json:"node,omitempty"`
	Created    time.Time      `json:"created"`
	Updated    time.Time      `json:"updated"`
	WaitUntil  time.Time      `json:"wait_until,omitzero"`
	Done       time.Time      `json:"done,omitzero"`
}

// Ended says whether nothing more will happen.
func (j *Job) Ended() bool { return j.State == vault.JobDone || j.State == vault.JobFailed }

func jobOf(j vault.Job) *Job {
	out := &Job{
		ID: j.ID.String(), Kind: j.Kind, Tenant: j.Tenant, Holder: j.Holder, State: j.State, Reason: j.Reason, By: j.By, Step: j.Step,
		KeyVersion: j.Key.Version, Rate: j.Rate, Verify: j.Verify, Retire: j.Retire, Total: j.Total, Moved: j.Moved, Verified: j.Verified,
		Skipped: j.Skipped, Bad: j.Bad, Error: j.Error, Node: j.Node, Created: j.CreatedAt.Time(), Updated: j.UpdatedAt.Time(),
	}
	if j.Key != (vault.KeyVersion{}) {
		out.Key = j.Key.ID.String()
	}
	if j.State == vault.JobWaiting {
		out.WaitUntil = j.WaitUntil.Time()
	}
	if j.DoneAt != 0 {
		out.Done = j.DoneAt.Time()
	}
	return out
}

// TenantReason names a tenant, and why something is done to it.
type TenantReason struct {
	Tenant string `json:"tenant"`
	Reason string `json:"reason,omitempty"`
}

// JobID names a job.
type JobID struct {
	ID string `json:"job"`
}

// KeyName names a key version.
type KeyName struct {
	Tenant  string `json:"tenant"`
	Key     string `json:"key"`
	Version uint32 `json:"version"`
}

// VaultStatus is what a vault says of itself.
type VaultStatus struct {
	Node      string            `json:"node"`
	Tenants   []string          `json:"tenants"`
	Suspended map[string]string `json:"suspended"` // with the reasons
}

// List is a list in an answer.
type List[T any] struct {
	Items []T `json:"items"`
}

// vaultRoutes are the operations on a vault's keys.
func vaultRoutes() map[string]route {
	type a = vault.KeyAdmin
	return map[string]route{
		"/vault/Status": func(ctx context.Context, x *exchange, _ io.Reader) (any, error) {
			return x.server.o.VaultStatus(ctx), nil
		},
		"/vault/Keys": onKeys(func(k *a, ctx context.Context, who iam.Principal, in *vault.KeyQuery) (any, error) {
			all, err := k.Keys(ctx, who, *in)
			return &List[vault.KeyInfo]{all}, err
		}),
		"/vault/Plan": onKeys(func(k *a, ctx context.Context, who iam.Principal, in *TenantReason) (any, error) {
			all, err := k.Plan(ctx, who, in.Tenant)
			return &List[vault.KeyMove]{all}, err
		}),
		importPath:        serveImport,
		"/vault/Rotate":   beginJob((*a).Rotate),
		"/vault/Migrate":  beginJob((*a).Migrate),
		"/vault/Verify":   beginJob((*a).Verify),
		"/vault/Shred":    beginJob((*a).Shred),
		"/vault/Job":      onJob((*a).Job),
		"/vault/Pause":    onJob((*a).Pause),
		"/vault/Continue": onJob((*a).Continue),
		"/vault/Cancel":   onJob((*a).Cancel),
		"/vault/Jobs": onKeys(func(k *a, ctx context.Context, who iam.Principal, in *TenantReason) (any, error) {
			all, err := k.Jobs(ctx, who, in.Tenant)
			out := &List[*Job]{}
			for _, j := range all {
				out.Items = append(out.Items, jobOf(j))
			}
			return out, err
		}),
		"/vault/Retire": onKeys(func(k *a, ctx context.Context, who iam.Principal, in *KeyName) (any, error) {
			return struct{}{}, k.Retire(ctx, who, in.Tenant, in.Key, in.Version)
		}),
		"/vault/Suspend": onKeys(func(k *a, ctx context.Context, who iam.Principal, in *TenantReason) (any, error) {
			return struct{}{}, k.Suspend(ctx, who, in.Tenant, in.Reason)
		}),
		"/vault/Resume": onKeys(func(k *a, ctx context.Context, who iam.Principal, in *TenantReason) (any, error) {
			return struct{}{}, k.Resume(ctx, who, in.Tenant, in.Reason)
		}),
	}
}

// onKeys makes a route of an operation on a vault's keys.
func onKeys[I any](f func(*vault.KeyAdmin, context.Context, iam.Principal, *I) (any, error)) route {
	return func(ctx context.Context, x *exchange, body io.Reader) (any, error) {
		in := new(I)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return f(x.server.o.VaultKeys, vault.WithRequestID(ctx, x.id), x.principal(), in)
	}
}

func beginJob(f func(*vault.KeyAdmin, context.Context, iam.Principal, vault.JobRequest) (vault.Job, error)) route {
	return onKeys(func(k *vault.KeyAdmin, ctx context.Context, who iam.Principal, in *vault.JobRequest) (any, error) {
		j, err := f(k, ctx, who, *in)
		return jobOf(j), err
	})
}

func onJob(f func(*vault.KeyAdmin, context.Context, iam.Principal, string) (vault.Job, error)) route {
	return onKeys(func(k *vault.KeyAdmin, ctx context.Context, who iam.Principal, in *JobID) (any, error) {
		j, err := f(k, ctx, who, in.ID)
		return jobOf(j), err
	})
}

// vaultErrors are the errors of a vault that a client may branch on. Their texts are
// the vault's own.
var vaultErrors = []struct {
	err    error
	code   string
	status int
}{
	{vault.ErrUnavailable, "ServiceUnavailable", http.StatusServiceUnavailable},
	{vault.ErrNotFound, "NotFound", http.StatusBadRequest},
	{vault.ErrUnknownTenant, "UnknownTenant", http.StatusBadRequest},
	{vault.ErrDenied, "AccessDenied", http.StatusForbidden},
	{vault.ErrSuspended, "Suspended", http.StatusBadRequest},
	{vault.ErrShredded, "Shredded", http.StatusBadRequest},
	{vault.ErrLocked, "Locked", http.StatusBadRequest},
	{vault.ErrKeyUnavailable, "KeyUnavailable", http.StatusServiceUnavailable},
	{vault.ErrKeyThrottled, "KeyThrottled", http.StatusServiceUnavailable},
}
