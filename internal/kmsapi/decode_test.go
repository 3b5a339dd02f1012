package kmsapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"cardea/internal/kms"
	"cardea/internal/kmsapi"
)

// everything has a member of each type.
type everything struct {
	kms.EncryptInput
	Limit   *int32               `json:"Limit,omitzero"`
	ValidTo time.Time            `json:"ValidTo,omitzero"`
	Blob    []byte               `json:"Blob,omitempty"`
	Word    kms.Password         `json:"Word,omitzero"`
	Tags    []kms.Tag            `json:"Tags,omitempty"`
	Limits  kms.GrantConstraints `json:"Limits,omitzero"`
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"nothing", ``, "The request body is empty: it must be a JSON object."},
		{"null", ` null `, "The request body must be a JSON object."},
		{"a list", `[]`, "The request body must be a JSON object."},
		{"a string", `"x"`, "The request body must be a JSON object."},
		{"half an object", `{"KeyId":"x"`, "The request body is not valid JSON at byte 12."},
		{"something after", `{}x`, "The request body is not valid JSON at byte 2."},
		{"two objects", `{}{}`, "The request body is not valid JSON at byte 2."},
		{"invalid UTF-8", "{\"KeyId\":\"\xff\"}", "The request body is not valid JSON at byte 10."},
		{"half a surrogate", `{"KeyId":"\ud800"}`, "The request body is not valid JSON at byte 10."},
		{"a name twice", `{"KeyId":"x","KeyId":"x"}`, "A member comes twice, at byte 13 of the request body."},
		{"an unknown name twice", `{"New":1,"New":1}`, "A member comes twice, at byte 9 of the request body."},
		{"a context key twice", `{"EncryptionContext":{"a":"b","\u0061":"c"}}`, "A member comes twice, at byte 30 of the request body."},
		{"deep", `{"New":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, "The request body nests deeper than 32 levels."},
		{"a number for text", `{"KeyId":12}`, "KeyId: NUMBER_VALUE can not be converted to String"},
		{"true for text", `{"KeyId":true}`, "KeyId: TRUE_VALUE can not be converted to String"},
		{"a list for text", `{"KeyId":[]}`, "KeyId: Start of list found where not expected"},
		{"an object for text", `{"KeyId":{}}`, "KeyId: Start of structure or map found where not expected"},
		{"text for a boolean", `{"DryRun":"true"}`, "DryRun: STRING_VALUE can not be converted to Boolean"},
		{"text for a number", `{"Limit":"12"}`, "Limit: STRING_VALUE can not be converted to Integer"},
		{"a fraction", `{"Limit":1.5}`, "Limit: NUMBER_VALUE can not be converted to Integer"},
		{"a number of 33 bits", `{"Limit":4294967296}`, "Limit: NUMBER_VALUE can not be converted to Integer"},
		{"text for a list", `{"GrantTokens":"x"}`, "GrantTokens: STRING_VALUE can not be converted to List"},
		{"a number in a list", `{"GrantTokens":[1]}`, "GrantTokens: NUMBER_VALUE can not be converted to String"},
		{"text for a map", `{"EncryptionContext":"x"}`, "EncryptionContext: STRING_VALUE can not be converted to Map"},
		{"a number in a map, whose key is not told", `{"EncryptionContext":{"4111111111111111":1}}`, "EncryptionContext: NUMBER_VALUE can not be converted to String"},
		{"text for a structure", `{"Limits":"x"}`, "Limits: STRING_VALUE can not be converted to Structure"},
		{"a number for a secret", `{"Plaintext":1}`, "Plaintext: NUMBER_VALUE can not be converted to Blob"},
		{"a list of bytes for a secret", `{"Plaintext":[1,2]}`, "Plaintext: Start of list found where not expected"},
		{"no base64", `{"Plaintext":"ab!d"}`, "Plaintext: is not base64"},
		{"base64 without padding", `{"Plaintext":"YQ"}`, "Plaintext: is not base64"},
		{"base64 with bits left over", `{"Plaintext":"YR=="}`, "Plaintext: is not base64"},
		{"base64 with line ends", `{"Plaintext":"YWJj\nYWJj"}`, "Plaintext: is not base64"},
		{"base64url", `{"Blob":"_-8="}`, "Blob: is not base64"},
		{"a number for a password", `{"Word":1}`, "Word: NUMBER_VALUE can not be converted to String"},
		{"no timestamp", `{"ValidTo":"tomorrow"}`, "ValidTo: is not a timestamp: seconds since 1970 as a number, or ISO 8601 as a string"},
		{"true for a timestamp", `{"ValidTo":true}`, "ValidTo: TRUE_VALUE can not be converted to Timestamp"},
		{"a year of five digits", `{"ValidTo":253402300800}`, "ValidTo: is not a timestamp: seconds since 1970 as a number, or ISO 8601 as a string"},
		{"before 1970", `{"ValidTo":-1}`, "ValidTo: is not a timestamp: seconds since 1970 as a number, or ISO 8601 as a string"},
	} {
		var in everything
		err := kmsapi.Decode([]byte(c.text), &in)
		e, ok := errors.AsType[*kms.Error](err)
		if !ok || e.Code != "SerializationException" || e.Message != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestDecodeAccepts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		check      func(in *everything) bool
	}{
		{"nothing of ours", ` { "New": {"a":[1,null,{"b":"c"}]}, "new" : 1 } `, func(in *everything) bool { return reflect.ValueOf(*in).IsZero() }},
		{
			"null for everything", `{"KeyId":null,"Plaintext":null,"Limit":null,"ValidTo":null,"Blob":null,"Word":null,"GrantTokens":null,"EncryptionContext":null,"DryRun":null}`,
			func(in *everything) bool {
				return !in.Plaintext.Present() && !in.Word.Present() && in.Limit == nil && in.ValidTo.IsZero() && in.Blob == nil
			},
		},
		{"an empty secret", `{"Plaintext":""}`, func(in *everything) bool { return in.Plaintext.Present() && in.Plaintext.Len() == 0 }},
		{
			"base64 with escapes", `{"Plaintext":"\u0059Q=\u003d","Blob":"\/\/\/\/"}`,
			func(in *everything) bool {
				return string(in.Plaintext.Expose()) == "a" && bytes.Equal(in.Blob, []byte{255, 255, 255})
			},
		},
		{"a password with escapes", `{"Word":"p\u0061ss\"é"}`, func(in *everything) bool { return string(in.Word.Expose()) == `pass"é` }},
		{"names in another case, which are others", `{"keyid":"x","KEYID":"y"}`, func(in *everything) bool { return in.KeyID == "" }},
		{"an empty list", `{"GrantTokens":[]}`, func(in *everything) bool { return len(in.GrantTokens) == 0 }},
		{"a time in seconds", `{"ValidTo":1767323045}`, func(in *everything) bool { return in.ValidTo.UnixMilli() == 1767323045000 }},
		{"a time with a fraction", `{"ValidTo":1767323045.6784}`, func(in *everything) bool { return in.ValidTo.UnixMilli() == 1767323045678 }},
		{"a time with an exponent", `{"ValidTo":1.767323045678E9}`, func(in *everything) bool { return in.ValidTo.UnixMilli() == 1767323045678 }},
		{"a time of ISO 8601", `{"ValidTo":"2026-01-02T04:04:05.678+01:00"}`, func(in *everything) bool { return in.ValidTo.UnixMilli() == 1767323045678 }},
		{"the deepest", `{"New":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`, func(*everything) bool { return true }},
		{"brackets in text", `{"KeyId":"` + strings.Repeat(`[{\"`, 40) + `"}`, func(in *everything) bool { return in.KeyID == strings.Repeat(`[{"`, 40) }},
	} {
		var in everything
		if err := kmsapi.Decode([]byte(c.text), &in); err != nil || !c.check(&in) {
			t.Errorf("%s: got %+v, %v", c.name, in, err)
		}
	}
}

