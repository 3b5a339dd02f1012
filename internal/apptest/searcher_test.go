package apptest

import (
	"bytes"
	"encoding/base64"
	endian "encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// searcher finds many needles in one pass.
type searcher struct {
	begins [1 << 16]bool // the first two bytes of a needle
	by     map[[4]byte][]needle
	count  int
}

type needle struct {
	name  string
	bytes []byte
}

func newSearcher() *searcher { return &searcher{by: map[[4]byte][]needle{}} }

func (s *searcher) add(name string, b []byte) {
	if len(b) < 6 {
		panic("needle is too short to mean anything")
	}
	for _, n := range s.by[[4]byte(b)] {
		if bytes.Equal(n.bytes, b) {
			return
		}
	}
	s.begins[endian.BigEndian.Uint16(b)] = true
	s.by[[4]byte(b)] = append(s.by[[4]byte(b)], needle{name, b})
	s.count++
}

// addText adds the forms in which a text may leak: as it is, escaped, in UTF-16,
// in hexadecimal and in base64, wherever in the encoded whole it begins.
func (s *searcher) addText(name, text string) {
	s.add(name+" as it is", []byte(text))
	s.add(name+" escaped for JSON", []byte(jsonText(text)))
	s.add(name+" escaped for a URL", []byte(url.QueryEscape(text)))
	var wide []byte
	for _, u := range utf16.Encode([]rune(text)) {
		wide = endian.LittleEndian.AppendUint16(wide, u)
	}
	s.add(name+" in UTF-16", wide)
	s.add(name+" in hexadecimal", []byte(hex.EncodeToString([]byte(text))))
	s.add(name+" in upper-case hexadecimal", []byte(strings.ToUpper(hex.EncodeToString([]byte(text)))))
	for shift := range 3 {
		// Of the encoded characters those are certain that hold bits of the text only.
		for kind, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			whole := enc.EncodeToString(append(make([]byte, shift), text...))
			from := (8*shift + 5) / 6
			until := 8 * (shift + len(text)) / 6
			s.add(fmt.Sprintf("%s in %s, alignment %d", name, kind, shift), []byte(whole[from:until]))
		}
	}
	var list []string
	for _, b := range []byte(text) {
		list = append(list, strconv.Itoa(int(b)))
	}
	s.add(name+" as a list of bytes", []byte(strings.Join(list, " ")))
	s.add(name+" as a list of bytes with commas", []byte(strings.Join(list, ",")))
}

// addNumber adds the forms of a text and those of a number.
func (s *searcher) addNumber(name, number string) {
	s.addText(name, number)
	s.add(name+" with spaces", []byte(spaced(number, " ")))
	s.add(name+" with hyphens", []byte(spaced(number, "-")))
	s.addText(name+" with spaces", spaced(number, " "))
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		panic("not a number")
	}
	// Also where the zeros at its end are left out. Less of it would be found by chance:
	// six bytes of some that are random, once in 2^48 places.
	s.add(name+" as an integer", bytes.TrimRight(endian.LittleEndian.AppendUint64(nil, n), "\x00"))
	s.add(name+" as a big-endian integer", endian.BigEndian.AppendUint64(nil, n))
	s.add(name+" as a hexadecimal integer", []byte(strconv.FormatUint(n, 16)))
}

// in names the first needle found and where, or is empty.
func (s *searcher) in(b []byte) string {
	for i := 0; i+5 < len(b); i++ {
		if !s.begins[uint16(b[i])<<8|uint16(b[i+1])] {
			continue
		}
		for _, n := range s.by[[4]byte(b[i:])] {
			if bytes.HasPrefix(b[i:], n.bytes) {
				return fmt.Sprintf("%s at byte %d", n.name, i)
			}
		}
	}
	return ""
}

func TestSearcherFindsEveryForm(t *testing.T) {
	t.Parallel()
	const number, text = "4111111111111111", "Zoë Quill/feather+?"
	s := newSearcher()
	s.addNumber("number", number)
	s.addText("text", text)
	for name, leak := range map[string]string{
		"raw":                    "x" + number + "y",
		"spaced":                 "4111 1111 1111 1111",
		"hyphens":                "4111-1111-1111-1111",
		"hex":                    hex.EncodeToString([]byte("card:" + number)),
		"upper-case hex":         strings.ToUpper(hex.EncodeToString([]byte(number))),
		"integer":                string(endian.LittleEndian.AppendUint64(nil, 4111111111111111)),
		"integer of another end": string(endian.BigEndian.AppendUint64(nil, 4111111111111111)),
		"bytes":                  fmt.Sprint([]byte(number)),
		"Go syntax":              fmt.Sprintf("%x", number),
		"text":                   "name: " + text,
		"JSON":                   jsonText("Zoë Quill/feather+?"),
		"URL":                    "https://x/?n=" + url.QueryEscape(text),
		"bytes with commas":      strings.ReplaceAll(fmt.Sprint([]byte(text)), " ", ","),
	} {
		if s.in([]byte(leak)) == "" {
			t.Errorf("%s is not found", name)
		}
	}
	for before := range 7 {
		for after := range 4 {
			whole := strings.Repeat("a", before) + number + strings.Repeat("b", after)
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
				if s.in([]byte(enc.EncodeToString([]byte(whole)))) == "" {
					t.Errorf("base64 after %d and before %d bytes is not found", before, after)
				}
			}
		}
	}
	for _, harmless := range []string{"", "4111", "411111******1111", "4111111111111112", "Zoë Quill"} {
		if hit := s.in([]byte(harmless)); hit != "" {
			t.Errorf("%q: %s", harmless, hit)
		}
	}
}
