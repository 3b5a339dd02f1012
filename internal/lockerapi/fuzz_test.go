package lockerapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// FuzzDecodeBody holds our decoder against the reflective one of the same
// library: what ours takes, that takes too and finds the same in it; what ours
// refuses as no JSON, is none (or too deep).
func FuzzDecodeBody(f *testing.F) {
	for _, s := range []string{
		`{"merchant_id":"m","merchant_customer_id":"c","card":{"card_number":"4111111111111111","nick_name":null},"ttl":60}`,
		`{"merchant_id":"\u006d","merchant_customer_id":"\ud83d\ude00","enc_card_data":"x","ttl":null,"zz":[[{}]]}`,
		`{"merchant_id":"m","merchant_id":"m","merchant_customer_id":"c","enc_card_data":"x"}`,
		`{"merchant_id":"m","merchant_customer_id":"c","ttl":18446744073709551615,"enc_card_data":"x"}`,
		`{"merchant_id":"m","merchant_customer_id":"c","enc_card_data":"` + "\xff" + `"}`,
		`[]`, `{}`, `{`, ``, `{"a":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`,
	} {
		f.Add([]byte(s))
	}
	type card struct {
		Number *string `json:"card_number"`
		Name   *string `json:"name_on_card"`
		Month  *string `json:"card_exp_month"`
		Year   *string `json:"card_exp_year"`
		Brand  *string `json:"card_brand"`
		ISIN   *string `json:"card_isin"`
		Nick   *string `json:"nick_name"`
	}
	type add struct {
		Merchant  *string `json:"merchant_id"`
		Customer  *string `json:"merchant_customer_id"`
		Reference *string `json:"requestor_card_reference"`
		Card      *card   `json:"card"`
		Data      *string `json:"enc_card_data"`
		TTL       *uint64 `json:"ttl"`
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var ours addCard
		defer ours.destroy()
		fault := decodeBody(text, &ours)
		valid := jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true))
		if fault != nil {
			if fault.status == http.StatusBadRequest && valid && depth(text) <= maxDepth && !strings.Contains(fault.message, "longer than") {
				t.Fatalf("valid JSON refused: %s", fault.message)
			}
			return
		}
		if !valid {
			t.Fatal("took what is not JSON")
		}
		var theirs add
		if err := jsonv2.Unmarshal(text, &theirs, jsontext.AllowDuplicateNames(true)); err != nil {
			t.Fatalf("the reflective decoder refuses it: %v", err)
		}
		if theirs.Merchant == nil || theirs.Customer == nil || ours.merchant != *theirs.Merchant || ours.customer != *theirs.Customer {
			t.Fatal("ids differ")
		}
		if ours.hasCard != (theirs.Card != nil) || ours.hasCard && string(ours.card.in.Number.Expose()) != *theirs.Card.Number {
			t.Fatal("cards differ")
		}
		if ours.data.Present() != (theirs.Data != nil) || theirs.Data != nil && string(ours.data.Expose()) != *theirs.Data {
			t.Fatal("data differ")
		}
		if (ours.ttl == nil) != (theirs.TTL == nil) || ours.ttl != nil && *ours.ttl != *theirs.TTL {
			t.Fatal("ttl differs")
		}
	})
}

// FuzzKeepJSON: what v2 add keeps of a value is the value, compact, and keeping
// it again changes nothing.
func FuzzKeepJSON(f *testing.F) {
	for _, s := range []string{`{ "a" : [ 1.0 , "\u0041 \" \\" ] , "a" : null }`, ` 1e5 `, `"x\/y"`, "[\t{},\r\n[]]", `-0`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if !jsontext.Value(value).IsValid(jsontext.AllowDuplicateNames(true)) || depth(value) > maxDepth-1 {
			t.Skip()
		}
		body := append(append([]byte(`{"entity_id":"e","vault_id":"v","data":`), value...), '}')
		var r addData
		if fault := decodeBody(body, &r); fault != nil {
			t.Fatalf("refused: %s", fault.message)
		}
		kept := bytes.Clone(r.data.Expose())
		var want bytes.Buffer
		if err := json.Compact(&want, value); err != nil || !bytes.Equal(want.Bytes(), kept) {
			t.Fatalf("kept %d bytes, want %d (%v)", len(kept), want.Len(), err)
		}
		if again := appendCompact(nil, kept); !bytes.Equal(again, kept) {
			t.Fatal("keeping it again changes it")
		}
	})
}

// FuzzEnvelope: no text makes the envelope's parsers panic or be taken without a
// signature.
func FuzzEnvelope(f *testing.F) {
	for _, s := range []string{
		`{"header":"eyJhbGciOiJSU0EtT0FFUC0yNTYiLCJlbmMiOiJBMjU2R0NNIn0","iv":"AAAAAAAAAAAAAAAA","encryptedPayload":"AAAA","tag":"AAAAAAAAAAAAAAAAAAAAAA","encryptedKey":"AAAA"}`,
		`{"header":"eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSJ9","iv":"","encryptedPayload":"","tag":"","encryptedKey":""}`,
		`{"header":"eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSIsImVwayI6eyJrdHkiOiJFQyIsImNydiI6IlAtMjU2IiwieCI6IkFBIiwieSI6IkFBIn19","iv":"","encryptedPayload":"","tag":"","encryptedKey":""}`,
		`{"header":"eyJhbGciOiJSUzI1NiJ9","payload":"e30","signature":"AAAA"}`,
		`{"header":"eyJhbGciOiJFUzI1NiIsImlhdCI6MSwianRpIjoiMTIzNDU2NzgifQ","payload":"e30","signature":"AAAA"}`,
	} {
		f.Add([]byte(s))
	}
	keys, client := fuzzKeys(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		var jwe jweBody
		if decodeBody(text, &jwe) == nil {
			if _, _, err := keys.open(&jwe); err == nil {
				t.Fatal("an envelope opened that nobody made")
			}
		}
		var jws jwsBody
		if decodeBody(text, &jws) == nil {
			out := getBuffer()
			defer out.release()
			if _, err := jws.verify(client, out); err == nil {
				t.Fatal("a signature verified that nobody made")
			}
		}
	})
}

// FuzzHeader: a header that is taken says the same when written down again.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{"eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJFUzI1NiIsImlhdCI6MSwianRpIjoiMTIzNDU2NzgiLCJhdWQiOiJ4In0", "e30", "", "eyJ6aXAiOiJERUYifQ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHeader([]byte(text))
		if err != nil {
			return
		}
		raw, err := appendBase64(nil, []byte(text))
		if err != nil {
			t.Fatal("took what is not base64url")
		}
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil || m["alg"] != h.alg {
			t.Fatalf("alg %q differs (%v)", h.alg, err)
		}
		for _, name := range []string{"zip", "crit", "b64"} {
			if _, ok := m[name]; ok {
				t.Fatalf("took %s", name)
			}
		}
	})
}
