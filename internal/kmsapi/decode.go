package kmsapi

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"cardea/internal/kms"
	"cardea/internal/secret"
)

// maxDepth is how deep a body may nest. The API needs three levels; more are for
// members of later versions, which are skipped.
const maxDepth = 32

// decodeOptions say how a request's JSON becomes a struct of package kms. Names are
// case-sensitive and come once; a member that is unknown, of a later version of
// the API, is skipped; null is as good as absent. Blobs are base64 with padding.
var decodeOptions = json.WithUnmarshalers(json.JoinUnmarshalers(
	json.UnmarshalFromFunc(decodeSecret),
	json.UnmarshalFromFunc(decodeBlob),
	json.UnmarshalFromFunc(decodePassword),
	json.UnmarshalFromFunc(decodeTime),
))

// decode fills in from text, which must be one JSON object. Errors name members,
// never values.
func decode(text []byte, in any) error {
	if tooDeep(text) {
		return refuse(codeSerialization, "The request body nests deeper than "+strconv.Itoa(maxDepth)+" levels.")
	}
	if len(text) == 0 {
		return refuse(codeSerialization, "The request body is empty: it must be a JSON object.")
	}
	err := json.Unmarshal(text, in, decodeOptions)
	if err == nil {
		if bytes.TrimLeft(text, " \t\r\n")[0] != '{' { // null
			return refuse(codeSerialization, "The request body must be a JSON object.")
		}
		return nil
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		return refuse(codeSerialization, semanticText(e))
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(e, jsontext.ErrDuplicateName) {
			return refuse(codeSerialization, "A member comes twice, at byte "+strconv.FormatInt(e.ByteOffset, 10)+" of the request body.")
		}
		return refuse(codeSerialization, "The request body is not valid JSON at byte "+strconv.FormatInt(e.ByteOffset, 10)+".")
	}
	return refuse(codeSerialization, "The request body is not valid JSON.")
}

// tooDeep reports whether text nests deeper than maxDepth. It may say so of some
// that are not JSON.
func tooDeep(text []byte) bool {
	if bytes.Count(text, []byte{'{'})+bytes.Count(text, []byte{'['}) <= maxDepth {
		return false
	}
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// typeError is a value of the wrong type.
type typeError struct{ text string }

func (e *typeError) Error() string { return e.text }

var (
	errBase64 = &typeError{"is not base64"}
	errTime   = &typeError{"is not a timestamp: seconds since 1970 as a number, or ISO 8601 as a string"}
)

// wrongKind is the error for a value that is not what a member has, in the words
// of AWS.
func wrongKind(got jsontext.Kind, want string) *typeError {
	switch got {
	case jsontext.KindBeginArray:
		return &typeError{"Start of list found where not expected"}
	case jsontext.KindBeginObject:
		return &typeError{"Start of structure or map found where not expected"}
	case jsontext.KindString:
		return &typeError{"STRING_VALUE can not be converted to " + want}
	case jsontext.KindNumber:
		return &typeError{"NUMBER_VALUE can not be converted to " + want}
	case jsontext.KindTrue:
		return &typeError{"TRUE_VALUE can not be converted to " + want}
	case jsontext.KindFalse:
		return &typeError{"FALSE_VALUE can not be converted to " + want}
	}
	return &typeError{"the value can not be converted to " + want}
}

// semanticText tells which member is wrong. Of a map and a list only the name is
// told, since a map's keys are the client's.
func semanticText(e *json.SemanticError) string {
	member := strings.TrimPrefix(string(e.JSONPointer), "/")
	member, _, _ = strings.Cut(member, "/")
	if member == "" {
		return "The request body must be a JSON object."
	}
	t, ok := errors.AsType[*typeError](e.Err)
	if !ok {
		t = wrongKind(e.JSONKind, wireType(e.GoType))
	}
	return member + ": " + t.text
}

// wireType is what AWS calls a type.
func wireType(t reflect.Type) string {
	if t == nil {
		return "the type of the member"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "String"
	case reflect.Bool:
		return "Boolean"
	case reflect.Int32, reflect.Int, reflect.Int64:
		return "Integer"
	case reflect.Slice:
		return "List"
	case reflect.Map:
		return "Map"
	case reflect.Struct:
		return "Structure"
	default:
		return "the type of the member"
	}
}

// readString reads a string and returns it with its quotes; nil is null.
func readString(d *jsontext.Decoder, want string) (jsontext.Value, error) {
	v, err := d.ReadValue()
	switch {
	case err != nil:
		return nil, err
	case v.Kind() == jsontext.KindNull:
		return nil, nil
	case v.Kind() != jsontext.KindString:
		return nil, wrongKind(v.Kind(), want)
	}
	return v, nil
}

var strict = base64.StdEncoding.Strict()

// unbase64 decodes a quoted string into memory of its own, of the exact size, so
// that no other copy is made.
func unbase64(v jsontext.Value) ([]byte, error) {
	text := []byte(v[1 : len(v)-1])
	if bytes.ContainsAny(text, "\\\r\n") { // the decoder would skip line ends
		unquoted, err := jsontext.AppendUnquote(make([]byte, 0, len(text)), v)
		defer secret.Wipe(unquoted)
		if err != nil || bytes.ContainsAny(unquoted, "\r\n") {
			return nil, errBase64
		}
		text = unquoted
	}
	out := make([]byte, strict.DecodedLen(len(text)))
	n, err := strict.Decode(out, text)
	if err != nil {
		secret.Wipe(out)
		return nil, errBase64
	}
	return out[:n], nil
}

func decodeSecret(d *jsontext.Decoder, into *secret.Bytes) error {
	v, err := readString(d, "Blob")
	if v == nil {
		return err
	}
	b, err := unbase64(v)
	if err != nil {
		return err
	}
	*into = secret.New(b)
	return nil
}

func decodeBlob(d *jsontext.Decoder, into *[]byte) error {
	v, err := readString(d, "Blob")
	if v == nil {
		*into = nil
		return err
	}
	*into, err = unbase64(v)
	return err
}

// decodePassword reads text that is nobody's to see.
func decodePassword(d *jsontext.Decoder, into *kms.Password) error {
	v, err := readString(d, "String")
	if v == nil {
		return err
	}
	// Unquoted text is never longer, so that nothing is left behind by growing.
	text, err := jsontext.AppendUnquote(make([]byte, 0, len(v)), v)
	into.Bytes = secret.New(text)
	return err
}

// decodeTime reads seconds since 1970 with a fraction, to the millisecond, or ISO
// 8601.
func decodeTime(d *jsontext.Decoder, into *time.Time) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case jsontext.KindNull:
		*into = time.Time{}
		return nil
	case jsontext.KindNumber:
		s, err := strconv.ParseFloat(string(v), 64)
		ms := math.Round(s * 1000)
		if err != nil || ms < minTime || ms > maxTime {
			return errTime
		}
		*into = time.UnixMilli(int64(ms)).UTC()
		return nil
	case jsontext.KindString:
		const longest = len(`"2006-01-02T15:04:05.999999999-07:00"`)
		if len(v) > longest {
			return errTime
		}
		t, err := time.Parse(time.RFC3339, string(v[1:len(v)-1]))
		if err != nil || t.UnixMilli() < minTime || t.UnixMilli() > maxTime {
			return errTime
		}
		*into = t.UTC().Truncate(time.Millisecond)
		return nil
	}
	return wrongKind(v.Kind(), "Timestamp")
}

// The times that can be written down, in milliseconds since 1970: to the end of
// the year 9999.
const (
	minTime = 0
	maxTime = 253402300799999
)
