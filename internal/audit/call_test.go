package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testKeyARN = "arn:aws:kms:eu-central-1:111122223333:key/12345678-1234-4123-8123-123456789012"

func callEntry() Entry {
	e := minimalEntry()
	e.Version = EntryVersion
	e.Who = Actor{Type: "principal", Name: "arn:aws:sts::111122223333:assumed-role/vault/node-1", Auth: "sigv4", IP: "192.0.2.7"}
	e.Op, e.PCI, e.Resource = "kms.generate_data_key", "10.2.1.1", Resource{Kind: "key", Key: testKeyARN}
	e.Call = &Call{
		Event: "GenerateDataKey", Source: "kms.amazonaws.com", Region: "eu-central-1", Account: "111122223333", ReadOnly: true,
		Type: "AssumedRole", ID: "AROAEXAMPLE:node-1", ARN: e.Who.Name, Issuer: "arn:aws:iam::111122223333:role/vault",
		Caller: "111122223333", Key: "ASIAEXAMPLE", MFA: true, Issued: testTime.Add(-time.Hour),
		Agent: "aws-sdk-go-v2/1.47.7", TLS: "TLSv1.3 TLS_AES_128_GCM_SHA256",
		Request:   []Param{{"keyId", testKeyARN}, {"keySpec", "AES_256"}},
		Response:  []Param{{"keyMaterialId", "0123456789012345678901234567890123456789012345678901234567890abc"}},
		Context:   []Param{{"purpose", ""}, {"tenant", "public"}},
		Resources: []string{testKeyARN},
	}
	return e
}

func TestCallIsWhatJSONWouldDecode(t *testing.T) {
	t.Parallel()
	want := callEntry()
	line := mustSeal(t, want).Line
	var got Entry
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v %+v, want %+v %+v", got, got.Call, want, want.Call)
	}
	own, err := Decode(line)
	if err != nil || !reflect.DeepEqual(own, want) {
		t.Errorf("got %+v, %v, want %+v", own.Call, err, want.Call)
	}
}

