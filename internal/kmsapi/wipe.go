package kmsapi

import "cardea/internal/kms"

// wipe destroys the secrets of a request that was performed or a response that was
// written.
func wipe(v any) {
	switch v := v.(type) {
	case *kms.EncryptInput:
		v.Plaintext.Destroy()
	case *kms.CreateCustomKeyStoreInput:
		v.KeyStorePassword.Destroy()
	case *kms.UpdateCustomKeyStoreInput:
		v.KeyStorePassword.Destroy()
	case *kms.DecryptOutput:
		v.Plaintext.Destroy()
	case *kms.GenerateDataKeyOutput:
		v.Plaintext.Destroy()
	case *kms.GenerateDataKeyPairOutput:
		v.PrivateKeyPlaintext.Destroy()
	case *kms.GenerateRandomOutput:
		v.Plaintext.Destroy()
	case *kms.DeriveSharedSecretOutput:
		v.SharedSecret.Destroy()
	}
}
