package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// TestEntryVectors holds the encoding to the lines and leaf hashes of the
// specification's vectors: one line each, then its hash.
func TestEntryVectors(t *testing.T) {
	t.Parallel()
	hostile := minimalEntry()
	hostile.Detail = "a \"quoted\\ line\r\n{\"v\":1} \u001b[31m \u2028 \u202etxt é \xff\xfe end"
	hostile.RequestID = strings.Repeat("r", 80)
	hostile.Resource = Resource{Kind: "card", Customer: "4111 1111 1111 1111", MaskedPAN: "4111111111111111"}
	var got bytes.Buffer
	for _, e := range []Entry{testEntry(), minimalEntry(), hostile, callEntry()} {
		s := mustSeal(t, e)
		got.Write(s.Line)
		got.WriteString("\n" + s.Hash.String() + "\n")
	}
	file := filepath.Join("testdata", "entries.txt")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the encoding changed; got\n%s\nwant\n%s", got.Bytes(), want)
	}
}

func TestSealIsWhatJSONWouldDecode(t *testing.T) {
	t.Parallel()
	for _, want := range []Entry{testEntry(), minimalEntry()} {
		want.Version = EntryVersion
		var got Entry
		d := json.NewDecoder(bytes.NewReader(mustSeal(t, want).Line))
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestDecodeGivesBackTheEntry(t *testing.T) {
	t.Parallel()
	want := testEntry()
	want.Time = testTime.In(time.FixedZone("CET", 3600)).Add(999 * time.Nanosecond)
	s := mustSeal(t, want)
	got, err := Decode(s.Line)
	if err != nil {
		t.Fatal(err)
	}
	want.Time = testTime
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s.Hash != tlog.RecordHash(s.Line) {
		t.Error("the hash is not the leaf hash of the line")
	}
}

func TestSealRefusesWhatCodeGotWrong(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(*Entry){
		"member v":               func(e *Entry) { e.Version = 2 },
		"member id":              func(e *Entry) { e.ID = "019a9b3c-5d2e-4f10-8a4b-0123456789ab" }, // version 4
		"member time":            func(e *Entry) { e.Time = time.Time{} },
		"member node":            func(e *Entry) { e.Node = "Node" },
		"member who.type":        func(e *Entry) { e.Who.Type = "" },
		"member who.auth":        func(e *Entry) { e.Who.Auth = "J W S" },
		"member op":              func(e *Entry) { e.Op = "card store" },
		"member pci":             func(e *Entry) { e.PCI = "10.2.1.8" },
		"member res.kind":        func(e *Entry) { e.Resource.Kind = "" },
		"member res.key_version": func(e *Entry) { e.Resource.KeyVersion = -1 },
		"member outcome":         func(e *Entry) { e.Outcome = "maybe" },
		"member result":          func(e *Entry) { e.Result = strings.Repeat("x", 65) },
	} {
		e := testEntry()
		spoil(&e)
		_, err := e.Seal()
		if !errors.Is(err, ErrInvalidEntry) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want an ErrInvalidEntry about %s", err, want)
		}
	}
}

func TestDecodeRefusesOtherEncodings(t *testing.T) {
	t.Parallel()
	full := testEntry()
	full.Detail = `é "` // é is written as it is, the quotation mark escaped
	line := string(mustSeal(t, full).Line)
	for name, change := range map[string][2]string{
		"unknown member":        {`"op":`, `"opx":`},
		"duplicate member":      {`"op":"card.store"`, `"op":"card.store","op":"card.store"`},
		"other order":           {`"outcome":"allowed","result":"stored"`, `"result":"stored","outcome":"allowed"`},
		"white space":           {`,"op"`, `, "op"`},
		"needless escape":       {`é`, `\u00e9`},
		"short escape":          {`hyperswitch`, `hyper\tswitch`},
		"escape of a surrogate": {`hyperswitch`, `hyper\ud800switch`},
		"capital escape":        {`hyperswitch`, `hyper\u001Fswitch`},
		"raw control character": {`hyperswitch`, "hyper\x01switch"},
		"raw newline":           {`hyperswitch`, "hyper\nswitch"},
		"invalid UTF-8":         {`hyperswitch`, "hyper\xffswitch"},
		"over a limit":          {`hyperswitch`, strings.Repeat("h", 256)},
		"a card number":         {`merchant_42`, `4111111111111111`},
		"an unmasked number":    {`411111******1111`, `4111111111111111`},
		"empty member":          {`"tenant":"public"`, `"tenant":""`},
		"another version":       {`{"v":1`, `{"v":2`},
		"a version too many":    {`{"v":1`, `{"v":01`},
		"time without zone":     {`.000001Z`, `.000001`},
		"time with offset":      {`.000001Z`, `.000001+00:00`},
		"nanoseconds":           {`.000001Z`, `.000001000Z`},
		"no such day":           {`2026-11-22T`, `2026-02-30T`},
		"no such second":        {`08:30:00`, `08:30:60`},
		"key version 0":         {`"key_version":3`, `"key_version":0`},
		"key version +3":        {`"key_version":3`, `"key_version":+3`},
		"key version 03":        {`"key_version":3`, `"key_version":03`},
		"key version too big":   {`"key_version":3`, `"key_version":2147483648`},
		"upper case id":         {`019a9b3c-5d2e-7f10`, `019A9B3C-5d2e-7f10`},
		"trailing bytes":        {`"}`, `"} `},
		"cut off":               {`"}`, `"`},
		"too long":              {`hyperswitch`, strings.Repeat("h", MaxLine)},
	} {
		at := strings.LastIndex(line, change[0])
		if at < 0 {
			t.Fatalf("%s: nothing to change", name)
		}
		changed := line[:at] + change[1] + line[at+len(change[0]):]
		if e, err := Decode([]byte(changed)); !errors.Is(err, ErrMalformedEntry) {
			t.Errorf("%s: got %+v, %v, want ErrMalformedEntry", name, e, err)
		}
	}
	if _, err := Decode([]byte(line)); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func TestDecodeSaysWhere(t *testing.T) {
	t.Parallel()
	line := string(mustSeal(t, minimalEntry()).Line)
	for change, want := range map[string]string{
		strings.Replace(line, `"op"`, `"po"`, 1):    `malformed audit entry: at byte 139: want },"op":"`,
		strings.Replace(line, `.open`, `.Open`, 1):  `malformed audit entry: invalid audit entry: member op`,
		strings.Replace(line, `"done"`, `"done`, 1): `malformed audit entry: at byte 187: want the end of a string`,
		strings.TrimSuffix(line, `}`) + `,"x":"y"}`: `malformed audit entry: at byte 192: want }`,
		line + "}":                                  `malformed audit entry: at byte 193: want nothing more`,
		strings.Replace(line, `2026`, `0026`, 1):    `malformed audit entry: invalid audit entry: member time`,
		strings.Replace(line, `"log.`, `"\log.`, 1): `malformed audit entry: at byte 147: want one of the escapes \" \\ \u`,
		strings.Replace(line, `T08:3`, `T25:3`, 1):  `malformed audit entry: at byte 59: want a time`,
	} {
		if _, err := Decode([]byte(change)); err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", change, err, want)
		}
	}
}

// hostile are strings as a client could choose them.
func hostileString() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringN(0, 300, -1),
		rapid.StringMatching(`[0-9 \-]{0,60}`),
		rapid.StringMatching(`([0-9]{4}[ \-]?){3,6}`),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 700), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.SliceOfN(rapid.RuneFrom([]rune{'4', '1', ' ', '-', '"', '\\', '\n', 0x7f, 0x85, 0x2028, 0x202e, 'é', '€', '𝄞'}), 0, 700),
			func(r []rune) string { return string(r) }),
	)
}

