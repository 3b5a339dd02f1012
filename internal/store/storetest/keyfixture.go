package storetest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"cardea/internal/identity"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/store"
)

// Where the keys of fixtures are.
const (
	Account = "111122223333"
	Region  = "eu-central-1"
)

// KeyStoreUnderTest is a kms.Store and how many entries its audit log has.
type KeyStoreUnderTest struct {
	kms.Store
	Entries func(testing.TB) int64
}

// KeyService opens a store on a new database for the key service.
func KeyService(url func(testing.TB) string) func(testing.TB) KeyStoreUnderTest {
	return func(tb testing.TB) KeyStoreUnderTest {
		s := Open(tb, url(tb))
		return KeyStoreUnderTest{store.NewKeyService(s), func(tb testing.TB) int64 { return entries(tb, s) }}
	}
}

// IdentitiesUnderTest is an identity.Store and how many entries its audit log has.
type IdentitiesUnderTest struct {
	identity.Store
	Entries func(testing.TB) int64
}

// Identities opens a store on a new database for identities.
func Identities(url func(testing.TB) string) func(testing.TB) IdentitiesUnderTest {
	return func(tb testing.TB) IdentitiesUnderTest {
		s := Open(tb, url(tb))
		return IdentitiesUnderTest{store.NewIdentities(s), func(tb testing.TB) int64 { return entries(tb, s) }}
	}
}

// Key makes a key, not stored.
func Key() *kms.Key {
	return &kms.Key{
		KeyRef: kms.KeyRef{Account: Account, Region: Region, ID: uuid.NewString()}, CreatedAt: time.Now().UTC().Round(0),
		Spec: keyspec.SymmetricDefault, Usage: keyspec.EncryptDecrypt, Origin: kms.OriginKMS, State: kms.StateEnabled, Policy: `{"Version":"2012-10-17"}`,
		Materials: []kms.Material{{ID: hexID(), State: kms.MaterialCurrent, Handle: make([]byte, 92)}},
	}
}

// Grant makes a grant of a key, not stored.
func Grant(ref kms.KeyRef) *kms.Grant {
	return &kms.Grant{
		Key: ref, ID: hexID(), Grantee: "arn:aws:iam::111122223333:role/" + uuid.NewString(), Issuer: "arn:aws:iam::111122223333:root",
		Operations: []kms.GrantOperation{"Encrypt", "Decrypt"}, CreatedAt: time.Now().UTC().Round(0), TokenKey: make([]byte, 32),
	}
}

func hexID() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// PutKey stores keys.
func PutKey(tb testing.TB, s kms.Store, keys ...*kms.Key) {
	tb.Helper()
	update(tb, s, func(tx kms.Tx) error {
		for _, k := range keys {
			if err := tx.PutKey(tb.Context(), k); err != nil {
				return err
			}
		}
		return nil
	})
}

// update runs fn in a transaction with an entry, and fails tb at an error.
func update(tb testing.TB, s kms.Store, fn func(kms.Tx) error) {
	tb.Helper()
	if err := tryUpdate(tb, s, fn); err != nil {
		tb.Fatal(err)
	}
}

func tryUpdate(tb testing.TB, s kms.Store, fn func(kms.Tx) error) error {
	tb.Helper()
	e := Entry(tb, "update")
	return s.Update(tb.Context(), func(tx kms.Tx) error {
		tx.Append(e)
		return fn(tx)
	})
}

// fill sets everything that v has to something of its own, so that a test of what
// is stored notices a new field. Fields without a name in JSON stay as they are.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d \u00fc<&>\"\\ \U0001F511", *n))
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(*n % 256))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 22, 10, 0, *n, 123456789, time.UTC)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				fill(v.Field(i), n)
			}
		}
	default:
		panic("storetest: fill of a " + v.Kind().String())
	}
}

// Filled is a value with everything set that JSON shows.
func Filled[T any]() *T {
	v, n := new(T), 0
	fill(reflect.ValueOf(v).Elem(), &n)
	return v
}

func same(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if !reflect.DeepEqual(got, want) {
		tb.Errorf("%s\n got %+v\nwant %+v", what, got, want)
	}
}

// IdentityRow makes a row, not stored.
func IdentityRow(kind identity.Kind, name string) *identity.Row {
	return &identity.Row{Kind: kind, Account: Account, Name: name, Body: []byte("body of " + name)}
}

func tryIdentities(tb testing.TB, s identity.Store, fn func(identity.Tx) error) error {
	tb.Helper()
	e := Entry(tb, "update")
	return s.Update(tb.Context(), func(tx identity.Tx) error {
		tx.Append(e)
		return fn(tx)
	})
}
