package httpd

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
)

// redactedValue replaces the value of an attribute whose name says secret.
const redactedValue = "[redacted]"

// NewLogger writes records of level and above to w, as "json" or "text", without
// secrets: attributes and groups whose name says password, token, key material
// and the like lose their value, and card numbers are masked in messages and
// in every other value, numbers and errors included. It is the last line of
// defence, not a licence to log secrets. Durations are text with their unit in both
// formats, such as "1.5s". Safe for concurrent use.
func NewLogger(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: replaceAttr}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return nil, fmt.Errorf("log format %q: expected json or text", format)
}

// replaceAttr is called by slog for every attribute, the built-in ones and those of
// groups included; the value is resolved.
func replaceAttr(groups []string, a slog.Attr) slog.Attr {
	if sensitiveName(a.Key) || slices.ContainsFunc(groups, sensitiveName) {
		return slog.String(a.Key, redactedValue)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); mayHoldPAN(s) {
			a.Value = slog.StringValue(maskPANs(s))
		}
	case slog.KindInt64, slog.KindUint64:
		if s := a.Value.String(); holdsPAN(s) {
			a.Value = slog.StringValue(maskPANs(s))
		}
	case slog.KindDuration: // JSON's own form is a number of nanoseconds
		a.Value = slog.StringValue(readable(a.Value.Duration()).String())
	case slog.KindAny:
		a.Value = plainValue(a.Value.Any())
	}
	return a
}

// readable leaves out the digits of a duration that nobody reads: it is to the
// millisecond from a second on, and to the microsecond from a millisecond on.
func readable(d time.Duration) time.Duration {
	switch a := d.Abs(); {
	case a >= time.Second:
		return d.Round(time.Millisecond)
	case a >= time.Millisecond:
		return d.Round(time.Microsecond)
	}
	return d
}

// plainValue makes a value that slog would hand to a serialiser into text that
// can be looked through.
func plainValue(v any) slog.Value {
	switch v := v.(type) {
	case slog.Level, *slog.Source: // slog's own
		return slog.AnyValue(v)
	case []byte:
		return slog.StringValue(fmt.Sprintf("[%d bytes]", len(v)))
	case nil:
		return slog.AnyValue(nil)
	default:
		return slog.StringValue(maskPANs(fmt.Sprintf("%+v", v)))
	}
}

var (
	secretWords = []string{
		"password", "passwd", "passphrase", "secret", "secrets", "token", "tokens", "credential", "credentials",
		"authorization", "cookie", "plaintext", "pan", "cvv", "cvv2", "cvc", "pin", "share", "shares", "cleartext",
	}
	secretPairs = []string{
		"private key", "master key", "secret key", "data key", "api key", "access key", "branch key", "custodian key", "wrapping key",
		"signing key", "key material", "card number", "account number", "track data", "session key",
	}
	// A name that ends in one of these names or measures the secret: not the secret itself.
	harmlessEnds = []string{"id", "ids", "file", "path", "name", "count", "version", "size", "age", "state", "kind", "type", "algorithm"}
)

// sensitiveName decides by whole words: "key" in "key_id" is harmless.
func sensitiveName(name string) bool {
	words := nameWords(name)
	if len(words) == 0 || slices.Contains(harmlessEnds, words[len(words)-1]) {
		return false
	}
	for i, w := range words {
		if slices.Contains(secretWords, w) || (i > 0 && slices.Contains(secretPairs, words[i-1]+" "+w)) {
			return true
		}
	}
	return false
}

// nameWords splits snake_case, kebab-case, dotted and camelCase names.
func nameWords(name string) []string {
	var b strings.Builder
	lower := false
	for _, r := range name {
		if unicode.IsUpper(r) && lower {
			b.WriteByte(' ')
		}
		lower = unicode.IsLower(r) || unicode.IsDigit(r)
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			b.WriteRune(unicode.ToLower(r))
		} else {
			b.WriteByte(' ')
		}
	}
	return strings.Fields(b.String())
}
