package fileenc

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"

	"cardea/internal/kmsclient"
)

const (
	// DefaultFrameLength is the length of frames that are written.
	DefaultFrameLength = 64 << 10
	// MaxFrameLength is the longest frame that is written.
	MaxFrameLength = 4 << 20
)

// EncryptOptions are how a message is made.
type EncryptOptions struct {
	// Keys are the keys that each open the message, 1 to 100. The first one makes the
	// data key.
	Keys []kmsclient.Key
	// Context is the encryption context, at most 8192 bytes. It is stored in the
	// message, in clear.
	Context map[string]string
	// Required is more of it that is not stored: whoever decrypts must give it.
	Required map[string]string
	// Sign adds a signature at the end by a key made for the message, so that nobody
	// who can decrypt it can change it.
	Sign bool
	// FrameLength is in bytes, DefaultFrameLength if 0.
	FrameLength int
	// Progress, if not nil, is called with the bytes of plaintext that were written.
	Progress func(int64)
}

// Encrypt writes a message with what r has. It returns the header and the bytes of
// plaintext. On an error the message is unfinished, and no reader accepts it. A read
// of r that is under way when ctx ends may outlive the call.
func Encrypt(ctx context.Context, kms KMS, w io.Writer, r io.Reader, o EncryptOptions) (*Header, int64, error) {
	if o.FrameLength == 0 {
		o.FrameLength = DefaultFrameLength
	}
	if o.FrameLength < 1 || o.FrameLength > MaxFrameLength {
		return nil, 0, fmt.Errorf("%w: frames of %d bytes, 1 to %d are written", ErrInvalid, o.FrameLength, MaxFrameLength)
	}
	all := maps.Clone(o.Context)
	if all == nil {
		all = map[string]string{}
	}
	for k, v := range o.Required {
		if _, twice := all[k]; twice {
			return nil, 0, fmt.Errorf("%w: the encryption context has %q as stored and as required", ErrInvalid, k)
		}
		all[k] = v
	}
	if err := checkContext(all); err != nil {
		return nil, 0, err
	}
	h := &Header{Version: 2, Suite: Committed, MessageID: make([]byte, messageIDSize(2)), FrameLength: uint32(o.FrameLength)}
	rand.Read(h.MessageID)
	stored := maps.Clone(o.Context)
	var sign *signer
	if o.Sign {
		h.Suite = CommittedSigned
		x, _ := suiteOf(h.Suite)
		var err error
		if sign, err = newSigner(x.curve()); err != nil {
			return nil, 0, err
		}
		public, err := sign.public()
		if err != nil {
			return nil, 0, err
		}
		if stored == nil {
			stored = map[string]string{}
		}
		stored[publicKeyPair], all[publicKeyPair] = public, public
	}
	h.Context = pairsOf(stored)

	dataKey, wrapped, err := wrap(ctx, kms, o.Keys, all)
	if err != nil {
		return nil, 0, err
	}
	defer dataKey.Destroy()
	h.Keys = wrapped
	x, _ := suiteOf(h.Suite)
	aead, commitment, err := x.derive(dataKey, h.MessageID)
	if err != nil {
		return nil, 0, err
	}
	h.Commitment = commitment
	h.raw = h.append(nil)
	if len(h.raw) > maxHeader {
		return nil, 0, fmt.Errorf("%w: a header of %d bytes, at most %d are read", ErrInvalid, len(h.raw), maxHeader)
	}
	var out io.Writer = w
	if sign != nil {
		out = io.MultiWriter(sign, w)
	}
	tag := aead.Seal(nil, make([]byte, ivSize), nil, appendPairs(slices.Clip(h.raw), pairsOf(o.Required)))
	if _, err := out.Write(append(slices.Clone(h.raw), tag...)); err != nil {
		return nil, 0, err
	}
	e := &encryption{h: h, frames: func() *frames { return &frames{aead: aead, id: h.MessageID} }, r: r, w: out, progress: o.Progress}
	if err := e.run(ctx); err != nil {
		return nil, e.written, err
	}
	if sign != nil {
		footer, err := sign.footer()
		if err != nil {
			return nil, e.written, err
		}
		if _, err := w.Write(footer); err != nil {
			return nil, e.written, err
		}
	}
	return h, e.written, nil
}

