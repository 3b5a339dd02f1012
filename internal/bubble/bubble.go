// Package bubble runs tests whose time is made, by testing/synctest; only tests import
// it. It promises to skip them where the FIPS 140-3 module is on: its entropy source
// measures time, which stands still in a bubble, and ends the process.
package bubble

import (
	"crypto/fips140"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if fips140.Enabled() {
		t.Skip("the FIPS 140-3 module's entropy source does not work where time stands still")
	}
	synctest.Test(t, f)
}
