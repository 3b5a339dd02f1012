package kms_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

// A device that is gone, and one that is too slow, are no fault of the request's.
func TestFailuresOfADeviceCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	f := kmstest.New(t)
	k := f.Key(t, keyspec.SymmetricDefault)
	for _, tc := range []struct {
		err     error
		code    kms.Code
		message string
	}{
		{fmt.Errorf("%w: unplugged", kms.ErrDeviceLost), kms.CodeKeyUnavailable, "The device of the custom key store cannot be reached. Try again later."},
		{fmt.Errorf("wait for a session: %w", context.DeadlineExceeded), kms.CodeDependencyTimeout, "The system timed out while trying to fulfill the request. You can retry the request."},
	} {
		f.FailBackend(func(string) error { return tc.err })
		_, err := f.Encrypt(t.Context(), kmstest.Admin(t), &kms.EncryptInput{KeyID: k.ID, Plaintext: secret.Copy([]byte("x"))})
		kmstest.Refused(t, err, tc.code, tc.message)
		if e := f.Last(t); e.Detail != tc.err.Error() {
			t.Errorf("the entry says %q", e.Detail)
		}
	}
	if !errors.Is(kms.ErrDeviceLost, kms.ErrSealed) || kms.ErrDeviceLost.Error() != "device cannot be reached" {
		t.Error(kms.ErrDeviceLost)
	}
}
