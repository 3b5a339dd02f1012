package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Limits of a segment: the entries of one commit.
const (
	MaxSegmentEntries = 1 << 16
	MaxSegmentBytes   = 64 << 20
)

// ErrMalformedSegment says that a segment's body is not count lines.
var ErrMalformedSegment = errors.New("malformed audit segment")

// EncodeSegment returns the body of a segment: each line and a newline. The
// caller keeps to MaxSegmentEntries and MaxSegmentBytes.
func EncodeSegment(entries []Sealed) []byte { return AppendSegment(nil, entries) }

// AppendSegment appends what EncodeSegment returns.
func AppendSegment(b []byte, entries []Sealed) []byte {
	size := 0
	for i := range entries {
		size += len(entries[i].Line) + 1
	}
	b = slices.Grow(b, size)
	for i := range entries {
		b = append(append(b, entries[i].Line...), '\n')
	}
	return b
}

// SplitSegment returns the count lines of a body, without their newlines. They
// share its memory. It does not look into them.
func SplitSegment(body []byte, count int) ([][]byte, error) { return appendLines(nil, body, count) }

// appendLines is SplitSegment into the memory of lines, which it empties first.
func appendLines(lines [][]byte, body []byte, count int) ([][]byte, error) {
	switch {
	case count < 1 || count > MaxSegmentEntries:
		return nil, fmt.Errorf("%w: %d entries", ErrMalformedSegment, count)
	case len(body) > MaxSegmentBytes:
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformedSegment, len(body))
	case len(body) == 0 || body[len(body)-1] != '\n':
		return nil, fmt.Errorf("%w: no newline at the end", ErrMalformedSegment)
	}
	lines = slices.Grow(lines[:0], count)
	for len(body) > 0 {
		end := bytes.IndexByte(body, '\n')
		if end == 0 || end > MaxLine {
			return nil, fmt.Errorf("%w: line %d has %d bytes", ErrMalformedSegment, len(lines), end)
		}
		if len(lines) == count {
			return nil, fmt.Errorf("%w: more than its %d lines", ErrMalformedSegment, count)
		}
		lines = append(lines, body[:end:end])
		body = body[end+1:]
	}
	if len(lines) != count {
		return nil, fmt.Errorf("%w: %d lines, want %d", ErrMalformedSegment, len(lines), count)
	}
	return lines, nil
}
