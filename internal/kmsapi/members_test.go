package kmsapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go/middleware"

	"cardea/internal/kms"
	"cardea/internal/kmsapi"
	"cardea/internal/secret"
)

// absent are members that the SDK knows and this service does not: of external key
// stores and of ML-KEM keys.
var absent = []string{"XksProxyAuthenticationCredential", "XksKeyConfiguration", "XksProxyConfiguration", "EncapsulationAlgorithms"}

// filler gives every member of a struct a value that no other has.
type filler struct{ n int }

var (
	typeTime     = reflect.TypeFor[time.Time]()
	typeSecret   = reflect.TypeFor[secret.Bytes]()
	typePassword = reflect.TypeFor[kms.Password]()
	typeMetadata = reflect.TypeFor[middleware.Metadata]()
)

func (f *filler) fill(v reflect.Value) {
	f.n++
	text := fmt.Sprintf("text-%d", f.n)
	switch {
	case v.Type() == typeTime:
		v.Set(reflect.ValueOf(time.UnixMilli(1767323045000 + int64(f.n)).UTC()))
		return
	case v.Type() == typeSecret:
		v.Set(reflect.ValueOf(secret.New([]byte(text))))
		return
	case v.Type() == typePassword:
		v.Set(reflect.ValueOf(kms.Password{Bytes: secret.New([]byte(text))}))
		return
	case v.Type() == typeMetadata:
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && !slices.Contains(absent, v.Type().Field(i).Name) {
				f.fill(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(int64(f.n))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key-"+text).Convert(v.Type().Key()), reflect.ValueOf(text).Convert(v.Type().Elem()))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(text))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0))
		f.fill(v.Index(1))
	default:
		panic("cannot fill a " + v.Type().String())
	}
}

// wire is what a struct of package kms is in JSON, by its tags.
func wire(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Time:
		return float64(x.UnixMilli()) / 1000
	case secret.Bytes:
		return base64.StdEncoding.EncodeToString(x.Expose())
	case kms.Password:
		return string(x.Expose())
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return wire(v.Elem())
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			m[name] = wire(v.Field(i))
		}
		return m
	case reflect.Map:
		m := map[string]any{}
		for _, k := range v.MapKeys() {
			m[k.String()] = v.MapIndex(k).String()
		}
		return m
	case reflect.Slice:
		var l []any
		for i := range v.Len() {
			l = append(l, wire(v.Index(i)))
		}
		return l
	case reflect.Int32:
		return float64(v.Int())
	case reflect.Bool:
		return v.Bool()
	default:
		return v.String()
	}
}

func parse(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// TestRequestsOfTheSDKAreReadWhole sends, by the SDK, every request with every
// member, and compares what arrives.
func TestRequestsOfTheSDKAreReadWhole(t *testing.T) {
	t.Parallel()
	for _, op := range kms.Operations() {
		m := method(t, op.Name)
		t.Run(op.Name, func(t *testing.T) {
			d := &doer{status: 200, answer: "{}"}
			call := reflect.ValueOf(d.client()).MethodByName(op.Name)
			in := reflect.New(call.Type().In(1).Elem())
			(&filler{}).fill(in.Elem())
			if res := call.Call([]reflect.Value{reflect.ValueOf(context.Background()), in}); !res[1].IsNil() {
				t.Fatal(res[1].Interface())
			}
			if got := d.header.Get("X-Amz-Target"); got != "TrentService."+op.Name {
				t.Errorf("got target %s", got)
			}
			for _, decode := range []func([]byte, any) error{kmsapi.Decode, kmsapi.DecodeStrictly} {
				ours := reflect.New(m.Type.In(3).Elem())
				if err := decode([]byte(d.body), ours.Interface()); err != nil {
					t.Fatalf("%v in %s", err, d.body)
				}
				if got, want := wire(ours.Elem()), parse(t, d.body); !reflect.DeepEqual(got, want) {
					t.Errorf("got  %v\nsent %v", got, want)
				}
			}
		})
	}
}

// TestResponsesAreReadWholeByTheSDK encodes every response with every member and
// looks at what the SDK makes of it.
func TestResponsesAreReadWholeByTheSDK(t *testing.T) {
	t.Parallel()
	for _, op := range kms.Operations() {
		m := method(t, op.Name)
		if m.Type.NumOut() == 1 {
			continue
		}
		t.Run(op.Name, func(t *testing.T) {
			out := reflect.New(m.Type.Out(0).Elem())
			(&filler{}).fill(out.Elem())
			text, err := kmsapi.Encode(out.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := parse(t, text), wire(out.Elem()); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			d := &doer{status: 200, answer: text}
			call := reflect.ValueOf(d.client()).MethodByName(op.Name)
			in := reflect.New(call.Type().In(1).Elem())
			(&filler{}).fill(in.Elem())
			res := call.Call([]reflect.Value{reflect.ValueOf(context.Background()), in})
			if !res[1].IsNil() {
				t.Fatal(res[1].Interface())
			}
			complete(t, op.Name, res[0].Elem())
		})
	}
}

// complete fails for every member of the SDK's that is empty.
func complete(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.Type() == typeMetadata {
		return
	}
	if v.IsZero() {
		t.Errorf("%s did not come through", path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		complete(t, path, v.Elem())
	case reflect.Struct:
		if v.Type() == typeTime {
			return
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && !slices.Contains(absent, f.Name) {
				complete(t, path+"."+f.Name, v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			complete(t, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	default:
	}
}

// TestNoEmptyMemberIsSent encodes every response without members: what is absent
// is left out, never null.
func TestNoEmptyMemberIsSent(t *testing.T) {
	t.Parallel()
	for _, op := range kms.Operations() {
		m := method(t, op.Name)
		if m.Type.NumOut() == 1 {
			continue
		}
		text, err := kmsapi.Encode(reflect.New(m.Type.Out(0).Elem()).Interface())
		if err != nil || strings.Contains(text, "null") {
			t.Errorf("%s: got %s, %v", op.Name, text, err)
		}
	}
}

// TestSecretsAreWiped finds every secret of a request or response.
func TestSecretsAreWiped(t *testing.T) {
	t.Parallel()
	n := 0
	for _, op := range kms.Operations() {
		m := method(t, op.Name)
		all := []reflect.Value{reflect.New(m.Type.In(3).Elem())}
		if m.Type.NumOut() == 2 {
			all = append(all, reflect.New(m.Type.Out(0).Elem()))
		}
		for _, v := range all {
			(&filler{}).fill(v.Elem())
			kmsapi.Wipe(v.Interface())
			n += checkWiped(t, v.Type().String(), v.Elem())
		}
	}
	if n != 8 { // one of a request, two passwords, five of responses
		t.Errorf("found %d secrets", n)
	}
}

func checkWiped(t *testing.T, path string, v reflect.Value) (n int) {
	t.Helper()
	switch x := v.Interface().(type) {
	case secret.Bytes:
		if x.Len() != 0 {
			t.Errorf("%s is still there", path)
		}
		return 1
	case time.Time:
		return 0
	}
	switch v.Kind() {
	case reflect.Pointer:
		n += checkWiped(t, path, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			n += checkWiped(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			n += checkWiped(t, path, v.Index(i))
		}
	default:
	}
	return n
}
