package keymanager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cardea/internal/kmsclient"
	"cardea/internal/vault"
)

// Codes of the audit log.
const (
	resultUnreachable = "key_unreachable"
	resultOtherMode   = "key_of_other_mode"
)

// kmsResults say what each error of KMS is in the vault, in the order in which
// they are asked for.
var kmsResults = []struct {
	kind   error
	result string
	is     error
}{
	{kmsclient.ErrThrottled, "key_throttled", vault.ErrKeyThrottled},
	{kmsclient.ErrDenied, "key_denied", vault.ErrKeyUnavailable},
	{kmsclient.ErrDisabled, "key_disabled", vault.ErrKeyUnavailable},
	{kmsclient.ErrNotFound, "key_not_found", vault.ErrKeyUnavailable},
	{kmsclient.ErrInvalid, "key_refused", vault.ErrKeyUnavailable},
	{kmsclient.ErrUnreachable, resultUnreachable, vault.ErrKeyUnavailable},
	{context.DeadlineExceeded, resultUnreachable, vault.ErrKeyUnavailable},
}

// kmsError makes an error of kmsclient one of vault.KeyManager.
func kmsError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, kmsclient.ErrWrongContext) {
		return fmt.Errorf("%w: %w", vault.ErrCorrupt, err)
	}
	for _, r := range kmsResults {
		if errors.Is(err, r.kind) {
			e := &vault.KeyError{Result: r.result, Err: fmt.Errorf("%w: %w", r.is, err)}
			if k, ok := errors.AsType[*kmsclient.Error](err); ok {
				e.RetryAfter = k.RetryAfter
			}
			return e
		}
	}
	return err
}

// otherMode says that a key is of a mode that this node does not serve.
func otherMode(w vault.WrappedKey) error {
	return &vault.KeyError{Result: resultOtherMode, Err: fmt.Errorf("%s key %s is in mode %s, which is not served here: %w", w.Purpose, w.ID, w.Mode, vault.ErrKeyUnavailable)}
}

// refusalTime is how long KMS is not asked again for what it has just refused.
const refusalTime = time.Second

// maxRefusals bounds what is remembered.
const maxRefusals = 10_000

// refusals keep many requests from asking KMS again and again for what will not
// be granted within the second. The zero value with now is ready to use.
type refusals struct {
	now func() time.Time

	mu    sync.Mutex // guards until
	until map[string]refusal
}

type refusal struct {
	until time.Time
	err   error
}

// unless runs ask, unless what name stands for was refused just now.
func (r *refusals) unless(name string, ask func() error) error {
	if err := r.standing(name); err != nil {
		return err
	}
	err := ask()
	if k, ok := errors.AsType[*vault.KeyError](err); ok && k.Result != resultUnreachable && !errors.Is(err, vault.ErrKeyThrottled) {
		r.remember(name, err)
	}
	return err
}

func (r *refusals) standing(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if was, ok := r.until[name]; ok {
		if r.now().Before(was.until) {
			return was.err
		}
		delete(r.until, name)
	}
	return nil
}

func (r *refusals) remember(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil || len(r.until) >= maxRefusals {
		r.until = map[string]refusal{}
	}
	r.until[name] = refusal{r.now().Add(refusalTime), err}
}
