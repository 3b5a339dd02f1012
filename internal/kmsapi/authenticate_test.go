package kmsapi_test

import (
	"strings"
	"testing"
)

// TestLogTellsNoSecretInPlaceOfAnAccessKeyID sends what people put there by mistake.
func TestLogTellsNoSecretInPlaceOfAnAccessKeyID(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, id := range []string{
		"Zq7wXy9vUt5sRr3pOn1mLk8jHg6fDe4cBa2zYxWv", // a secret access key without / and +
		"AKIA" + strings.Repeat("A", 36),           // as long as one
		"akiaroot", "AKIA_ROOT",
	} {
		s.send(t, "ListKeys", request{body: "{}", id: id}).is(t, 400, "UnrecognizedClientException", "The security token included in the request is invalid.")
		if line, _ := s.lastEntry(t); strings.Contains(line, id) || strings.Contains(line, "access_key") {
			t.Error("the log tells what stood in place of the access key id")
		}
	}
	s.send(t, "ListKeys", request{body: "{}", id: "AKIA234567ABCDEFGHIJ"})
	if line, _ := s.lastEntry(t); !strings.Contains(line, `"access_key":"AKIA234567ABCDEFGHIJ"`) {
		t.Error("the log does not tell which access key was tried")
	}
}
