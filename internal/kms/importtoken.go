package kms

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// The formats here are those of docs/spec/import-token.md.

const (
	tokenVersion  = 1
	tokenValidity = 24 * time.Hour
	tokenHeader   = 1 + 1 + 8 // of the payload
)

// wrappingAlgorithms and wrappingSpecs are what wrapped material can be imported
// by. Their places, from 1, are their codes in tokens.
var (
	wrappingAlgorithms = []keyspec.WrappingAlgorithm{keyspec.WrapOAEPSHA1, keyspec.WrapOAEPSHA256, keyspec.WrapRSAAESKWSHA1, keyspec.WrapRSAAESKW256}
	wrappingSpecs      = []keyspec.Spec{keyspec.RSA2048, keyspec.RSA3072, keyspec.RSA4096}
)

// importToken is what an import token says to the service that gave it out: how to
// unwrap, and until when. The private wrapping key is in the token and nowhere
// else, so that tokens need no state and none is lost to another.
type importToken struct {
	algorithm keyspec.WrappingAlgorithm
	spec      keyspec.Spec
	validTo   time.Time // to the second
	private   secret.Bytes
}

// tokenLabel binds a token to its key.
func tokenLabel(arn string) string { return "cardea kms import token v1 " + arn }

// payload is the content of the token, which is sealed.
func (t *importToken) payload() secret.Bytes {
	b := make([]byte, 0, tokenHeader+t.private.Len())
	b = append(b, byte(slices.Index(wrappingAlgorithms, t.algorithm)+1), byte(slices.Index(wrappingSpecs, t.spec)+1))
	b = binary.BigEndian.AppendUint64(b, uint64(t.validTo.Unix()))
	return secret.New(append(b, t.private.Expose()...))
}

var errToken = errors.New("no content of an import token")

// parseToken parses a payload. The token shares its memory.
func parseToken(b []byte) (*importToken, error) {
	if len(b) <= tokenHeader {
		return nil, errToken
	}
	a, s := int(b[0])-1, int(b[1])-1
	unix := binary.BigEndian.Uint64(b[2:])
	const year10000 = 253402300800
	if a < 0 || a >= len(wrappingAlgorithms) || s < 0 || s >= len(wrappingSpecs) || unix >= year10000 {
		return nil, errToken
	}
	return &importToken{wrappingAlgorithms[a], wrappingSpecs[s], time.Unix(int64(unix), 0).UTC(), secret.New(b[tokenHeader:])}, nil
}

// seal makes the token for the key with the ARN.
func (t *importToken) seal(ctx context.Context, s Secrets, arn string) ([]byte, error) {
	p := t.payload()
	defer p.Destroy()
	sealed, err := s.SealSecret(ctx, tokenLabel(arn), p)
	if err != nil {
		return nil, backendError(err)
	}
	return append([]byte{tokenVersion}, sealed...), nil
}

// unwrap opens the token of the key with the ARN, and the material that was wrapped
// with it.
func (s *Service) unwrap(ctx context.Context, arn string, token, wrapped []byte, now time.Time) (secret.Bytes, error) {
	invalid := &Error{Code: CodeInvalidImportToken, Message: "The import token is invalid or is associated with a different KMS key."}
	if len(token) < 2 || token[0] != tokenVersion {
		return secret.Bytes{}, invalid
	}
	p, err := s.secrets.OpenSecret(ctx, tokenLabel(arn), token[1:])
	if errors.Is(err, ErrNotOurs) {
		return secret.Bytes{}, invalid
	}
	if err != nil {
		return secret.Bytes{}, backendError(err)
	}
	defer p.Destroy()
	t, err := parseToken(p.Expose())
	if err != nil {
		return secret.Bytes{}, invalid
	}
	if !now.Before(t.validTo) {
		return secret.Bytes{}, refuse(CodeExpiredImportToken, "The import token expired at "+t.validTo.Format(time.RFC3339)+". Get new parameters for import.")
	}
	private, err := keyspec.ParsePrivate(t.spec, t.private)
	if err != nil {
		return secret.Bytes{}, broken(CodeInternal, "The import token cannot be used.", err)
	}
	defer private.Destroy()
	material, err := keyspec.Unwrap(t.algorithm, private, wrapped)
	return material, backendError(err)
}

// materialSecret is the secret that the ids of the key's imported material are made
// with, and the form in which the key keeps it. A key that has had no import gets one.
func (s *Service) materialSecret(ctx context.Context, k *Key) (plain secret.Bytes, sealed []byte, err error) {
	label := "cardea kms material secret v1 " + k.ID
	if len(k.MaterialSecret) > 0 {
		plain, err = s.secrets.OpenSecret(ctx, label, k.MaterialSecret)
		if errors.Is(err, ErrNotOurs) { // stored, and so no mistake of the caller's
			err = broken(CodeInternal, "The key's material secret does not open.", err)
		} else {
			err = backendError(err)
		}
		return plain, k.MaterialSecret, err
	}
	plain = secret.Random(materialSecretSize)
	sealed, err = s.secrets.SealSecret(ctx, label, plain)
	return plain, sealed, backendError(err)
}
