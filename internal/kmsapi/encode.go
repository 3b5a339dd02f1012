package kmsapi

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"cardea/internal/kms"
	"cardea/internal/secret"
)

// encodeOptions say how a struct of package kms becomes a response. There is none
// for secret.Bytes: what has secrets has an encoder of its own below, which makes
// no copies, and secret.Bytes refuses every other.
var encodeOptions = json.WithMarshalers(json.JoinMarshalers(
	json.MarshalToFunc(encodeTime),
))

// encode appends a response.
func encode(b *buffer, out any) error {
	o := object{b: b}
	switch r := out.(type) {
	case *kms.EncryptOutput:
		o.blob("CiphertextBlob", r.CiphertextBlob)
		o.text("EncryptionAlgorithm", string(r.EncryptionAlgorithm))
		o.text("KeyId", r.KeyID)
	case *kms.DecryptOutput:
		o.blob("CiphertextForRecipient", r.CiphertextForRecipient)
		o.text("EncryptionAlgorithm", string(r.EncryptionAlgorithm))
		o.text("KeyId", r.KeyID)
		o.text("KeyMaterialId", r.KeyMaterialID)
		o.secret("Plaintext", r.Plaintext)
	case *kms.GenerateDataKeyOutput:
		o.blob("CiphertextBlob", r.CiphertextBlob)
		o.blob("CiphertextForRecipient", r.CiphertextForRecipient)
		o.text("KeyId", r.KeyID)
		o.text("KeyMaterialId", r.KeyMaterialID)
		o.secret("Plaintext", r.Plaintext)
	case *kms.GenerateDataKeyPairOutput:
		o.blob("CiphertextForRecipient", r.CiphertextForRecipient)
		o.text("KeyId", r.KeyID)
		o.text("KeyMaterialId", r.KeyMaterialID)
		o.text("KeyPairSpec", string(r.KeyPairSpec))
		o.blob("PrivateKeyCiphertextBlob", r.PrivateKeyCiphertextBlob)
		o.secret("PrivateKeyPlaintext", r.PrivateKeyPlaintext)
		o.blob("PublicKey", r.PublicKey)
	case *kms.GenerateRandomOutput:
		o.blob("CiphertextForRecipient", r.CiphertextForRecipient)
		o.secret("Plaintext", r.Plaintext)
	case *kms.DeriveSharedSecretOutput:
		o.blob("CiphertextForRecipient", r.CiphertextForRecipient)
		o.text("KeyAgreementAlgorithm", string(r.KeyAgreementAlgorithm))
		o.text("KeyId", r.KeyID)
		o.text("KeyOrigin", string(r.KeyOrigin))
		o.secret("SharedSecret", r.SharedSecret)
	default:
		return json.MarshalWrite(b, out, encodeOptions)
	}
	o.end()
	return nil
}

// object writes a JSON object. Empty members are left out.
type object struct {
	b    *buffer
	some bool
}

func (o *object) name(name string) {
	if o.some {
		o.b.text(`,"`)
	} else {
		o.b.text(`{"`)
		o.some = true
	}
	o.b.text(name)
	o.b.text(`":`)
}

func (o *object) text(name, value string) {
	if value != "" {
		o.name(name)
		o.b.quote(value)
	}
}

func (o *object) blob(name string, value []byte) {
	if len(value) > 0 {
		o.name(name)
		o.b.base64(value)
	}
}

// secret writes one that is there, also if it is empty: a plaintext may be.
func (o *object) secret(name string, value secret.Bytes) {
	if value.Present() {
		o.name(name)
		o.b.base64(value.Expose())
	}
}

func (o *object) end() {
	if !o.some {
		o.b.text("{")
	}
	o.b.text("}")
}

// encodeTime writes seconds since 1970 with up to three decimals.
func encodeTime(e *jsontext.Encoder, t time.Time) error {
	return e.WriteValue(appendTime(e.AvailableBuffer(), t))
}

func appendTime(b []byte, t time.Time) []byte {
	ms := t.UnixMilli()
	if ms < 0 { // before 1970; no time of ours is
		ms = 0
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if f := ms % 1000; f != 0 {
		b = append(b, '.', byte('0'+f/100))
		if f%100 != 0 {
			b = append(b, byte('0'+f/10%10))
		}
		if f%10 != 0 {
			b = append(b, byte('0'+f%10))
		}
	}
	return b
}
