package lockerapi

import (
	"github.com/go-json-experiment/json/jsontext"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// maxEscape is how many bytes one byte of text can become in a JSON string.
const maxEscape = 6

// quote appends s as a JSON string. What is not UTF-8 cannot come from a client
// and is an error.
func quote[T ~string | ~[]byte](b *buffer, s T) error {
	if plainText(s) {
		b.grow(len(s) + 2)
		b.b = append(b.b, '"')
		b.b = append(b.b, s...)
		b.b = append(b.b, '"')
		return nil
	}
	b.grow(maxEscape*len(s) + 2)
	var err error
	b.b, err = jsontext.AppendQuote(b.b, s)
	return err
}

// plainText reports whether s stands in a JSON string as it is.
func plainText[T ~string | ~[]byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// nullable appends a secret text, or null if it is not there.
func nullable(b *buffer, s secret.Bytes) error {
	if !s.Present() {
		b.text("null")
		return nil
	}
	return quote(b, s.Expose())
}

func encodeError(b *buffer, a answer) {
	b.text(`{"code":"`)
	b.text(a.code)
	b.text(`","message":`)
	quote(b, a.message) //nolint:errcheck // messages are ours
	b.text(`,"data":null}`)
}

func encodeStored(b *buffer, r vault.StoreCardResult) error {
	b.text(`{"status":"Ok","payload":{"card_reference":`)
	if err := quote(b, r.Reference); err != nil {
		return err
	}
	b.text(`,"duplication_check":`)
	if r.Duplication == vault.NotDuplicated {
		b.text("null")
	} else if err := quote(b, r.Duplication); err != nil {
		return err
	}
	b.text(`,"dedup":null}}`)
	return nil
}

func encodeCard(b *buffer, s *vault.StoredCard) error {
	if s.Card == nil {
		b.text(`{"status":"Ok","payload":{"card":null,"enc_card_data":`)
		if err := nullable(b, s.Data); err != nil {
			return err
		}
		b.text("}}")
		return nil
	}
	c := s.Card
	b.text(`{"status":"Ok","payload":{"card":`)
	for _, f := range [...]struct {
		name  string
		value secret.Bytes
	}{
		{`{"card_number":`, c.Number.Received()},
		{`,"name_on_card":`, c.Name},
		{`,"card_exp_month":`, c.ExpMonth},
		{`,"card_exp_year":`, c.ExpYear},
		{`,"card_brand":`, c.Brand},
		{`,"card_isin":`, c.ISIN},
		{`,"nick_name":`, c.Nick},
	} {
		b.text(f.name)
		if err := nullable(b, f.value); err != nil {
			return err
		}
	}
	b.text(`},"enc_card_data":null}}`)
	return nil
}

// encodeMember writes an object with one member.
func encodeMember(b *buffer, name, value string) error {
	b.text("{")
	if err := quote(b, name); err != nil {
		return err
	}
	b.text(":")
	if err := quote(b, value); err != nil {
		return err
	}
	b.text("}")
	return nil
}
