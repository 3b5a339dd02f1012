package kmsapi_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"cardea/internal/kms"
	"cardea/internal/kmsapi"
)

// method finds the method of the service for an operation of the API: GenerateMac
// is GenerateMAC in Go.
func method(op string) (reflect.Method, bool) {
	t := reflect.TypeFor[*kms.Service]()
	for i := range t.NumMethod() {
		if m := t.Method(i); strings.EqualFold(m.Name, op) {
			return m, true
		}
	}
	return reflect.Method{}, false
}

func TestEveryOperationHasARoute(t *testing.T) {
	t.Parallel()
	have := kmsapi.Routes()
	for _, op := range kms.Operations() {
		if _, there := method(op.Name); there && !slices.Contains(have, op.Name) {
			t.Errorf("%s has no route", op.Name)
		}
	}
	for i, name := range have {
		if slices.Contains(have[:i], name) {
			t.Errorf("%s has two routes", name)
		}
		if !slices.ContainsFunc(kms.Operations(), func(o *kms.Operation) bool { return o.Name == name }) {
			t.Errorf("%s is no operation of the API", name)
		}
	}
}