// TestNothingAClientSuppliesBreaksAnEntry: any values give a line, which is one
// line, decodes to itself, and keeps the limits.
func TestNothingAClientSuppliesBreaksAnEntry(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := hostileString()
		e := testEntry()
		e.RequestID, e.Tenant, e.Who.Name, e.Who.IP = s.Draw(t, "request"), s.Draw(t, "tenant"), s.Draw(t, "name"), s.Draw(t, "ip")
		e.Resource.Merchant, e.Resource.Customer, e.Resource.Reference = s.Draw(t, "merchant"), s.Draw(t, "customer"), s.Draw(t, "reference")
		e.Resource.MaskedPAN, e.Resource.Key, e.Detail = s.Draw(t, "pan"), s.Draw(t, "key"), s.Draw(t, "detail")
		sealed, err := e.Seal()
		if err != nil {
			t.Fatal(err)
		}
		line := sealed.Line
		if len(line) > MaxLine/2 || bytes.IndexByte(line, '\n') >= 0 || !utf8.Valid(line) || !json.Valid(line) {
			t.Fatalf("%d bytes, or not one line of JSON: %q", len(line), line)
		}
		for _, r := range string(line) {
			if isHidden(r) {
				t.Fatalf("%U is not escaped in %q", r, line)
			}
		}
		back, err := Decode(line)
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		again, err := back.Seal()
		if err != nil || !bytes.Equal(again.Line, line) {
			t.Fatalf("sealed again %q, %v, want %q", again.Line, err, line)
		}
	})
}

func TestLongValuesAreCutVisibly(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		strings.Repeat("a", 64):          strings.Repeat("a", 64),
		strings.Repeat("a", 65):          strings.Repeat("a", 56) + "…[cut]",
		strings.Repeat("é", 40):          strings.Repeat("é", 28) + "…[cut]",
		strings.Repeat("\n", 64):         strings.Repeat("\n", 9) + "…[cut]", // six bytes each when escaped
		strings.Repeat("a", 1<<20):       strings.Repeat("a", 56) + "…[cut]",
		strings.Repeat("\xff", 1<<20):    "\uFFFD",
		strings.Repeat("a", 63) + "\xff": strings.Repeat("a", 56) + "…[cut]",
	} {
		got := clean(in, 64)
		if got != want {
			t.Errorf("%.20q… of %d bytes: got %q, want %q", in, len(in), got, want)
		}
		if again := clean(got, 64); again != got {
			t.Errorf("cleaned again: got %q, want %q", again, got)
		}
	}
}

func TestValidNode(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "node-1.example": true, strings.Repeat("n", 64): true,
		"": false, strings.Repeat("n", 65): false, "Node": false, "a b": false, "a/b": false, "-a": false, "a.": false, "a\n": false, "ä": false,
	} {
		if got := ValidNode(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	full := testEntry()
	full.Detail = "\n\u2028\"\\"
	for _, e := range []Entry{full, minimalEntry(), callEntry()} {
		s, err := e.Seal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.Line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := Decode(line)
		if err != nil {
			return
		}
		s, err := e.Seal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.Line, line) {
			t.Errorf("decoded and sealed: got %q, want %q", s.Line, line)
		}
		var v any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Errorf("not JSON: %v", err)
		}
	})
}
