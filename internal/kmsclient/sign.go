package kmsclient

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

var (
	opSign         = operation{name: "Sign", elsewhere: true}
	opGetPublicKey = operation{name: "GetPublicKey", elsewhere: true}
)

// SignEd25519 signs a message under a key of spec ECC_NIST_EDWARDS25519: Ed25519 of
// RFC 8032 over the message itself, which KMS calls ED25519_SHA_512 with message type
// RAW. (ED25519_PH_SHA_512 signs a digest, which is another signature.) A message that
// is empty or longer than MaxPlaintext is ErrInvalid, without a call. Whether the
// signature verifies is for the caller, who knows the public key.
func (c *Client) SignEd25519(ctx context.Context, k Key, message []byte) ([]byte, error) {
	if err := checkLength("message", len(message), MaxPlaintext); err != nil {
		return nil, &Error{Op: opSign.name, Key: printable(k.ID, 256), kind: ErrInvalid, cause: err}
	}
	var out []byte
	err := c.call(ctx, opSign, k, func(ctx context.Context, w *wire, s *site) error {
		res, err := w.ask(ctx, opSign, &question{
			KeyID: s.id, Message: message, MessageType: string(types.MessageTypeRaw), SigningAlgorithm: string(types.SigningAlgorithmSpecEd25519Sha512),
		})
		if err != nil {
			return err
		}
		if err := s.ofKey(res.KeyID); err != nil {
			return err
		}
		if len(res.Signature) != ed25519.SignatureSize {
			return &Error{kind: ErrUnreachable, health: failing, cause: errNoAnswer}
		}
		out = res.Signature
		return nil
	})
	return out, err
}

// PublicEd25519 is the public key of such a key. A key of another spec or usage is
// ErrInvalid.
func (c *Client) PublicEd25519(ctx context.Context, k Key) (ed25519.PublicKey, error) {
	var out ed25519.PublicKey
	err := c.call(ctx, opGetPublicKey, k, func(ctx context.Context, w *wire, s *site) error {
		res, err := w.ask(ctx, opGetPublicKey, &question{KeyID: s.id})
		if err != nil {
			return err
		}
		if err := s.ofKey(res.KeyID); err != nil {
			return err
		}
		if res.KeySpec != string(types.KeySpecEccNistEdwards25519) || res.KeyUsage != string(types.KeyUsageTypeSignVerify) {
			return &Error{kind: ErrInvalid, health: answering, cause: fmt.Errorf("the key is of spec %s and usage %s, not %s and %s",
				printable(res.KeySpec, 64), printable(res.KeyUsage, 64), types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify)}
		}
		public, err := x509.ParsePKIXPublicKey(res.PublicKey)
		key, ok := public.(ed25519.PublicKey)
		if err != nil || !ok {
			return &Error{kind: ErrInvalid, health: answering, cause: errors.New("the public key in the answer is not one of Ed25519")}
		}
		out = key
		return nil
	})
	return out, err
}
