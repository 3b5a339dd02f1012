package vault_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/custodian"
	"cardea/internal/keymanager"
	"cardea/internal/pan"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

const canary = "canary-5b1c-do-not-print"

// typesOf are the exported types of the packages that handle secrets. Interfaces
// stand for whatever implements them.
var typesOf = map[string][]reflect.Type{
	"pan": {reflect.TypeFor[pan.PAN]()},
	"keymanager": {
		reflect.TypeFor[keymanager.Envelope](), reflect.TypeFor[keymanager.LocalOptions](), reflect.TypeFor[keymanager.MasterKeys](),
		reflect.TypeFor[keymanager.Inventory](), reflect.TypeFor[keymanager.Wrapper](), reflect.TypeFor[keymanager.Options](),
		reflect.TypeFor[keymanager.KMSKeys](), reflect.TypeFor[keymanager.KMSTenants](), reflect.TypeFor[keymanager.HSM](), reflect.TypeFor[keymanager.HSMKey](), reflect.TypeFor[keymanager.HSMTenants](),
		reflect.TypeFor[keymanager.ExternalTenants](), reflect.TypeFor[keymanager.Service](), reflect.TypeFor[keymanager.ServiceOptions](),
		reflect.TypeFor[keymanager.Direct](), reflect.TypeFor[keymanager.DirectOptions](), reflect.TypeFor[keymanager.Router](),
	},
	"custodian": {
		reflect.TypeFor[custodian.Part](), reflect.TypeFor[custodian.Keeper](), reflect.TypeFor[custodian.Seal](), reflect.TypeFor[custodian.HyperswitchSeal](),
		reflect.TypeFor[custodian.Credential](), reflect.TypeFor[custodian.Guard](), reflect.TypeFor[custodian.GuardOptions](), reflect.TypeFor[custodian.Options](),
		reflect.TypeFor[custodian.Status](), reflect.TypeFor[custodian.Device](), reflect.TypeFor[custodian.TokenSeal](), reflect.TypeFor[custodian.Info](), reflect.TypeFor[custodian.Form](), reflect.TypeFor[custodian.Lockout](),
		reflect.TypeFor[custodian.PartError](), reflect.TypeFor[custodian.RateLimitedError](), reflect.TypeFor[custodian.LockedOutError](), reflect.TypeFor[custodian.Source](),
	},
	"vault": {
		reflect.TypeFor[vault.Card](), reflect.TypeFor[vault.CardInput](), reflect.TypeFor[vault.StoreCardRequest](), reflect.TypeFor[vault.StoredCard](),
		reflect.TypeFor[vault.Handout](), reflect.TypeFor[vault.FingerprintRequest](), reflect.TypeFor[vault.Service](),
		reflect.TypeFor[vault.Options](), reflect.TypeFor[vault.Owner](), reflect.TypeFor[vault.Duplication](), reflect.TypeFor[vault.StoreCardResult](),
		reflect.TypeFor[vault.Ceremonies](), reflect.TypeFor[vault.Terms](), reflect.TypeFor[vault.Datum](), reflect.TypeFor[vault.Probe](),
		reflect.TypeFor[vault.RecordContext](), reflect.TypeFor[vault.Sealed](), reflect.TypeFor[vault.MasterSeal](), reflect.TypeFor[vault.ValidationError](), reflect.TypeFor[vault.KeyError](),
		reflect.TypeFor[vault.Gate](), reflect.TypeFor[vault.Target](), reflect.TypeFor[vault.KeyID](), reflect.TypeFor[vault.Purpose](),
		reflect.TypeFor[vault.KeyState](), reflect.TypeFor[vault.WrappedKey](), reflect.TypeFor[vault.Keyring](), reflect.TypeFor[vault.Operation](),
		reflect.TypeFor[vault.Space](), reflect.TypeFor[vault.Kind](), reflect.TypeFor[vault.Mode](), reflect.TypeFor[vault.Micros](),
		reflect.TypeFor[vault.Lookup](), reflect.TypeFor[vault.MAC](), reflect.TypeFor[vault.Record](), reflect.TypeFor[vault.Holder](),
		reflect.TypeFor[vault.ExpiredRecord](), reflect.TypeFor[vault.Tenant](), reflect.TypeFor[vault.Tenants](), reflect.TypeFor[vault.Custodians](),
		reflect.TypeFor[vault.Store](), reflect.TypeFor[vault.Records](), reflect.TypeFor[vault.Holders](), reflect.TypeFor[vault.Keys](),
		reflect.TypeFor[vault.KeyManager](), reflect.TypeFor[vault.Custody](), reflect.TypeFor[vault.CustodyTx](), reflect.TypeFor[vault.Log](),
		reflect.TypeFor[vault.ImportRecord](), reflect.TypeFor[vault.Imported](), reflect.TypeFor[vault.ImportResult](), reflect.TypeFor[vault.ImportFingerprint](), reflect.TypeFor[vault.KeyStore](), reflect.TypeFor[vault.KeyChanges](),
		reflect.TypeFor[vault.KeyMover](), reflect.TypeFor[vault.KeyPolicy](), reflect.TypeFor[vault.KeyAdminOptions](), reflect.TypeFor[vault.KeyAdmin](), reflect.TypeFor[vault.KeyVersion](),
		reflect.TypeFor[vault.KeyWork](), reflect.TypeFor[vault.HeldRecord](), reflect.TypeFor[vault.ResealedRecord](), reflect.TypeFor[vault.KeyEvent](), reflect.TypeFor[vault.JobKind](),
		reflect.TypeFor[vault.JobState](), reflect.TypeFor[vault.Job](), reflect.TypeFor[vault.KeyChanger](), reflect.TypeFor[vault.VersionMAC](), reflect.TypeFor[vault.JobRequest](),
		reflect.TypeFor[vault.KeyInfo](), reflect.TypeFor[vault.KeyQuery](), reflect.TypeFor[vault.KeyAction](), reflect.TypeFor[vault.KeyMove](), reflect.TypeFor[vault.Refusal](),
	},
}

