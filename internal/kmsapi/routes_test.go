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
func method(t testing.TB, op string) reflect.Method {
	t.Helper()
	s := reflect.TypeFor[*kms.Service]()
	for i := range s.NumMethod() {
		if m := s.Method(i); strings.EqualFold(m.Name, op) {
			return m
		}
	}
	t.Fatalf("the service has no method for %s", op)
	return reflect.Method{}
}

func TestEveryOperationHasARoute(t *testing.T) {
	t.Parallel()
	have := kmsapi.Routes()
	for _, op := range kms.Operations() {
		if !slices.Contains(have, op.Name) {
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
