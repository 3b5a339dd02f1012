package cloudtrail

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Defaults of Options.
const (
	DefaultMaxRecord = 1 << 20
	DefaultMaxBytes  = 1 << 33
)

// maxProblems is how many problems are kept with their places; all are counted.
const maxProblems = 100

// ErrTooMuch says that a source has more uncompressed bytes than Options.MaxBytes.
var ErrTooMuch = errors.New("more uncompressed data than is allowed")

// ErrTrailing says that after the end of a gzip stream something follows that is
// no other one.
var ErrTrailing = errors.New("bytes after the end of the gzip stream")

// Options of a Reader. The zero value is a safe default.
type Options struct {
	Names     *Names // shared by readers that shall know the same aliases; default one of its own
	MaxRecord int    // bytes of a record, default DefaultMaxRecord; at least 4096
	MaxBytes  int64  // uncompressed bytes of a source, default DefaultMaxBytes
}

// Kind says what is wrong with a part of a source.
type Kind string

// Kinds of problems.
const (
	KindMalformed Kind = "malformed" // not JSON, or JSON that is no record
	KindTooLarge  Kind = "too_large"
	KindTooDeep   Kind = "too_deep"
	KindVersion   Kind = "version"   // another major event version
	KindTruncated Kind = "truncated" // the source ends in the middle
	KindTrailing  Kind = "trailing"  // something stands after the end
)

// Problem is a part of a source that is not an event though it should be. It says
// nothing of the content.
type Problem struct {
	Offset int64 `json:"offset"` // of the uncompressed bytes
	Kind   Kind  `json:"kind"`
}

// String says it for people.
func (p Problem) String() string { return fmt.Sprintf("%s at byte %d", p.Kind, p.Offset) }

// Stats is what a Reader read.
type Stats struct {
	Bytes    int64     `json:"bytes"` // uncompressed
	Events   int64     `json:"events"`
	Other    int64     `json:"other"`   // not records of API calls: Insights, digests, other log lines
	Skipped  int64     `json:"skipped"` // problems
	Problems []Problem `json:"problems,omitempty"`
}

// Reader reads events of one source. It finds out by itself whether that is
// compressed and which of CloudTrail's forms it has (docs/spec/cloudtrail.md).
// Its memory is bounded by Options.MaxRecord and a few hundred KB whatever the
// source has. It is for one goroutine; Reset makes it ready for another source
// and keeps its buffers.
type Reader struct {
	o    Options
	p    parser
	gzip *gzip.Reader
	in   *bufio.Reader

	src        io.Reader
	buf        []byte
	start, end int
	base       int64 // offset of buf[0]
	eof        bool
	err        error // of the source

	state     state
	container bool // the list is a member of an object
	comma     bool // the list goes on with a comma
	search    bool // the list is broken: look for the next record
	whole     int64
	stats     Stats
}

// state is where in the source a Reader is.
type state uint8

const (
	atTop  state = iota // values stand one after the other, on lines or not
	inList              // of records
	inTail              // of the object that the list was in
)

const firstBuffer = 128 << 10

// NewReader reads from src.
func NewReader(src io.Reader, o Options) *Reader {
	if o.Names == nil {
		o.Names = NewNames()
	}
	if o.MaxRecord <= 0 {
		o.MaxRecord = DefaultMaxRecord
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	o.MaxRecord = max(o.MaxRecord, 4096)
	r := &Reader{o: o, in: bufio.NewReaderSize(nil, 64<<10), buf: make([]byte, min(firstBuffer, o.MaxRecord))}
	r.p.texts, r.p.names = newTexts(), o.Names
	r.Reset(src)
	return r
}

// Reset begins to read another source.
func (r *Reader) Reset(src io.Reader) {
	r.in.Reset(src)
	*r = Reader{o: r.o, p: r.p, gzip: r.gzip, in: r.in, buf: r.buf}
}

// Whole gives the length of what was read and is complete: up to the end of a line
// or of a value that is in no other. Where a source that grows is read up to its end
// one goes on there.
func (r *Reader) Whole() int64 { return r.whole }

// here notes that what was read is complete.
func (r *Reader) here() {
	if r.state == atTop {
		r.whole = r.base + int64(r.start)
	}
}

// Stats tells what was read so far.
func (r *Reader) Stats() Stats { return r.stats }

// Read fills in the next event. After the last one it gives io.EOF, or why the
// source could not be read to its end. What e then has may be kept, and e itself
// be used again.
func (r *Reader) Read(e *Event) error {
	for {
		var got bool
		var err error
		switch r.state {
		case atTop:
			got, err = r.top(e)
		case inList:
			got, err = r.list(e)
		case inTail:
			err = r.tail()
		}
		if err != nil {
			return err
		}
		if got {
			r.stats.Events++
			return nil
		}
	}
}

// Parse calls each with every event of a source. The event is valid until each
// returns; what it has may be kept.
func Parse(src io.Reader, o Options, each func(*Event) error) (Stats, error) {
	r := NewReader(src, o)
	var e Event
	for {
		switch err := r.Read(&e); {
		case errors.Is(err, io.EOF):
			return r.Stats(), nil
		case err != nil:
			return r.Stats(), err
		}
		if err := each(&e); err != nil {
			return r.Stats(), err
		}
	}
}

// open looks at the first bytes.
func (r *Reader) open() error {
	head, err := r.in.Peek(2)
	if err != nil && err != io.EOF { //nolint:errorlint // bufio gives it as it is
		return err
	}
	r.src = r.in
	if !bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return nil
	}
	if r.gzip == nil {
		r.gzip, err = gzip.NewReader(r.in)
	} else {
		err = r.gzip.Reset(r.in)
	}
	if err == nil {
		r.gzip.Multistream(false)
	}
	r.src = r.gzip
	return err
}

