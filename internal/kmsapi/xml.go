package kmsapi

import (
	"strconv"
	"time"
	"unicode/utf8"

	"cardea/internal/identity"
)

// xml writes elements. Names are ours; values are escaped.
type xml struct{ b *buffer }

func (x *xml) text(name, value string) {
	x.open(name)
	x.escape([]byte(value))
	x.close(name)
}

func (x *xml) number(name string, n int) { x.text(name, strconv.Itoa(n)) }

func (x *xml) time(name string, t time.Time) {
	x.text(name, t.UTC().Format("2006-01-02T15:04:05Z"))
}

// credentials writes them without a copy of what is secret.
func (x *xml) credentials(c *identity.Credentials) {
	x.open("Credentials")
	x.text("AccessKeyId", c.AccessKeyID)
	x.open("SecretAccessKey")
	x.escape(c.Secret.Expose())
	x.close("SecretAccessKey")
	x.open("SessionToken")
	x.escape(c.SessionToken.Expose())
	x.close("SessionToken")
	x.time("Expiration", c.ExpiresAt)
	x.close("Credentials")
}

func (x *xml) open(name string) {
	x.b.text("<")
	x.b.text(name)
	x.b.text(">")
}

func (x *xml) close(name string) {
	x.b.text("</")
	x.b.text(name)
	x.b.text(">")
}

// escape writes text. What XML 1.0 cannot have is replaced.
func (x *xml) escape(s []byte) {
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		switch {
		case r == '<':
			x.b.text("&lt;")
		case r == '>':
			x.b.text("&gt;")
		case r == '&':
			x.b.text("&amp;")
		case r == '"':
			x.b.text("&#34;")
		case r == '\'':
			x.b.text("&#39;")
		case r == '\t', r == '\n', r == '\r':
			x.b.text("&#" + strconv.Itoa(int(r)) + ";")
		case r < ' ', r == utf8.RuneError, r == 0xFFFE, r == 0xFFFF:
			x.b.text("\uFFFD")
		default:
			x.b.Write(s[:n]) //nolint:errcheck // never fails
		}
		s = s[n:]
	}
}

// encodeQueryError writes an error as AWS Query has it.
func encodeQueryError(b *buffer, e *identity.Error, status int, requestID string) {
	x := &xml{b}
	b.text(`<ErrorResponse xmlns="` + stsNamespace + `"><Error>`)
	if status < 500 {
		x.text("Type", "Sender")
	} else {
		x.text("Type", "Receiver")
	}
	x.text("Code", string(e.Code))
	x.text("Message", e.Message)
	b.text("</Error>")
	x.text("RequestId", requestID)
	b.text("</ErrorResponse>")
}
