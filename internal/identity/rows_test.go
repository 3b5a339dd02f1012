package identity

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// rowSamples has a body of each kind.
func rowSamples() map[Kind]body {
	at := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	const doc = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	return map[Kind]body{
		kindAccount: &accountBody{V: 1, ID: "111122223333", Alias: "pay", Created: at},
		kindAlias:   &accountBody{V: 1, ID: "111122223333"},
		kindUser: &entity{
			V: 1, Name: "Bob", ID: "AIDA1", Path: "/a/", Created: at, Tags: []tagBody{{"k", "v"}}, Policies: []policyBody{{"p", doc}}, Boundary: doc,
			NotBefore: at, Groups: []string{"g"}, Keys: []string{"AKIA1"}, Devices: []string{"d"},
		},
		kindRole: &entity{
			V: 1, Name: "app", ID: "AROA1", Path: "/", Created: at, Trust: doc, MaxSession: 3600, Description: "é\n",
			Trusted: []trustedBody{{"arn:aws:iam::111122223333:user/a/Bob", "AIDA1"}},
		},
		kindGroup:     &entity{V: 1, Name: "g", ID: "AGPA1", Path: "/", Created: at, Policies: []policyBody{{"p", doc}}},
		kindMember:    &memberBody{V: 1, Group: "g", User: "Bob"},
		kindDevice:    &deviceBody{V: 1, Name: "d", User: "Bob", Secret: []byte{1, 2}, Created: at, Used: 59},
		kindAccessKey: &keyBody{V: 1, Account: "111122223333", User: "Bob", UserID: "AIDA1", Secret: []byte{1}, Active: true, Created: at, Locked: at},
		kindSession: &sessionBody{
			V: 1, Account: "111122223333", Kind: kindRole, Of: "app", OfID: "AROA1", Name: "s1", Token: bytes.Repeat([]byte{7}, 32), Secret: []byte{1},
			Issued: at, MFA: at, Policies: []string{doc}, Tags: []tagBody{{"k", "v"}}, Transitive: []string{"k"}, Source: "bob",
		},
	}
}

// emptyBody is what a row of the kind is decoded into.
func emptyBody(kind Kind) body {
	switch kind {
	case kindAccount, kindAlias:
		return new(accountBody)
	case kindMember:
		return new(memberBody)
	case kindDevice:
		return new(deviceBody)
	case kindAccessKey:
		return new(keyBody)
	case kindSession:
		return new(sessionBody)
	default:
		return new(entity)
	}
}

func TestRowsKeepEverything(t *testing.T) {
	t.Parallel()
	samples := rowSamples()
	for _, kind := range Kinds() {
		b := samples[kind]
		if b == nil {
			t.Errorf("%s: no sample", kind)
			continue
		}
		data, err := encodeBody(b)
		if err != nil {
			t.Fatal(err)
		}
		again := emptyBody(kind)
		if err := decodeBody(kind, data, again); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if second, err := encodeBody(again); err != nil || !bytes.Equal(data, second) {
			t.Errorf("%s: got %s, want %s", kind, second, data)
		}
	}
}

// TestRowsAreAsEver compares with the bytes that version 1 has had from the first:
// rows that are stored must be read by every later version.
func TestRowsAreAsEver(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/rows_v1.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, kind := range Kinds() {
		data, err := encodeBody(rowSamples()[kind])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s %s\n", kind, data)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%swant\n%s", &got, want)
	}
}

