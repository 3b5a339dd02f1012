package fileenc

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// reserved begins the names of pairs that are the format's own.
	reserved = "aws-crypto-"
	// publicKeyPair is where a signed message has the key that checks its signature.
	publicKeyPair = "aws-crypto-public-key"

	maxContext = 8192 // bytes; KMS takes no more
)

// Pair is a pair of an encryption context.
type Pair struct{ Key, Value string }

// pairsOf are the pairs of a context as the format has them: by key, in the order of
// the UTF-8 bytes.
func pairsOf(context map[string]string) []Pair {
	var pairs []Pair
	for _, k := range slices.Sorted(maps.Keys(context)) {
		pairs = append(pairs, Pair{k, context[k]})
	}
	return pairs
}

// appendPairs appends the number of pairs and the pairs; nothing if there is none.
func appendPairs(b []byte, pairs []Pair) []byte {
	if len(pairs) == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(pairs)))
	for _, p := range pairs {
		b = appendField(b, p.Key)
		b = appendField(b, p.Value)
	}
	return b
}

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
	return append(b, field...)
}

// parsePairs is the reverse of appendPairs, of what is not empty.
func parsePairs(b []byte) ([]Pair, error) {
	d := decoder{rest: b}
	n := int(d.uint16())
	var pairs []Pair
	seen := map[string]bool{}
	for range n {
		p := Pair{string(d.field()), string(d.field())}
		if d.short {
			break
		}
		if !utf8.ValidString(p.Key) || !utf8.ValidString(p.Value) {
			return nil, notMessage("its encryption context is not UTF-8")
		}
		if seen[p.Key] {
			return nil, notMessage("its encryption context has a key twice")
		}
		seen[p.Key] = true
		pairs = append(pairs, p)
	}
	if d.short || len(d.rest) > 0 || n == 0 {
		return nil, notMessage("its encryption context has another length than it says")
	}
	return pairs, nil
}

// checkContext checks a context that is to be written.
func checkContext(context map[string]string) error {
	size := 0
	for k, v := range context {
		switch {
		case k == "" || v == "":
			return fmt.Errorf("%w: encryption context with an empty key or value", ErrInvalid)
		case strings.HasPrefix(k, reserved):
			return fmt.Errorf("%w: encryption context with the key %q: names that begin with %s are the message format's", ErrInvalid, k, reserved)
		case !utf8.ValidString(k) || !utf8.ValidString(v):
			return fmt.Errorf("%w: encryption context that is not UTF-8", ErrInvalid)
		}
		size += len(k) + len(v) + 4
	}
	if size > maxContext {
		return fmt.Errorf("%w: encryption context of %d bytes, at most %d are taken", ErrInvalid, size, maxContext)
	}
	return nil
}

// matchContext compares the message's context with what the reader expects. It
// returns the context for the key service, and the pairs that are expected but not in
// the message: they are authenticated with its header.
func matchContext(pairs []Pair, expected map[string]string) (all map[string]string, missing map[string]string, err error) {
	all, missing = map[string]string{}, maps.Clone(expected)
	for _, p := range pairs {
		if want, ok := expected[p.Key]; ok && want != p.Value {
			return nil, nil, fmt.Errorf("%w: the message has %s=%s, not %s", ErrContext, p.Key, p.Value, want)
		}
		all[p.Key] = p.Value
		delete(missing, p.Key)
	}
	maps.Copy(all, missing)
	return all, missing, nil
}
