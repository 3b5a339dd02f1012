package kmsapi

import (
	"github.com/go-json-experiment/json"

	"cardea/internal/identity"
	"cardea/internal/kms"
)

// Routes are the operations that have a route.
func Routes() []string {
	var names []string
	for _, r := range routes() {
		names = append(names, r.name)
	}
	return names
}

// Actions are the operations of STS.
func Actions() []string { return stsActions() }

// WireCodes are the codes of requests that become no operation.
func WireCodes() []kms.Code {
	return []kms.Code{
		codeExpiredToken, codeIncomplete, codeInvalidSignature, codeMissingToken, codeSerialization, codeTooLarge, codeUnknownClient, codeUnknownOperation,
	}
}

// Statuses is the table of errors.
func Statuses() map[kms.Code]int { return statuses }

// QueryStatuses is that of STS.
func QueryStatuses() map[identity.Code]int { return queryStatuses }

func EncodeError(e *kms.Error) string {
	b := getBuffer()
	defer b.release()
	encodeError(b, e)
	return string(b.b)
}

func EncodeQueryError(message string) string {
	b := getBuffer()
	defer b.release()
	encodeQueryError(b, &identity.Error{Code: identity.CodeValidation, Message: message}, 400, "id")
	return string(b.b)
}

func AnswerTo(err error) (code kms.Code, message string, status int) {
	e, status, _ := answerTo(err)
	return e.Code, e.Message, status
}

func Encode(out any) (string, error) {
	b := getBuffer()
	defer b.release()
	err := encode(b, out)
	return string(b.b), err
}

func Decode(text []byte, in any) error { return decode(text, in) }

// DecodeStrictly is Decode by reflection, which refuses unknown members.
func DecodeStrictly(text []byte, in any) error {
	return json.Unmarshal(text, in, decodeOptions, json.RejectUnknownMembers(true))
}

func Wipe(v any) { wipe(v) }

func EncodeOnly(out any) {
	b := getBuffer()
	defer b.release()
	if err := encode(b, out); err != nil {
		panic(err)
	}
}