// TestTimesComeBack has every time to the millisecond, of which JSON's numbers are
// doubles.
func TestTimesComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "ms")).UTC()
		text, err := kmsapi.Encode(&kms.ScheduleKeyDeletionOutput{DeletionDate: want})
		if err != nil {
			t.Fatal(err)
		}
		var out struct{ DeletionDate json.Number }
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		var in everything
		if err := kmsapi.Decode([]byte(`{"ValidTo":`+out.DeletionDate.String()+`}`), &in); err != nil || !in.ValidTo.Equal(want) {
			t.Fatalf("got %v, %v, want %v, from %s", in.ValidTo, err, want, text)
		}
	})
}

// FuzzDecode: what is accepted is what encoding/json reads too, and errors are the
// API's.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"KeyId":"alias/x","Plaintext":"YWJj","EncryptionContext":{"a":"b"},"GrantTokens":["x"],"DryRun":true}`))
	f.Add([]byte(`{"CiphertextBlob":"YWJj","DryRunModifiers":["IGNORE_CIPHERTEXT"],"Recipient":{"AttestationDocument":"YWJj"}}`))
	f.Add([]byte(`{"ValidTo":1767323045.678,"ImportToken":"YQ==","KeyMaterialDescription":"é\n\ud83d\ude00"}`))
	f.Add([]byte(`{"Constraints":{"EncryptionContextSubset":{"":"\u0000"}},"Operations":["Decrypt"],"New":[[{}]]}`))
	f.Add([]byte(`{"KeyStorePassword":"p\"w","KeyId":null,"Limit":1e2}`))
	f.Add([]byte(encryptBody))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, in := range []any{
			new(kms.EncryptInput), new(kms.DecryptInput), new(kms.GenerateDataKeyInput), new(kms.CreateGrantInput), new(kms.ImportKeyMaterialInput),
			new(kms.CreateCustomKeyStoreInput), new(kms.CreateKeyInput), new(kms.ListGrantsInput),
		} {
			err := kmsapi.Decode(bytes.Clone(text), in)
			if err != nil {
				e, ok := errors.AsType[*kms.Error](err)
				if !ok || e.Code != "SerializationException" || !utf8.ValidString(e.Message) || len(e.Message) > 200 {
					t.Fatalf("%T: %v", in, err)
				}
				continue
			}
			var m map[string]json.RawMessage
			if err := json.Unmarshal(text, &m); err != nil {
				t.Fatalf("%T accepts what is no object: %v", in, err)
			}
			name := reflect.ValueOf(in).Elem().FieldByName("KeyID")
			var want string
			if v, ok := m["KeyId"]; ok && name.IsValid() {
				if err := json.Unmarshal(v, &want); err != nil {
					t.Fatalf("%T: KeyId: %v", in, err)
				}
			}
			if name.IsValid() && name.String() != want {
				t.Fatalf("%T: got KeyId %q, want %q", in, name, want)
			}
		}
	})
}
