package fileenc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	typeCustomer = 0x80 // version 1: customer authenticated encrypted data

	contentNonFramed = 1
	contentFramed    = 2

	maxHeader = 1 << 20 // bytes
)

// EncryptedKey is the message's data key, encrypted by one of its keys.
type EncryptedKey struct {
	Provider string // aws-kms
	Info     string // the provider's name of the key: for aws-kms its ARN; any bytes
	Blob     []byte
}

// Header is what a message begins with. It says nothing reliable before it was
// authenticated.
type Header struct {
	Version     byte
	Suite       Suite
	MessageID   []byte
	Context     []Pair
	Keys        []EncryptedKey
	FrameLength uint32 // 0: the body is not framed
	Commitment  []byte // version 2

	raw []byte // as it was read, for authentication; without what authenticates it
}

// decoder takes fields off the front of bytes.
type decoder struct {
	rest  []byte
	short bool
}

func (d *decoder) take(n int) []byte {
	if d.short || len(d.rest) < n {
		d.short = true
		return make([]byte, min(n, 8))
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uint16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }

func (d *decoder) field() []byte {
	b := d.take(int(d.uint16()))
	if d.short {
		return nil
	}
	return b
}

// source reads a header off a stream and keeps what was read.
type source struct {
	r   io.Reader
	raw []byte
	err error
}

func (s *source) take(n int) []byte {
	if s.err == nil && len(s.raw)+n > maxHeader {
		s.err = fmt.Errorf("%w: its header is longer than %d bytes", ErrLimit, maxHeader)
	}
	if s.err != nil {
		return make([]byte, min(n, 8))
	}
	at := len(s.raw)
	s.raw = append(s.raw, make([]byte, n)...)
	if _, err := io.ReadFull(s.r, s.raw[at:]); err != nil {
		s.err = cutOff(err, "in its header")
		return make([]byte, min(n, 8))
	}
	return s.raw[at:]
}

// cutOff is the error of a read that must not end.
func cutOff(err error, where string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w %s", ErrTruncated, where)
	}
	return err
}

func (s *source) byte() byte     { return s.take(1)[0] }
func (s *source) uint16() uint16 { return binary.BigEndian.Uint16(s.take(2)) }
func (s *source) uint32() uint32 { return binary.BigEndian.Uint32(s.take(4)) }

func (s *source) field() []byte {
	b := s.take(int(s.uint16()))
	if s.err != nil {
		return nil
	}
	return append([]byte(nil), b...)
}

// ReadHeader reads a header and no byte more, without what authenticates it. maxKeys
// is how many encrypted data keys it may have.
func ReadHeader(r io.Reader, maxKeys int) (*Header, error) {
	s := &source{r: r}
	h := &Header{Version: s.byte()}
	switch {
	case errors.Is(s.err, ErrTruncated):
		return nil, notMessage("it is empty")
	case s.err != nil:
		return nil, s.err
	case h.Version == 1:
		if t := s.byte(); s.err == nil && t != typeCustomer {
			return nil, notMessage("it begins with %02x %02x", h.Version, t)
		}
	case h.Version != 2:
		return nil, notMessage("it begins with %02x", h.Version)
	}
	h.Suite = Suite(s.uint16())
	x, ok := suiteOf(h.Suite)
	if s.err == nil && (!ok || x.version != h.Version) {
		return nil, notMessage("there is no algorithm suite %s in version %d", h.Suite, h.Version)
	}
	h.MessageID = append(h.MessageID, s.take(messageIDSize(h.Version))...)
	if context := s.field(); len(context) > 0 {
		var err error
		if h.Context, err = parsePairs(context); err != nil {
			return nil, err
		}
	}
	if err := h.readKeys(s, maxKeys); err != nil {
		return nil, err
	}
	content := s.byte()
	if h.Version == 1 {
		if reservedBytes, iv := s.uint32(), s.byte(); s.err == nil && (reservedBytes != 0 || iv != ivSize) {
			return nil, notMessage("its header has bytes that have no meaning")
		}
	}
	h.FrameLength = s.uint32()
	if s.err == nil && (content != contentNonFramed && content != contentFramed || (content == contentFramed) != (h.FrameLength > 0)) {
		return nil, notMessage("its content type %d does not go with frames of %d bytes", content, h.FrameLength)
	}
	if h.Version == 2 {
		h.Commitment = append(h.Commitment, s.take(commitmentSize)...)
	}
	if s.err != nil {
		return nil, s.err
	}
	h.raw = s.raw
	return h, h.checkPublicKey()
}

func (h *Header) readKeys(s *source, maxKeys int) error {
	n := int(s.uint16())
	switch {
	case s.err != nil:
		return s.err
	case n == 0:
		return notMessage("it has no encrypted data key")
	case n > maxKeys:
		return fmt.Errorf("%w: it has %d encrypted data keys, at most %d are read", ErrLimit, n, maxKeys)
	}
	for range n {
		k := EncryptedKey{Provider: string(s.field()), Info: string(s.field()), Blob: s.field()}
		if s.err != nil {
			return s.err
		}
		if !utf8.ValidString(k.Provider) {
			return notMessage("the name of a key provider is not UTF-8")
		}
		h.Keys = append(h.Keys, k)
	}
	return nil
}

// checkPublicKey checks that the header has the key of the signature exactly if the
// message is signed.
func (h *Header) checkPublicKey() error {
	has := false
	for _, p := range h.Context {
		has = has || p.Key == publicKeyPair
	}
	switch {
	case h.Suite.Signed() && !has:
		return notMessage("it is signed, but has no key to check that")
	case !h.Suite.Signed() && has:
		return notMessage("it has a key to check a signature, but is not signed")
	}
	return nil
}

// append appends the header as ReadHeader reads it.
func (h *Header) append(b []byte) []byte {
	b = append(b, h.Version)
	if h.Version == 1 {
		b = append(b, typeCustomer)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(h.Suite))
	b = append(b, h.MessageID...)
	b = appendField(b, appendPairs(nil, h.Context))
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Keys)))
	for _, k := range h.Keys {
		b = appendField(b, k.Provider)
		b = appendField(b, k.Info)
		b = appendField(b, k.Blob)
	}
	content := byte(contentFramed)
	if h.FrameLength == 0 {
		content = contentNonFramed
	}
	b = append(b, content)
	if h.Version == 1 {
		b = append(b, 0, 0, 0, 0, ivSize)
	}
	b = binary.BigEndian.AppendUint32(b, h.FrameLength)
	return append(b, h.Commitment...)
}
