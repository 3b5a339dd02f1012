package vault

import (
	"context"

	"cardea/internal/iam"
)

// Perform runs an operation that is none of the vault's own, such as one of the
// command line on keys elsewhere, through the gate: authorized, done, and recorded,
// whatever came of it. key is what it is done to, if that is a key. act tells its
// result, a code, and its detail. An error means that it was not done, or that it
// was and cannot be recorded.
func (g *Gate) Perform(ctx context.Context, who iam.Principal, op *Operation, t Target, key string, act func() (result, detail string, err error)) error {
	return g.do(ctx, who, op, t, func(c *call) error {
		c.entry.Resource.Key = key
		result, detail, err := act()
		if result != "" {
			c.entry.Result = result
		}
		c.entry.Detail = detail
		return err
	})
}
