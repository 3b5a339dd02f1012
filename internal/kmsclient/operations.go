package kmsclient

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/secret"
)

// Limits of the API, in bytes.
const (
	// MaxPlaintext is the longest plaintext that KMS encrypts, and the longest message
	// that it makes a MAC of.
	MaxPlaintext = 4096
	// MaxBlob is the longest ciphertext.
	MaxBlob = 6144

	dataKeySize = 32
	macSize     = 32
)

// GenerateDataKey implements KMS.
func (c *Client) GenerateDataKey(ctx context.Context, k Key, encryption map[string]string) (DataKey, error) {
	var out DataKey
	err := c.call(ctx, opGenerateDataKey, k, func(ctx context.Context, w *wire, s *site) error {
		res, err := w.ask(ctx, opGenerateDataKey, &question{KeyID: s.id, KeySpec: string(types.DataKeySpecAes256), EncryptionContext: encryption})
		if err != nil {
			return err
		}
		key := secret.New(res.Plaintext)
		err = s.ofKey(res.KeyID)
		if err == nil && (key.Len() != dataKeySize || len(res.CiphertextBlob) == 0) {
			err = &Error{kind: ErrUnreachable, health: failing, cause: errNoAnswer}
		}
		if err != nil {
			key.Destroy()
			return err
		}
		out = DataKey{Plaintext: key, Blob: res.CiphertextBlob, KeyARN: s.atHome(res.KeyID)}
		return nil
	})
	return out, err
}

// Encrypt implements KMS. A plaintext that is empty or longer than MaxPlaintext is
// ErrInvalid, without a call.
func (c *Client) Encrypt(ctx context.Context, k Key, plaintext secret.Bytes, encryption map[string]string) (blob []byte, arn string, err error) {
	if err := checkLength("plaintext", plaintext.Len(), MaxPlaintext); err != nil {
		return nil, "", &Error{Op: opEncrypt.name, Key: printable(k.ID, 256), kind: ErrInvalid, cause: err}
	}
	err = c.call(ctx, opEncrypt, k, func(ctx context.Context, w *wire, s *site) error {
		res, err := w.ask(ctx, opEncrypt, &question{KeyID: s.id, Plaintext: plaintext.Expose(), EncryptionContext: encryption})
		if err != nil {
			return err
		}
		if err := s.ofKey(res.KeyID); err != nil {
			return err
		}
		if len(res.CiphertextBlob) == 0 {
			return &Error{kind: ErrUnreachable, health: failing, cause: errNoAnswer}
		}
		blob, arn = res.CiphertextBlob, s.atHome(res.KeyID)
		return nil
	})
	return blob, arn, err
}

// Decrypt implements KMS. The caller destroys the plaintext.
func (c *Client) Decrypt(ctx context.Context, k Key, blob []byte, encryption map[string]string) (secret.Bytes, error) {
	if err := checkLength("ciphertext", len(blob), MaxBlob); err != nil {
		return secret.Bytes{}, &Error{Op: opDecrypt.name, Key: printable(k.ID, 256), kind: ErrWrongContext, cause: err}
	}
	var out secret.Bytes
	err := c.call(ctx, opDecrypt, k, func(ctx context.Context, w *wire, s *site) error {
		res, err := w.ask(ctx, opDecrypt, &question{KeyID: s.id, CiphertextBlob: blob, EncryptionContext: encryption})
		if err != nil {
			return err
		}
		plaintext := secret.New(res.Plaintext)
		err = s.ofKey(res.KeyID)
		if err == nil && plaintext.Len() == 0 {
			err = &Error{kind: ErrUnreachable, health: failing, cause: errNoAnswer}
		}
		if err != nil {
			plaintext.Destroy()
			return err
		}
		out = plaintext
		return nil
	})
	return out, err
}