// A type that is new must come into this test's sight.
func TestEveryExportedTypeIsLookedAtForSecrets(t *testing.T) {
	t.Parallel()
	for pkg, types := range typesOf {
		known := map[string]bool{}
		for _, typ := range types {
			known[typ.Name()] = true
		}
		paths, err := filepath.Glob("../" + pkg + "/*.go")
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %d files, %v", pkg, len(paths), err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if _, ok := n.(*ast.FuncDecl); ok {
					return false
				}
				if s, ok := n.(*ast.TypeSpec); ok && unicode.IsUpper(rune(s.Name.Name[0])) && !known[s.Name.Name] {
					t.Errorf("%s.%s is not in typesOf", pkg, s.Name.Name)
				}
				return true
			})
		}
	}
}

// specimen is a value full of canaries.
type specimen struct {
	value  any
	secret [][]byte
}

// specimens are values of all types that can hold a secret.
func specimens(t *testing.T) map[reflect.Type]specimen {
	t.Helper()
	s := func() secret.Bytes { return text(canary) }
	number, err := pan.Parse([]byte(amex))
	if err != nil {
		t.Fatal(err)
	}
	in := &vault.CardInput{Number: text(amex), Name: s(), ExpMonth: s(), ExpYear: s(), Brand: s(), ISIN: s(), Nick: s()}
	card := &vault.Card{Number: number, Name: s(), ExpMonth: s(), ExpYear: s(), Brand: s(), ISIN: s(), Nick: s()}
	// Eight digits of it that are no part of an address either: not in octal, for they
	// have an 8, and not in decimal, where they would have to be its odd end.
	plain := [][]byte{[]byte(canary), []byte(amex), []byte(amex[2:10])}

	_, master, parts, err := custodian.NewSeal("acme", custodian.FormShares, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	master.Destroy()
	share := parts[0].Text()
	// One needle: a group of five by itself is found in an address by chance.
	fields := bytes.Split(share.Expose(), []byte("-"))
	half := bytes.Join(fields[len(fields)/2:], []byte("-"))
	token, _ := custodian.NewToken()

	n := newNode(t, "acme")
	q := cardOf(owner, visa, "")
	q.Reference = "r1"
	mustStore(t, n.Service, q)
	checkNumber(t, n.Service, owner, "r1", visa)
	keys := masterAndBranchKeys(t, n)
	// What prints reads all that it can reach, also what goroutines of a store change.
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}

	const credentials = "canary-5b1c-do-not-print-this-32"
	service, err := keymanager.NewService("acme", keymanager.ServiceOptions{URL: "https://localhost", Credentials: text(credentials)})
	if err != nil {
		t.Fatal(err)
	}

	all := []specimen{
		{number, plain},
		{in, plain},
		{*in, plain},
		{card, plain},
		{*card, plain},
		{vault.StoreCardRequest{Card: in, Data: s()}, plain},
		{vault.ImportRecord{Card: in, Data: s()}, plain},
		{&vault.StoredCard{Card: card, Data: s()}, plain},
		{vault.FingerprintRequest{Data: s(), Key: s()}, plain},
		{vault.Handout{Custodian: "a", Part: parts[0], Token: token}, [][]byte{half, token.Expose()}},
		{parts[0], [][]byte{half}},
		{n.keeper, keys},
		{n.local, keys},
		{keymanager.DirectOptions{Envelope: n.local}, keys},
		{keymanager.ServiceOptions{URL: "https://localhost", Credentials: text(credentials)}, [][]byte{[]byte(credentials)}},
		{service, [][]byte{[]byte(credentials)}},
		{keymanager.NewExternalTenants(map[string]*keymanager.Service{"acme": service}), [][]byte{[]byte(credentials)}},
		{keymanager.NewDirect(keymanager.DirectOptions{Envelope: n.local}), keys},
		{keymanager.NewRouter(n.gate.Tenants, n.local, nil), keys},
		{n.Service, append(keys, plain...)},
	}
	out := map[reflect.Type]specimen{}
	for _, x := range all {
		typ := reflect.TypeOf(x.value)
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		out[typ] = x
	}
	return out
}

