package sigv4

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	goodCredential = "AKIDEXAMPLE/20150830/us-east-1/kms/aws4_request"
	goodSignature  = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
	goodLine       = "AWS4-HMAC-SHA256 Credential=" + goodCredential + ", SignedHeaders=host;x-amz-date, Signature=" + goodSignature
)

func TestParseAuthorizationForms(t *testing.T) {
	t.Parallel()
	want, err := parseAuthorization(goodLine)
	if err != nil {
		t.Fatal(err)
	}
	if want.accessKeyID != exampleID || want.date != "20150830" || want.region != "us-east-1" || want.service != "kms" ||
		want.scope != "20150830/us-east-1/kms/aws4_request" || want.signedHeaders != "host;x-amz-date" ||
		want.signature[0] != 0x5d || want.signature[31] != 0xd7 {
		t.Fatalf("got %+v", want)
	}
	for _, line := range []string{
		strings.ReplaceAll(goodLine, ", ", ","),
		strings.ReplaceAll(goodLine, ", ", ",   "),
		strings.Replace(goodLine, "256 C", "256   C", 1),
		"AWS4-HMAC-SHA256 Signature=" + goodSignature + ", Credential=" + goodCredential + ",SignedHeaders=host;x-amz-date",
	} {
		if got, err := parseAuthorization(line); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", line, got, err)
		}
	}
}