// TestIDsAreNotTakenForCardNumbers: ids are random, and one in some thousand looks
// like a card number.
func TestIDsAreNotTakenForCardNumbers(t *testing.T) {
	t.Parallel()
	const hex = "4111111111111111"
	for in, want := range map[string]string{
		testKeyARN: testKeyARN,
		"arn:aws:kms:x:1:key/mrk-a" + hex + "000000000000000":      "arn:aws:kms:x:1:key/mrk-a" + hex + "000000000000000",
		"a" + strings.Repeat("0", 47) + hex:                        "a" + strings.Repeat("0", 47) + hex,
		"4111-1111-1111-1111/12345678-1234-4123-8123-123456789012": "4111-11**-****-1111/12345678-1234-4123-8123-123456789012",
		"user/" + hex:                         "user/411111******1111",
		"arn:aws:iam::411111111111:user/1111": "arn:aws:iam::411111111111:user/1111", // a colon is between them
	} {
		if got := clean(in, maxName); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if s := strings.Repeat("0", 48) + hex; clean(s, maxName) == s {
		t.Error("64 digits without a letter may hide a card number and are kept")
	}
}

func TestParametersOverTheirBudgetAreCutVisibly(t *testing.T) {
	t.Parallel()
	e := callEntry()
	for i := range 100 {
		e.Call.Context = append(e.Call.Context, Param{strings.Repeat("n", i+1), strings.Repeat("v", 300)})
	}
	e.Call.Resources = []string{"a", "b", "c", "d", "e"}
	line := mustSeal(t, e).Line
	back, err := Decode(line)
	if err != nil {
		t.Fatal(err)
	}
	ps := back.Call.Context
	if n := len(ps); n < 4 || n > 8 || ps[n-1] != cutParam {
		t.Errorf("%d parameters, the last %q", n, ps[n-1])
	}
	if len(ps[2].Value) > maxName || !strings.HasSuffix(ps[2].Value, cutMark) {
		t.Errorf("value %q is not cut", ps[2].Value)
	}
	if got := back.Call.Resources; len(got) != maxResources {
		t.Errorf("resources %v", got)
	}
	if again := mustSeal(t, back).Line; !bytes.Equal(again, line) {
		t.Errorf("sealed again %q, want %q", again, line)
	}
}

func TestSealRefusesACallThatCodeGotWrong(t *testing.T) {
	t.Parallel()
	for member, spoil := range map[string]func(*Call){
		"event":  func(c *Call) { c.Event = "Not-A-Word" },
		"source": func(c *Call) { c.Source = "KMS" },
		"type":   func(c *Call) { c.Type = "" },
		"issued": func(c *Call) { c.Issued = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		e := callEntry()
		spoil(e.Call)
		_, err := e.Seal()
		if want := "invalid audit entry: member call." + member; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestNothingAClientSuppliesBreaksACall is TestNothingAClientSuppliesBreaksAnEntry
// for calls.
func TestNothingAClientSuppliesBreaksACall(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := hostileString()
		param := rapid.Custom(func(t *rapid.T) Param { return Param{s.Draw(t, "n"), s.Draw(t, "v")} })
		params := rapid.SliceOfN(param, 0, 12)
		e := testEntry()
		for _, p := range []*string{&e.RequestID, &e.Tenant, &e.Who.Name, &e.Who.IP, &e.Resource.Merchant, &e.Resource.Customer, &e.Resource.Reference, &e.Resource.Key, &e.Detail} {
			*p = s.Draw(t, "free")
		}
		e.Call = &Call{
			Event: "E", Source: "s", Type: "T", Region: s.Draw(t, "region"), Account: s.Draw(t, "account"), ID: s.Draw(t, "id"),
			ARN: s.Draw(t, "arn"), Issuer: s.Draw(t, "issuer"), Caller: s.Draw(t, "caller"), Key: s.Draw(t, "key"),
			Agent: s.Draw(t, "agent"), TLS: s.Draw(t, "tls"), Error: s.Draw(t, "error"),
			Request: params.Draw(t, "request"), Response: params.Draw(t, "response"), Context: params.Draw(t, "context"),
			Resources: rapid.SliceOfN(s, 0, 6).Draw(t, "resources"),
		}
		sealed, err := e.Seal()
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed.Line) > 8000 || bytes.IndexByte(sealed.Line, '\n') >= 0 || !json.Valid(sealed.Line) {
			t.Fatalf("%d bytes, or not one line of JSON: %q", len(sealed.Line), sealed.Line)
		}
		back, err := Decode(sealed.Line)
		if err != nil {
			t.Fatalf("%v: %q", err, sealed.Line)
		}
		if again := mustSealRapid(t, back); !bytes.Equal(again, sealed.Line) {
			t.Fatalf("sealed again %q, want %q", again, sealed.Line)
		}
	})
}

func mustSealRapid(t *rapid.T, e Entry) []byte {
	s, err := e.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return s.Line
}

// TestTheLongestCallFits: every part at its limit.
func TestTheLongestCallFits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 600)
	many := make([]Param, 200)
	for i := range many {
		many[i] = Param{"n", "v"} // small ones fill a budget best
	}
	e := testEntry()
	for _, p := range []*string{&e.RequestID, &e.Tenant, &e.Who.Name, &e.Who.IP, &e.Resource.Merchant, &e.Resource.Customer, &e.Resource.Reference, &e.Resource.Key, &e.Detail} {
		*p = long
	}
	e.Node, e.Op, e.Result, e.Who.Type, e.Who.Auth, e.Resource.Kind = long[:64], long[:64], long[:64], long[:64], long[:64], long[:64]
	e.Call = &Call{long[:64], long[:64], long, long, true, long[:64], long, long, long, long, long, true, testTime, long, long, long, many, many, many, []string{long, long, long, long, long}}
	if n := len(mustSeal(t, e).Line); n < 7800 || n > 8000 {
		t.Errorf("the longest line has %d bytes", n)
	}
}
