package ciphertext

import "encoding/binary"

// Context is the canonical encoding of a purpose and the fields bound to it:
// every element, the label first, with its length before it (u32, big-endian).
// Different lists never give the same bytes. The label names purpose and
// version, e.g. "cardea record v1"; a label is never used for two purposes.
func Context(label string, fields ...[]byte) []byte {
	n := 4 + len(label)
	for _, f := range fields {
		n += 4 + len(f)
	}
	b := appendText(make([]byte, 0, n), label)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// The functions below append one field each, so that the hot paths build a
// context in one allocation.

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func appendByte(b []byte, v byte) []byte {
	return append(b, 0, 0, 0, 1, v)
}

func appendUint32(b []byte, v uint32) []byte {
	b = append(b, 0, 0, 0, 4)
	return binary.BigEndian.AppendUint32(b, v)
}

func appendInt64(b []byte, v int64) []byte {
	b = append(b, 0, 0, 0, 8)
	return binary.BigEndian.AppendUint64(b, uint64(v))
}

func appendID(b []byte, id [16]byte) []byte {
	b = append(b, 0, 0, 0, 16)
	return append(b, id[:]...)
}
