//go:build pkcs11

package pkcs11

import "time"

const (
	defaultSessions   = 16
	defaultRetryAfter = time.Second
)

func (o Options) withDefaults() Options {
	if o.Sessions <= 0 {
		o.Sessions = defaultSessions
	}
	if o.RetryAfter <= 0 {
		o.RetryAfter = defaultRetryAfter
	}
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	return o
}
