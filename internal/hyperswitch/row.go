package hyperswitch

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"cardea/internal/secret"
)

// Card is a stored card. A field that is null is the zero secret.
type Card struct {
	Number   secret.Bytes `json:"card_number"`
	Name     secret.Bytes `json:"name_on_card"`
	ExpMonth secret.Bytes `json:"card_exp_month"`
	ExpYear  secret.Bytes `json:"card_exp_year"`
	Brand    secret.Bytes `json:"card_brand"`
	ISIN     secret.Bytes `json:"card_isin"`
	Nick     secret.Bytes `json:"nick_name"`
}

// Payload is what a row of the locker table holds: a card or opaque data.
type Payload struct {
	Card *Card
	Data secret.Bytes
}

// Destroy wipes the payload.
func (p *Payload) Destroy() {
	if p == nil {
		return
	}
	p.Data.Destroy()
	if c := p.Card; c != nil {
		for _, f := range []secret.Bytes{c.Number, c.Name, c.ExpMonth, c.ExpYear, c.Brand, c.ISIN, c.Nick} {
			f.Destroy()
		}
	}
}

// ErrNotPayload says that a row's plaintext is not what the peer writes. It says
// no more: the text would be a card's.
var ErrNotPayload = errors.New("plaintext is neither CardData nor EncData")

// ParsePayload reads the plaintext of a locker row: {"CardData":{…}} or
// {"EncData":"…"}. Members that later versions may add to a card are ignored. The
// caller destroys both.
func ParsePayload(plaintext secret.Bytes) (*Payload, error) {
	var row struct {
		Card *Card         `json:"CardData"`
		Data *secret.Bytes `json:"EncData"`
	}
	if err := json.Unmarshal(plaintext.Expose(), &row); err != nil {
		return nil, ErrNotPayload // its own error may quote the text
	}
	switch {
	case row.Card != nil && row.Data == nil && row.Card.Number.Present():
		return &Payload{Card: row.Card}, nil
	case row.Data != nil && row.Card == nil && row.Data.Present():
		return &Payload{Data: *row.Data}, nil
	}
	return nil, ErrNotPayload
}

// CheckValue refuses the plaintext of a vault row that is not one JSON value.
func CheckValue(plaintext secret.Bytes) error {
	if !jsontext.Value(plaintext.Expose()).IsValid() {
		return fmt.Errorf("plaintext is not a JSON value")
	}
	return nil
}

// Elsewhere reports whether a row's ciphertext is that of an external key manager,
// which only that service opens: the text "v1:…", base64 to its end. Of the ciphertexts
// that begin with a random nonce, one in two million begins like that, too.
func Elsewhere(blob []byte) bool {
	return len(blob) > 3 && blob[0] == 'v' && blob[1] >= '1' && blob[1] <= '9' && blob[2] == ':' && !slices.ContainsFunc(blob[3:], notBase64)
}

func notBase64(c byte) bool {
	return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("+/-_=", rune(c))
}
