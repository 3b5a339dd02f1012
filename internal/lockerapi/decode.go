package lockerapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// maxDepth is how deep a body may nest, the outermost object included.
const maxDepth = 64

// decoder reads one JSON body, member by member, without reflection and without
// making strings of what is secret. Names are case-sensitive, unknown members
// are skipped, a known member that comes twice is an error, as in serde. The
// errors are *fault: 400 for what is not JSON, 422 for what is not the wanted
// type; they name members, never values.
type decoder struct {
	json *jsontext.Decoder
	body bytes.Buffer
}

// A body is what a decoder fills: a struct of the wire.
type body interface {
	// spec is the body's members, by index.
	spec() *spec
	// member reads the value of the i-th member.
	member(d *decoder, i int) *fault
}

// spec describes an object of the wire.
type spec struct {
	path     string // in front of the members' names in errors: "card."
	names    []string
	required uint32 // bit i: names[i] must be there
}

var decoders = sync.Pool{New: func() any { return &decoder{json: new(jsontext.Decoder)} }}

// decodeBody reads text, which must be one JSON object and nothing else.
func decodeBody(text []byte, into body) *fault {
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.body = *bytes.NewBuffer(text)
	// serde lets unknown names repeat; repeated known names are our own check.
	d.json.Reset(&d.body, jsontext.AllowDuplicateNames(true))
	err := d.object(into)
	if err == nil {
		err = d.end()
	}
	d.body = bytes.Buffer{}
	return err
}

func (d *decoder) object(into body) *fault {
	s := into.spec()
	t, err := d.json.ReadToken()
	if err != nil {
		return syntaxFault(err)
	}
	if t.Kind() != jsontext.KindBeginObject {
		return typeFault(strings.TrimSuffix(s.path, "."), "an object")
	}
	var seen uint32
	for d.json.PeekKind() != jsontext.KindEndObject {
		name, err := d.json.ReadValue()
		if err != nil {
			return syntaxFault(err)
		}
		i := s.index(name)
		if i < 0 {
			if f := d.skip(); f != nil {
				return f
			}
			continue
		}
		if seen&(1<<i) != 0 {
			return bodyFault("duplicate field `" + s.path + s.names[i] + "`")
		}
		seen |= 1 << i
		if f := into.member(d, i); f != nil {
			return f
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return syntaxFault(err)
	}
	if missing := s.required &^ seen; missing != 0 {
		for i, name := range s.names {
			if missing&(1<<i) != 0 {
				return bodyFault("missing field `" + s.path + name + "`")
			}
		}
	}
	return nil
}

// index finds a quoted name; -1 is none of ours.
func (s *spec) index(quoted []byte) int {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		unquoted, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return -1
		}
		name = unquoted
	}
	for i, n := range s.names {
		if n == string(name) {
			return i
		}
	}
	return -1
}

// end sees to it that nothing but white space follows.
func (d *decoder) end() *fault {
	_, err := d.json.ReadToken()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return syntaxFault(err)
	}
	return jsonFault("trailing characters at byte " + strconv.FormatInt(d.json.InputOffset(), 10))
}

// value reads the next value as it stands.
func (d *decoder) value() (jsontext.Value, *fault) {
	v, err := d.json.ReadValue()
	if err != nil {
		return nil, syntaxFault(err)
	}
	return v, nil
}

// skip reads a value of an unknown member.
func (d *decoder) skip() *fault {
	v, f := d.value()
	if f != nil {
		return f
	}
	if k := v.Kind(); (k == jsontext.KindBeginObject || k == jsontext.KindBeginArray) && depth(v)+d.json.StackDepth() > maxDepth {
		return deepFault()
	}
	return nil
}

// rawString reads a string and returns it with its quotes.
func (d *decoder) rawString(name string) (jsontext.Value, *fault) {
	v, f := d.value()
	if f != nil {
		return nil, f
	}
	if v.Kind() != jsontext.KindString {
		return nil, typeFault(name, "a string")
	}
	return v, nil
}