// encryption is a body being written.
type encryption struct {
	h        *Header
	frames   func() *frames
	r        io.Reader
	w        io.Writer
	written  int64 // of plaintext
	progress func(int64)
}

func (e *encryption) stride() int { return int(e.h.FrameLength) + frameMore }

func (e *encryption) perBlock() int { return max(1, blockSize/e.stride()) }

func (e *encryption) run(ctx context.Context) error {
	return pipeline{
		size: e.perBlock()*e.stride() + finalMore, workers: runtime.GOMAXPROCS(0),
		read: e.read,
		work: func() func(*block) error {
			f := e.frames()
			return func(b *block) error { return e.seal(f, b) }
		},
		write: func(b *block) error {
			if _, err := e.w.Write(b.out); err != nil {
				return err
			}
			e.written += b.plain
			if e.progress != nil {
				e.progress(e.written)
			}
			return nil
		},
	}.run(ctx)
}

// read cuts the plaintext into frames, each where its ciphertext will stand. A block
// goes on its way when it is known whether another follows, since the final frame is
// another kind of frame.
func (e *encryption) read(f *feed) error {
	var waiting *block
	seq := uint64(1)
	for {
		b, err := f.next()
		if err != nil {
			return err
		}
		if seq+uint64(e.perBlock()) >= math.MaxUint32 {
			return fmt.Errorf("%w: more than %d frames of %d bytes: choose longer frames", ErrInvalid, uint32(math.MaxUint32), e.h.FrameLength)
		}
		b.seq = uint32(seq)
		ended, err := e.fill(b)
		if err != nil {
			return err
		}
		if ended && b.plain == 0 && waiting != nil {
			waiting.final = true
			f.emit(waiting)
			return nil
		}
		if waiting != nil {
			f.emit(waiting)
		}
		if ended {
			b.final = true
			f.emit(b)
			return nil
		}
		waiting = b
		seq += uint64(b.frames)
	}
}

// fill reads frames until the block is full or the plaintext ends. An end right
// behind a frame makes that frame the last, unless there is none.
func (e *encryption) fill(b *block) (ended bool, err error) {
	length := int(e.h.FrameLength)
	for b.frames < e.perBlock() {
		at := b.frames*e.stride() + frameHead
		n, ended, err := readUp(e.r, b.buf[at:at+length])
		b.plain += int64(n)
		if n > 0 || b.frames == 0 {
			b.frames, b.last = b.frames+1, n
		}
		if ended || err != nil {
			return ended, err
		}
	}
	return false, nil
}

// readUp fills b unless r ends before. Other than io.ReadFull it tells the end from
// what some readers say of a source that was cut off, io.ErrUnexpectedEOF: that must
// not become a message that looks complete.
func readUp(r io.Reader, b []byte) (n int, ended bool, err error) {
	for n < len(b) {
		var k int
		k, err = r.Read(b[n:])
		n += k
		switch {
		case err == io.EOF:
			return n, true, nil
		case err != nil:
			return n, false, err
		}
	}
	return n, false, nil
}

// seal encrypts the frames of a block.
func (e *encryption) seal(f *frames, b *block) error {
	length, n := int(e.h.FrameLength), b.frames
	if b.final {
		n--
	}
	for i := range n {
		f.seal(b.buf[i*e.stride():], b.seq+uint32(i), length)
	}
	end := n * e.stride()
	if b.final {
		last := b.buf[end:]
		copy(last[finalHead:], last[frameHead:frameHead+b.last]) // its head is longer
		f.sealFinal(last, b.seq+uint32(n), b.last)
		end += finalHead + b.last + tagSize
	}
	b.out = b.buf[:end]
	return nil
}