// ReEncrypt implements KMS. Both keys must be reached alike, by Region, endpoint
// and profile: KMS re-encrypts within a Region, under one set of credentials;
// others are ErrInvalid without a call. Replicas are not asked.
func (c *Client) ReEncrypt(ctx context.Context, from Key, blob []byte, fromContext map[string]string, to Key, toContext map[string]string) (newBlob []byte, arn string, err error) {
	refuse := func(kind, cause error) ([]byte, string, error) {
		return nil, "", &Error{Op: opReEncrypt.name, Key: printable(from.ID, 256), kind: kind, cause: cause}
	}
	if err := checkLength("ciphertext", len(blob), MaxBlob); err != nil {
		return refuse(ErrWrongContext, err)
	}
	source, err := c.route(from)
	if err != nil {
		return refuse(ErrInvalid, err)
	}
	destination, err := c.route(to)
	if err != nil {
		return refuse(ErrInvalid, fmt.Errorf("to %w", err))
	}
	target := destination.sites[0]
	if source.sites[0].name != target.name {
		return refuse(ErrInvalid, fmt.Errorf("to key %s, which is reached in another way", to.ID))
	}
	err = c.call(ctx, opReEncrypt, from, func(ctx context.Context, w *wire, s *site) error {
		res, err := w.ask(ctx, opReEncrypt, &question{
			SourceKeyID: s.id, CiphertextBlob: blob, SourceContext: fromContext,
			DestinationKeyID: target.id, DestinationContext: toContext,
		})
		if err != nil {
			return err
		}
		if err := errors.Join(s.ofKey(res.SourceKeyID), target.ofKey(res.KeyID)); err != nil {
			return err
		}
		if len(res.CiphertextBlob) == 0 {
			return &Error{kind: ErrUnreachable, health: failing, cause: errNoAnswer}
		}
		newBlob, arn = res.CiphertextBlob, target.atHome(res.KeyID)
		return nil
	})
	return newBlob, arn, err
}

// GenerateMAC implements KMS. A message that is empty or longer than MaxPlaintext is
// ErrInvalid, without a call.
func (c *Client) GenerateMAC(ctx context.Context, k Key, message []byte) ([]byte, error) {
	if err := checkLength("message", len(message), MaxPlaintext); err != nil {
		return nil, &Error{Op: opGenerateMAC.name, Key: printable(k.ID, 256), kind: ErrInvalid, cause: err}
	}
	var out []byte
	err := c.call(ctx, opGenerateMAC, k, func(ctx context.Context, w *wire, s *site) error {
		res, err := w.ask(ctx, opGenerateMAC, &question{KeyID: s.id, MACAlgorithm: string(types.MacAlgorithmSpecHmacSha256), Message: message})
		if err != nil {
			return err
		}
		if err := s.ofKey(res.KeyID); err != nil {
			return err
		}
		if len(res.MAC) != macSize {
			return &Error{kind: ErrUnreachable, health: failing, cause: errNoAnswer}
		}
		out = res.MAC
		return nil
	})
	return out, err
}

// Check implements KMS. It calls also while the key service is being left alone.
func (c *Client) Check(ctx context.Context, k Key) error {
	return c.call(ctx, opDescribeKey, k, func(ctx context.Context, w *wire, s *site) error {
		res, err := w.ask(ctx, opDescribeKey, &question{KeyID: s.id})
		if err != nil {
			return err
		}
		if res.KeyMetadata == nil {
			return &Error{kind: ErrUnreachable, health: failing, cause: errNoAnswer}
		}
		if err := s.ofKey(res.KeyMetadata.ARN); err != nil {
			return err
		}
		if state := res.KeyMetadata.KeyState; state != string(types.KeyStateEnabled) {
			return &Error{kind: ErrDisabled, health: answering, cause: fmt.Errorf("the key is %s", printable(state, 64))}
		}
		return nil
	})
}

func checkLength(what string, n, most int) error {
	if n < 1 || n > most {
		return fmt.Errorf("%s of %d bytes: must be 1 to %d", what, n, most)
	}
	return nil
}

// ofKey checks that an answer is of the key that was asked for.
func (s *site) ofKey(arn string) error {
	if !names(s.id, arn) {
		return &Error{kind: ErrWrongContext, health: answering, cause: errOtherKey}
	}
	return nil
}

// atHome is the key ARN of an answer as it is in the key's home Region, whoever
// answered: a multi-Region key is one key.
func (s *site) atHome(arn string) string {
	if strings.HasPrefix(s.id, "arn:") && !strings.HasPrefix(arn, "arn:") {
		arn = s.id
	}
	if s.region == s.home {
		return arn
	}
	return inRegion(arn, s.home)
}