// id reads a string that names something: at most vault.MaxID characters. It is
// checked here because a longer one must not even reach the audit log.
func (d *decoder) id(name string, into *string) *fault {
	v, f := d.rawString(name)
	if f != nil {
		return f
	}
	text := v[1 : len(v)-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		if len(text) > maxEscape*utf8.UTFMax*vault.MaxID {
			return idFault(name)
		}
		unquoted, err := jsontext.AppendUnquote(nil, v)
		if err != nil {
			return syntaxFault(err)
		}
		text = unquoted
	}
	if len(text) > vault.MaxID && utf8.RuneCount(text) > vault.MaxID {
		return idFault(name)
	}
	*into = string(text)
	return nil
}

// nullableID is id, or null, which leaves into as it is.
func (d *decoder) nullableID(name string, into *string) *fault {
	if d.json.PeekKind() == jsontext.KindNull {
		return d.skip()
	}
	return d.id(name, into)
}

// secret reads a string that is nobody's to see.
func (d *decoder) secret(name string, into *secret.Bytes) *fault {
	v, f := d.rawString(name)
	if f != nil {
		return f
	}
	text := v[1 : len(v)-1]
	if bytes.IndexByte(text, '\\') < 0 {
		*into = secret.Copy(text)
		return nil
	}
	// Unquoted text is never longer, so that nothing is left behind by growing.
	unquoted, err := jsontext.AppendUnquote(make([]byte, 0, len(text)), v)
	*into = secret.New(unquoted)
	if err != nil {
		return syntaxFault(err)
	}
	return nil
}

// nullableSecret is secret, or null, which leaves into absent.
func (d *decoder) nullableSecret(name string, into *secret.Bytes) *fault {
	if d.json.PeekKind() == jsontext.KindNull {
		return d.skip()
	}
	return d.secret(name, into)
}

// maxTTL is the largest ttl that the peer can take.
const maxTTL = 1<<63 - 1

// ttl reads an unsigned integer, or null, which leaves into nil.
func (d *decoder) ttl(into **uint64) *fault {
	const name, want = "ttl", "an unsigned integer of 63 bits, or null"
	v, f := d.value()
	switch {
	case f != nil:
		return f
	case v.Kind() == jsontext.KindNull:
		return nil
	case v.Kind() != jsontext.KindNumber:
		return typeFault(name, want)
	}
	n, err := strconv.ParseUint(string(v), 10, 64) // refuses signs, fractions and exponents
	if err != nil || n > maxTTL {
		return typeFault(name, want)
	}
	*into = &n
	return nil
}

// any reads any value, without its insignificant white space; order, numbers
// and escapes stay as they came.
func (d *decoder) any(into *secret.Bytes) *fault {
	v, f := d.value()
	if f != nil {
		return f
	}
	if depth(v)+d.json.StackDepth() > maxDepth {
		return deepFault()
	}
	*into = secret.New(appendCompact(make([]byte, 0, len(v)), v))
	return nil
}

// depth is how deep a valid value nests: 0 for what is no object or array.
func depth(v []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// appendCompact appends a valid value without the white space between its tokens.
func appendCompact(dst, v []byte) []byte {
	start, quoted := 0, false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			dst = append(dst, v[start:i]...)
			start = i + 1
		}
	}
	return append(dst, v[start:]...)
}

func syntaxFault(err error) *fault {
	var s *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return jsonFault("EOF while parsing a value")
	case errors.As(err, &s):
		// The error's own text may hold parts of the body, but for these.
		switch s.Err.Error() {
		case "exceeded max depth": // of the decoder, which is far beyond ours
			return deepFault()
		case "invalid UTF-8":
			return jsonFault("invalid UTF-8 at byte " + strconv.FormatInt(s.ByteOffset, 10))
		}
		return jsonFault("syntax error at byte " + strconv.FormatInt(s.ByteOffset, 10))
	}
	return jsonFault("syntax error")
}

func deepFault() *fault {
	return jsonFault(fmt.Sprintf("nested deeper than %d levels", maxDepth))
}

func typeFault(name, want string) *fault {
	if name == "" {
		return bodyFault("invalid type: expected " + want)
	}
	return bodyFault(name + ": invalid type, expected " + want)
}
