package siem

import "context"

// drainOnce is Drain without a second try.
func (d *Delivery) drainOnce(ctx context.Context) error {
	for {
		more, err := d.pumps[0].pass(ctx, true)
		if err != nil || !more {
			return err
		}
	}
}