// another goes on with the next gzip stream, if there is one.
func (r *Reader) another() error {
	head, err := r.in.Peek(2)
	switch {
	case len(head) == 0:
		return err
	case !bytes.Equal(head, []byte{0x1f, 0x8b}):
		return ErrTrailing
	}
	if err := r.gzip.Reset(r.in); err != nil {
		return err
	}
	r.gzip.Multistream(false)
	return nil
}

// fill reads more, and reports whether there is more in the buffer than before.
// A full buffer grows up to MaxRecord.
func (r *Reader) fill() bool {
	if r.eof {
		return false
	}
	if r.src == nil {
		if err := r.open(); err != nil {
			r.eof, r.err = true, err
			return false
		}
	}
	if r.start > 0 {
		copy(r.buf, r.buf[r.start:r.end])
		r.base += int64(r.start)
		r.end -= r.start
		r.start = 0
	}
	if r.end == len(r.buf) {
		if len(r.buf) >= r.o.MaxRecord {
			return false
		}
		grown := make([]byte, min(2*len(r.buf), r.o.MaxRecord))
		copy(grown, r.buf)
		r.buf = grown
	}
	was := r.end
	// To the brim: a record that is short is scanned again from its start.
	for r.end < len(r.buf) && !r.eof {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		r.stats.Bytes += int64(n)
		if r.stats.Bytes > r.o.MaxBytes {
			err = ErrTooMuch
		}
		if err == io.EOF && r.src == io.Reader(r.gzip) { //nolint:errorlint // by the contract of io.Reader
			err = r.another()
		}
		if err != nil {
			r.eof = true
			if err != io.EOF { //nolint:errorlint // by the contract of io.Reader
				r.err = err
			}
		}
	}
	return r.end > was
}

// next skips white space and gives the next byte without taking it.
func (r *Reader) next() (byte, bool) {
	for {
		for r.start < r.end {
			if c := r.buf[r.start]; c > ' ' || !space(c) {
				return c, true
			}
			r.start++
		}
		if !r.fill() {
			return 0, false
		}
	}
}

// problem notes what is wrong at the current place.
func (r *Reader) problem(kind Kind) {
	r.stats.Skipped++
	if len(r.stats.Problems) < maxProblems {
		r.stats.Problems = append(r.stats.Problems, Problem{Offset: r.base + int64(r.start), Kind: kind})
	}
}

// finish is the end of the source.
func (r *Reader) finish() error {
	if r.err == nil {
		if r.state != atTop {
			r.state = atTop
			r.problem(KindTruncated)
		}
		return io.EOF
	}
	if r.src == io.Reader(r.in) || errors.Is(r.err, ErrTooMuch) || errors.Is(r.err, ErrTrailing) {
		return r.err
	}
	return fmt.Errorf("gunzip: %w", r.err)
}

// object reads an object at the current place, with as much of the source as it
// takes. It leaves the place where it was: p.i is the object's length.
func (r *Reader) object(e *Event, top bool) (found, fault) {
	for {
		r.p.reset(r.buf[r.start:r.end])
		got := r.p.object(e, top, 0)
		if r.p.fault != faultShort {
			return got, r.p.fault
		}
		if !r.fill() {
			return got, faultShort
		}
	}
}

// kindOf says what a fault is.
func (r *Reader) kindOf(f fault) Kind {
	switch {
	case f == faultDeep:
		return KindTooDeep
	case f == faultShort && !r.eof:
		return KindTooLarge
	case f == faultShort:
		return KindTruncated
	}
	return KindMalformed
}

// take counts what an object was, and goes to its end.
func (r *Reader) take(got found) bool {
	switch got {
	case foundOther:
		r.stats.Other++
	case foundVersion:
		r.problem(KindVersion)
	case foundNothing:
		r.problem(KindMalformed)
	case foundRecord, foundContainer:
	}
	r.start += r.p.i
	r.here()
	return got == foundRecord
}
