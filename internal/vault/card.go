package vault

import (
	"encoding/binary"
	"errors"
	"fmt"

	"cardea/internal/pan"
	"cardea/internal/secret"
)

// Card is a card with what belongs to it. Number is always there; a field that
// was null or missing is the zero secret.
type Card struct {
	Number   pan.PAN
	Name     secret.Bytes // as on the card
	ExpMonth secret.Bytes
	ExpYear  secret.Bytes
	Brand    secret.Bytes
	ISIN     secret.Bytes // issuer identification number as the client tells it
	Nick     secret.Bytes // the cardholder's name for it
}

// MaxData is the longest opaque data or JSON value in bytes.
const MaxData = 1 << 20

// MaxCardField is the longest field of a card in bytes.
const MaxCardField = 1024

// cardVersion is the first byte of an encoded card, docs/spec/card.md.
const cardVersion = 1

// absent is the length of a field that is not there.
const absent = 0xFFFF

var errCardEncoding = errors.New("not an encoded card")

func (c *Card) optional() [6]*secret.Bytes {
	return [6]*secret.Bytes{&c.Name, &c.ExpMonth, &c.ExpYear, &c.Brand, &c.ISIN, &c.Nick}
}

// validate checks the lengths; the number was checked when it was parsed.
func (c *Card) validate() error {
	names := [6]string{"name_on_card", "card_exp_month", "card_exp_year", "card_brand", "card_isin", "nick_name"}
	for i, f := range c.optional() {
		if f.Len() > MaxCardField {
			return &ValidationError{Field: names[i], Reason: fmt.Sprintf("longer than %d bytes", MaxCardField)}
		}
	}
	return nil
}

// encode is the plaintext that is sealed. Equal cards have equal encodings.
func (c *Card) encode() secret.Bytes {
	fields := c.optional()
	number := c.Number.Received()
	n := 1 + 2 + number.Len()
	for _, f := range fields {
		n += 2 + f.Len()
	}
	b := append(make([]byte, 0, n), cardVersion)
	b = appendField(b, number)
	for _, f := range fields {
		b = appendField(b, *f)
	}
	return secret.New(b)
}

func appendField(b []byte, f secret.Bytes) []byte {
	if !f.Present() {
		return binary.BigEndian.AppendUint16(b, absent)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(f.Len()))
	return append(b, f.Expose()...)
}

// decodeCard is the inverse of encode; it accepts nothing else.
func decodeCard(plaintext secret.Bytes) (*Card, error) {
	b := plaintext.Expose()
	if len(b) == 0 || b[0] != cardVersion {
		return nil, errCardEncoding
	}
	b = b[1:]
	var c Card
	number, b, err := cutField(b)
	if err != nil {
		return nil, err
	}
	c.Number, err = pan.Parse(number.Expose())
	number.Destroy()
	if err != nil {
		return nil, errCardEncoding
	}
	for _, f := range c.optional() {
		if *f, b, err = cutField(b); err != nil {
			c.Destroy()
			return nil, err
		}
	}
	if len(b) != 0 || c.validate() != nil {
		c.Destroy()
		return nil, errCardEncoding
	}
	return &c, nil
}

func cutField(b []byte) (secret.Bytes, []byte, error) {
	if len(b) < 2 {
		return secret.Bytes{}, nil, errCardEncoding
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if n == absent {
		return secret.Bytes{}, b, nil
	}
	if n > len(b) {
		return secret.Bytes{}, nil, errCardEncoding
	}
	return secret.Copy(b[:n]), b[n:], nil
}

// Destroy wipes the card.
func (c *Card) Destroy() {
	if c == nil {
		return
	}
	c.Number.Destroy()
	for _, f := range c.optional() {
		f.Destroy()
	}
}