func TestParseAuthorizationRefuses(t *testing.T) {
	t.Parallel()
	with := func(old, new string) string { return strings.Replace(goodLine, old, new, 1) }
	for _, c := range []struct{ name, line, message string }{
		{"nothing", "", "Unsupported AWS 'algorithm'"},
		{"algorithm only", "AWS4-HMAC-SHA256", "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter."},
		{"algorithm and spaces", "AWS4-HMAC-SHA256   ", "not a valid key=value pair"},
		{"bearer", "Bearer abc", "Unsupported AWS 'algorithm'. Sign with 'AWS4-HMAC-SHA256'."},
		{"version 2", "AWS AKIDEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=", "Unsupported AWS 'algorithm'"},
		{"version 4A", with("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (Signature Version 4A). Sign with 'AWS4-HMAC-SHA256'."},
		{"algorithm in lower case", with("AWS4-HMAC", "aws4-hmac"), "Unsupported AWS 'algorithm'"},
		{"tab after the algorithm", with(" ", "\t"), "Unsupported AWS 'algorithm'"},
		{"leading space", " " + goodLine, "Unsupported AWS 'algorithm'"},
		{"no credential", with("Credential="+goodCredential+", ", ""), "Authorization header requires 'Credential' parameter."},
		{"no signed headers", with("SignedHeaders=host;x-amz-date, ", ""), "Authorization header requires 'SignedHeaders' parameter."},
		{"no signature", with(", Signature="+goodSignature, ""), "Authorization header requires 'Signature' parameter."},
		{"empty credential", with(goodCredential, ""), "empty 'Credential' parameter"},
		{"empty signed headers", with("host;x-amz-date", ""), "empty 'SignedHeaders' parameter"},
		{"empty signature", with(goodSignature, ""), "empty 'Signature' parameter"},
		{"space in credential", with("Credential=", "Credential= "), "access key ID in 'Credential'"},
		{"comma in credential", with("Credential=", "Credential=,"), "empty 'Credential' parameter"},
		{"credential twice", goodLine + ", Credential=" + goodCredential, "the parameter 'Credential' twice"},
		{"signature twice", goodLine + ", Signature=" + goodSignature, "the parameter 'Signature' twice"},
		{"unknown part", goodLine + ", Version=4", "a parameter other than"},
		{"part in lower case", with("Credential", "credential"), "a parameter other than"},
		{"no equal sign", goodLine + ", Version", "not a valid key=value pair (missing equal-sign)"},
		{"comma at the end", goodLine + ",", "ends with a comma"},
		{"comma and space at the end", goodLine + ", ", "ends with a comma"},
		{"two commas", with(", ", ",,"), "not a valid key=value pair"},
		{"space at the end", goodLine + " ", "'Signature' must be 64 lower-case hexadecimal digits."},
		{"semicolons between parts", with(", Signature", "; Signature"), "requires 'Signature' parameter"},
		{"4 elements", with("/kms", ""), "exactly 5 slash-delimited elements"},
		{"6 elements", with("/kms", "/kms/x"), "exactly 5 slash-delimited elements"},
		{"empty access key", with(exampleID, ""), "access key ID in 'Credential'"},
		{"long access key", with(exampleID, strings.Repeat("A", 129)), "access key ID in 'Credential'"},
		{"odd access key", with(exampleID, "AKID-EXAMPLE"), "access key ID in 'Credential'"},
		{"short date", with("20150830", "2015083"), "date in 'Credential'"},
		{"date with letters", with("20150830", "2015083a"), "date in 'Credential'"},
		{"region in capitals", with("us-east-1", "US-EAST-1"), "region in 'Credential'"},
		{"empty region", with("us-east-1", ""), "region in 'Credential'"},
		{"service in capitals", with("/kms/", "/KMS/"), "service in 'Credential'"},
		{"header in capitals", with("host", "Host"), "'SignedHeaders' must be lower-case header names"},
		{"empty header", with("host;", "host;;"), "'SignedHeaders' must be lower-case header names"},
		{"semicolon at the end", with("x-amz-date,", "x-amz-date;,"), "'SignedHeaders' must be lower-case header names"},
		{"space in headers", with("host;", "host; "), "'SignedHeaders' must be lower-case header names"},
		{"headers not sorted", with("host;x-amz-date", "x-amz-date;host"), "must be sorted and name each header once"},
		{"header twice", with("host;", "host;host;"), "must be sorted and name each header once"},
		{"many headers", with("host;", strings.Repeat("a;", 64)+"host;"), "must be sorted and name each header once"},
		{"signature in capitals", with(goodSignature, strings.ToUpper(goodSignature)), "64 lower-case hexadecimal digits"},
		{"short signature", with(goodSignature, goodSignature[1:]), "64 lower-case hexadecimal digits"},
		{"signature with another letter", with("5d672", "5g672"), "64 lower-case hexadecimal digits"},
		{"long", goodLine + strings.Repeat(" ", 4096), "The Authorization header is too long."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := parseAuthorization(c.line)
			refused(t, err, IncompleteSignature, c.message)
		})
	}
	_, err := parseAuthorization(with("aws4_request", "aws4_other"))
	refused(t, err, InvalidSignature, "Credential should be scoped with a valid terminator: 'aws4_request'.")
	_, err = parseAuthorization("AWS4-HMAC-SHA256 Credential=x,SignedHeaders=" + numbered(65) + ",Signature=x")
	refused(t, err, IncompleteSignature, "exactly 5")
	_, err = newAuthorization(goodCredential, numbered(65), goodSignature)
	refused(t, err, IncompleteSignature, "'SignedHeaders' has too many names.")
	if _, err = newAuthorization(goodCredential, numbered(64), goodSignature); err != nil {
		t.Error(err)
	}
}

// numbered is a sorted list of n header names.
func numbered(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = "h" + string(rune('a'+i/26)) + string(rune('a'+i%26))
	}
	return strings.Join(names, ";")
}

// format is the usual form of a.
func format(a authorization) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range a.signature {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return "AWS4-HMAC-SHA256 Credential=" + a.accessKeyID + "/" + a.date + "/" + a.region + "/" + a.service +
		"/aws4_request, SignedHeaders=" + a.signedHeaders + ", Signature=" + b.String()
}

func TestAuthorizationReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		line := "AWS4-HMAC-SHA256 Credential=" + rapid.StringMatching(`[A-Za-z0-9_]{1,40}/[0-9]{8}/[a-z0-9-]{1,20}/[a-z0-9-]{1,20}`).Draw(t, "credential") +
			"/aws4_request, SignedHeaders=" + rapid.StringMatching(`[a-m-]{1,9}(;[n-z][a-z0-9.!+-]{0,3})?`).Draw(t, "headers") +
			", Signature=" + rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "signature")
		a, err := parseAuthorization(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got := format(a); got != line {
			t.Fatalf("got %s, want %s", got, line)
		}
	})
}
