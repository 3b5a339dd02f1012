package detect

import (
	"strings"

	"cardea/internal/cloudtrail"
)

// operation is what an event did, as far as behaviour tells apart.
type operation uint8

const (
	opOther operation = iota
	opEncrypt
	opGenerate
	opDecrypt
	opReEncrypt
	opSign
	opVerify
	opEnumerate // reads that tell which keys there are and what they allow
	opAdmin     // changes of keys, grants, trails
	operations  // how many there are
)

func (o operation) String() string {
	return [operations]string{"other calls", "encrypts", "data keys", "decrypts", "re-encrypts", "signatures", "verifications", "reads of keys", "changes"}[o]
}

// crypto reports whether key material was used.
func (o operation) crypto() bool { return o >= opEncrypt && o <= opVerify }

// encrypts reports whether new ciphertext was made.
func (o operation) encrypts() bool { return o == opEncrypt || o == opGenerate || o == opReEncrypt }

// reads reports whether ciphertext was opened.
func (o operation) reads() bool { return o == opDecrypt || o == opReEncrypt }

func operationOf(e *cloudtrail.Event) operation {
	switch e.Source {
	case cloudtrail.SourceKMS:
		return kmsOperation(e)
	case cloudtrail.SourceVault:
		return vaultOperation(e.Name)
	case cloudtrail.SourceTrail, cloudtrail.SourceS3:
		if !e.ReadOnly {
			return opAdmin
		}
	}
	return opOther
}

func kmsOperation(e *cloudtrail.Event) operation {
	switch e.Name {
	case "Decrypt", "DeriveSharedSecret":
		return opDecrypt
	case "Encrypt":
		return opEncrypt
	case "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext":
		return opGenerate
	case "ReEncrypt":
		return opReEncrypt
	case "Sign", "GenerateMac":
		return opSign
	case "Verify", "VerifyMac":
		return opVerify
	case "GenerateRandom":
		return opOther
	case "ListKeys", "ListAliases", "DescribeKey", "GetKeyPolicy", "ListKeyPolicies", "ListGrants", "ListRetirableGrants", "GetKeyRotationStatus",
		"ListKeyRotations", "ListResourceTags", "DescribeCustomKeyStores", "GetPublicKey":
		return opEnumerate
	}
	if e.ServiceEvent || e.ReadOnly {
		return opOther
	}
	return opAdmin
}

func vaultOperation(name string) operation {
	switch name {
	case "card.retrieve", "data.retrieve":
		return opDecrypt
	case "card.store", "data.store":
		return opEncrypt
	case "fingerprint.get":
		return opVerify
	}
	if strings.HasPrefix(name, "custodian.") || strings.HasPrefix(name, "key.") || strings.HasPrefix(name, "tenants.") {
		return opAdmin
	}
	return opOther
}

// failure is a class of error codes.
type failure uint8

const (
	failNone   failure = iota
	failDenied         // who asked may not
	failCipher         // wrong context, ciphertext or key
	failState          // disabled, pending deletion, wrong use
	failMissing
	failThrottled
	failOther
	failures // how many there are
)

func (f failure) String() string {
	return [failures]string{
		"no failures", "refusals of access", "wrong contexts or ciphertexts", "calls on keys in a wrong state", "calls on keys that do not exist", "throttled calls",
		"other failures",
	}[f]
}

func failureOf(code string) failure {
	switch code {
	case "":
		return failNone
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "denied", "forbidden", "KMS.AccessDeniedException":
		return failDenied
	case "InvalidCiphertextException", "IncorrectKeyException", "InvalidKeyUsageException", "KMSInvalidMacException", "KMSInvalidSignatureException":
		return failCipher
	case "DisabledException", "KMSInvalidStateException", "KeyUnavailableException":
		return failState
	case "NotFoundException", "not_found":
		return failMissing
	case "ThrottlingException", "LimitExceededException", "throttled":
		return failThrottled
	}
	return failOther
}
