package identity

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"cardea/internal/secret"
)

// rfcKey is the key of the vectors of RFC 4226 and RFC 6238.
func rfcKey() secret.Bytes { return secret.Copy([]byte("12345678901234567890")) }

// TestHOTPVectors has the values of RFC 4226 appendix D.
func TestHOTPVectors(t *testing.T) {
	t.Parallel()
	for counter, want := range []string{
		"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489",
	} {
		if got := string(hotp(rfcKey(), uint64(counter), 6)); got != want {
			t.Errorf("counter %d: got %s, want %s", counter, got, want)
		}
	}
}

// TestTOTPVectors has the values for SHA-1 of RFC 6238 appendix B.
func TestTOTPVectors(t *testing.T) {
	t.Parallel()
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := string(hotp(rfcKey(), uint64(at)/30, 8)); got != want {
			t.Errorf("%d: got %s, want %s", at, got, want)
		}
		counter, ok := checkTOTP(rfcKey(), want[2:], time.Unix(at, 0), 0)
		if !ok || counter != uint64(at)/30 {
			t.Errorf("%d: got counter %d, %v", at, counter, ok)
		}
	}
}

// TestTOTPWindow accepts a code one step around its time and never twice.
func TestTOTPWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		step := rapid.Uint64Range(2, 1<<32).Draw(t, "step")
		off := rapid.Int64Range(-3, 3).Draw(t, "off")
		within := rapid.Int64Range(0, 29).Draw(t, "second")
		used := step - uint64(rapid.IntRange(0, 2).Draw(t, "used before"))
		key := secret.Copy(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "key"))
		code := string(hotp(key, step, 6))
		at := time.Unix(int64(step)*30+off*30+within, 0)
		counter, ok := checkTOTP(key, code, at, used)
		want := off >= -1 && off <= 1 && used < step
		if ok && counter != step {
			t.Skip("another step has the same code")
		}
		if ok != want {
			t.Errorf("got %v, want %v", ok, want)
		}
		if ok {
			if _, again := checkTOTP(key, code, at, counter); again {
				t.Error("accepted twice")
			}
		}
	})
}