// masterAndBranchKeys are what a node has in clear.
func masterAndBranchKeys(t *testing.T, n *node) [][]byte {
	t.Helper()
	master, err := n.keeper.Master("acme")
	if err != nil {
		t.Fatal(err)
	}
	out := [][]byte{master.Expose()}
	for _, k := range []struct {
		holder  string
		purpose vault.Purpose
	}{{"m1", vault.PurposeRecord}, {"", vault.PurposeDedupe}} {
		w, err := n.store.ActiveKey(t.Context(), "acme", k.holder, k.purpose)
		if err != nil {
			t.Fatal(err)
		}
		clear, err := ciphertext.UnwrapKey(master, ciphertext.KeyBinding{
			Tenant: "acme", Holder: k.holder, Purpose: string(k.purpose),
			KeyID: uuid.UUID(w.ID), Version: w.Version, Mode: ciphertext.ModeLocal,
		}, w.Wrapped)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, clear.Expose())
	}
	return out
}

// holdsSecret reports whether a value of the type can hold a secret by itself.
func holdsSecret(typ reflect.Type, seen map[reflect.Type]bool) bool {
	if typ == reflect.TypeFor[secret.Bytes]() || typ == reflect.TypeFor[pan.PAN]() {
		return true
	}
	if seen[typ] {
		return false
	}
	seen[typ] = true
	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			if holdsSecret(typ.Field(i).Type, seen) {
				return true
			}
		}
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Chan:
		return holdsSecret(typ.Elem(), seen)
	default:
	}
	return false
}

func TestNoPrinterShowsASecretOfAnyType(t *testing.T) {
	// Not parallel: a printer reads all that it can reach, other tests' things too.
	made := specimens(t)
	for pkg, types := range typesOf {
		for _, typ := range types {
			x, ok := made[typ]
			if !ok {
				if holdsSecret(typ, map[reflect.Type]bool{}) {
					t.Errorf("%s.%s can hold a secret and has no specimen", pkg, typ.Name())
				}
				continue
			}
			shown := everyPrinting(x.value)
			for _, s := range x.secret {
				for _, form := range spellings(s) {
					if bytes.Contains(shown, form) {
						t.Errorf("%s.%s: a printer shows a secret", pkg, typ.Name())
					}
				}
			}
		}
	}
}

// The printings must be able to show something, or the test above cannot fail.
func TestPrintingsShowWhatIsNotSecret(t *testing.T) {
	t.Parallel()
	type leaky struct {
		hidden []byte
		Key    []byte
	}
	shown := everyPrinting(leaky{[]byte(canary), []byte(canary)})
	for i, form := range spellings([]byte(canary)) {
		if !bytes.Contains(shown, form) {
			t.Errorf("spelling %d is not found", i)
		}
	}
}

// everyPrinting is v by every verb, marshaller and log handler, bare, behind a
// pointer, and as a field that is and is not exported.
func everyPrinting(v any) []byte {
	p := reflect.New(reflect.TypeOf(v))
	p.Elem().Set(reflect.ValueOf(v))
	hidden := struct{ hidden any }{v}
	exported := struct{ Exported any }{v}
	var out bytes.Buffer
	for _, x := range []any{v, p.Interface(), hidden, &hidden, exported, []any{v}, map[string]any{"k": v}, map[string]any{"k": hidden}, fmt.Errorf("e: %v %+v", v, hidden)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%p", "%e", "%g", "%T", "%10.5s"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		fmt.Fprintln(&out, x)
		if b, err := json.Marshal(x); err == nil {
			out.Write(b)
		} else {
			fmt.Fprintln(&out, err)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).With(slog.Any("with", x)).Info("m", slog.Any("a", x), slog.Group("g", slog.Any("b", x)))
		}
	}
	return out.Bytes()
}

// spellings are the forms in which a secret could be shown.
func spellings(s []byte) [][]byte {
	b64 := base64.StdEncoding.EncodeToString(s)
	decimal := strings.Trim(fmt.Sprint(s), "[]")
	return [][]byte{
		s, []byte(hex.EncodeToString(s)), []byte(strings.ToUpper(hex.EncodeToString(s))), []byte(b64[:len(b64)/4*4-4]),
		[]byte(base64.URLEncoding.EncodeToString(s)[:len(b64)/4*4-4]), []byte(decimal), []byte(strings.Trim(fmt.Sprintf("%#v", s), "[]byte{}")),
	}
}