func TestRowsAreReadStrictly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind       Kind
		body, want string
	}{
		{kindMember, `{"v":1,"group":"g","user":"u"}`, ""},
		{kindMember, `{"v":2,"group":"g","user":"u"}`, "version 2 is unknown"},
		{kindMember, `{"group":"g","user":"u"}`, "version 0 is unknown"},
		{kindMember, `{"v":1,"group":"g","user":"u","more":1}`, "unknown object member"},
		{kindMember, `{"v":1,"group":"g","user":"u","user":"u"}`, "duplicate"},
		{kindMember, `{"v":1,"Group":"g","user":"u"}`, "unknown object member"},
		{kindMember, `{"v":1,"group":"g","user":"u"} {}`, "after top-level value"},
		{kindMember, `{"v":1,"group":"g"`, "EOF"},
		{kindMember, `{"v":1,"group":1,"user":"u"}`, "unmarshal JSON number"},
		{kindMember, `{"v":1,"group":"g"}`, "no group or user"},
		{kindMember, `{"v":1,"group":"` + strings.Repeat("g", maxBody) + `","user":"u"}`, "longer than 262144 bytes"},
		{kindAccount, `{"v":1,"id":"12"}`, "no account id"},
		{kindUser, `{"v":1,"name":"a/b","id":"x","path":"/"}`, "no name, id or path"},
		{kindGroup, `{"v":1,"name":"g","id":"x","path":"/","keys":["k"]}`, "it has members of a user"},
		{kindUser, `{"v":1,"name":"g","id":"x","path":"/","trust":"{}"}`, "trust policy and session duration are those of roles"},
		{kindRole, `{"v":1,"name":"g","id":"x","path":"/","max_session":3600}`, "trust policy and session duration are those of roles"},
		{kindGroup, `{"v":1,"name":"g","id":"x","path":"/","boundary":"{}"}`, "a group has neither tags nor a boundary"},
		{kindUser, `{"v":1,"name":"g","id":"x","path":"/","policies":[{"name":"b","document":""},{"name":"a","document":""}]}`, "its policies are not sorted"},
		{kindDevice, `{"v":1,"name":"d","user":"u","secret":""}`, "no name, user or secret"},
		{kindDevice, `{"v":1,"name":"d","user":"u","secret":"!"}`, "base64"},
		{kindAccessKey, `{"v":1,"account":"111122223333","user":"u","user_id":"","secret":"AA=="}`, "no account, user or secret"},
		{kindSession, `{"v":1,"account":"111122223333","of":"u","of_id":"x","secret":"AA==","token":"AA=="}`, "no account, identity, secret or token"},
		{
			kindSession, `{"v":1,"account":"111122223333","kind":"user","of":"u","of_id":"x","secret":"AA==","token":"` + strings.Repeat("A", 43) + `="}`,
			"neither of a role nor of a user",
		},
	} {
		err := decodeBody(c.kind, []byte(c.body), emptyBody(c.kind))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %.60s: got %v, want %q", c.kind, c.body, err, c.want)
		}
	}
}

// FuzzDecodeRow: what is read is written so that the same is read again.
func FuzzDecodeRow(f *testing.F) {
	kinds := Kinds()
	for i, kind := range kinds {
		data, err := encodeBody(rowSamples()[kind])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), data)
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		kind := kinds[int(which)%len(kinds)]
		b := emptyBody(kind)
		if decodeBody(kind, data, b) != nil {
			return
		}
		first, err := encodeBody(b)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again := emptyBody(kind)
		if err := decodeBody(kind, first, again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if second, err := encodeBody(again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("got %s, want %s", second, first)
		}
	})
}

func TestIDsLookLikeAWSs(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 200 {
		for _, id := range []string{newKeyID(prefixAccessKey), newKeyID(prefixSession), newEntityID(prefixUser), newAccountID()} {
			if seen[id] {
				t.Errorf("%s twice", id)
			}
			seen[id] = true
		}
	}
	for id := range seen {
		if len(id) == 12 && !isAccount(id) || len(id) == 20 && !isKeyID(id) {
			t.Errorf("got %s", id)
		}
	}
}

func TestSnake(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"CreateUser": "create_user", "EnableMFADevice": "enable_mfa_device", "AssumeRole": "assume_role", "ValidationError": "validation_error",
		"InvalidClientTokenId": "invalid_client_token_id", "ListMFADevices": "list_mfa_devices",
	} {
		if got := snake(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
