package fileenc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"slices"

	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

const (
	// DefaultMaxKeys is how many encrypted data keys a message may have.
	DefaultMaxKeys = 100
	// DefaultMaxFrame is the longest frame, or body without frames, that is read: it
	// is in memory as a whole.
	DefaultMaxFrame = 8 << 20
)

// DecryptOptions are what the reader of a message trusts and allows.
type DecryptOptions struct {
	// Keys are the keys that may be asked for the data key, and no other, unless
	// Discovery allows more.
	Keys      []kmsclient.Key
	Discovery *Discovery
	// Context is what the encryption context must have. Pairs that the message does
	// not store must be those that it was made with as required.
	Context map[string]string
	// AllowUncommitted reads suites without key commitment, which messages of version
	// 1 have: whoever knows two data keys can make one that opens to two plaintexts.
	AllowUncommitted bool
	// RefuseSigned refuses signed messages, before anything is written: their signature
	// stands at the end, so what is written before must not be used.
	RefuseSigned bool
	MaxKeys      int // default DefaultMaxKeys
	MaxFrame     int // bytes, default DefaultMaxFrame
	// Progress, if not nil, is called with the bytes of plaintext that were written.
	Progress func(int64)

	dataKey secret.Bytes // for tests: nobody is asked
}

// Decrypt writes the plaintext of the message that r has, each frame after it was
// authenticated, and the last ones after the signature was, if there is one, and r has
// ended. It returns the authenticated header, the ARN of the key that opened the
// message, and the bytes of plaintext. A read of r that is under way when ctx ends may
// outlive the call.
func Decrypt(ctx context.Context, kms KMS, w io.Writer, r io.Reader, o DecryptOptions) (*Opened, error) {
	m, err := open(ctx, kms, r, o)
	if err != nil {
		return nil, err
	}
	if err := m.body(ctx, w); err != nil {
		return nil, err
	}
	return &m.Opened, nil
}

// Opened is what is known of a message that was decrypted.
type Opened struct {
	Header *Header
	Key    string // ARN of the key that opened it
	Size   int64  // bytes of plaintext
}

// message is a message whose header was authenticated.
type message struct {
	Opened
	required map[string]string // of the context, what the header does not store
	r        *bufio.Reader
	frames   func() *frames
	verify   *verifier // or nil
	o        DecryptOptions
}

func open(ctx context.Context, kms KMS, r io.Reader, o DecryptOptions) (*message, error) {
	if o.MaxKeys == 0 {
		o.MaxKeys = DefaultMaxKeys
	}
	if o.MaxFrame == 0 {
		o.MaxFrame = DefaultMaxFrame
	}
	m := &message{r: bufio.NewReaderSize(r, 8<<10), o: o}
	h, err := ReadHeader(m.r, o.MaxKeys)
	if err != nil {
		return nil, err
	}
	m.Header = h
	switch {
	case !h.Suite.Committing() && !o.AllowUncommitted:
		return nil, fmt.Errorf("%w (suite %s)", ErrUncommitted, h.Suite)
	case h.Suite.Signed() && o.RefuseSigned:
		return nil, fmt.Errorf("%w (suite %s)", ErrSigned, h.Suite)
	case int64(h.FrameLength) > int64(o.MaxFrame):
		return nil, fmt.Errorf("%w: it has frames of %d bytes, at most %d are read", ErrLimit, h.FrameLength, o.MaxFrame)
	}
	encryption, required, err := matchContext(h.Context, o.Context)
	if err != nil {
		return nil, err
	}
	m.required = required
	if m.verify, err = newVerifier(h); err != nil {
		return nil, err
	}
	authentication, err := m.readAuthentication()
	if err != nil {
		return nil, err
	}
	dataKey, arn, err := o.unwrap(ctx, kms, h, encryption)
	if err != nil {
		if len(required) > 0 {
			err = fmt.Errorf("%w (of the encryption context, %s is not in the message)", err, pairNames(required))
		}
		return nil, err
	}
	defer dataKey.Destroy()
	m.Key = arn
	x, _ := suiteOf(h.Suite)
	aead, commitment, err := x.derive(dataKey, h.MessageID)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(commitment, h.Commitment) != 1 {
		return nil, forged("it was made with another data key than it commits to")
	}
	iv, tag := authentication[:len(authentication)-tagSize], authentication[len(authentication)-tagSize:]
	if len(iv) == 0 {
		iv = make([]byte, ivSize) // version 2 has no use for another
	}
	if _, err := aead.Open(nil, iv, tag, appendPairs(slices.Clip(h.raw), pairsOf(required))); err != nil {
		return nil, forged("its header was changed")
	}
	m.frames = func() *frames { return &frames{aead: aead, id: h.MessageID} }
	return m, nil
}

// readAuthentication reads what follows the header: a nonce in version 1, and a tag.
func (m *message) readAuthentication() ([]byte, error) {
	n := tagSize
	if m.Header.Version == 1 {
		n += ivSize
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(m.r, b); err != nil {
		return nil, cutOff(err, "behind its header")
	}
	if m.verify != nil {
		m.verify.Write(m.Header.raw)
		m.verify.Write(b)
	}
	return b, nil
}

func pairNames(context map[string]string) string {
	s := ""
	for i, p := range pairsOf(context) {
		if i > 0 {
			s += ", "
		}
		s += p.Key
	}
	return s
}

// body writes the plaintext.
func (m *message) body(ctx context.Context, w io.Writer) error {
	if m.Header.FrameLength == 0 {
		return m.nonFramed(w)
	}
	return pipeline{
		size: m.perBlock()*m.stride() + finalMore, workers: runtime.GOMAXPROCS(0),
		read: m.read,
		work: func() func(*block) error {
			f := m.frames()
			return func(b *block) error { return m.open(f, b) }
		},
		write: func(b *block) error { return m.release(w, b.out) },
	}.run(ctx)
}

func (m *message) release(w io.Writer, plain []byte) error {
	if _, err := w.Write(plain); err != nil {
		return err
	}
	m.Size += int64(len(plain))
	if m.o.Progress != nil {
		m.o.Progress(m.Size)
	}
	return nil
}

func (m *message) stride() int { return int(m.Header.FrameLength) + frameMore }

func (m *message) perBlock() int { return max(1, blockSize/m.stride()) }

// read reads frames, checks their numbers and finds the final one. When it is found,
// the end of the message is read and checked before its block goes on its way.
func (m *message) read(f *feed) error {
	seq := uint64(1)
	var rest []byte // read with the block before, of a final frame, or behind it
	for {
		b, err := f.next()
		if err != nil {
			return err
		}
		have := copy(b.buf, rest)
		n, ended, err := readUp(m.r, b.buf[have:])
		have += n
		if err != nil {
			return err
		}
		b.seq = uint32(seq)
		end, err := m.scan(b, have, seq)
		if err != nil {
			return err
		}
		if m.verify != nil {
			m.verify.Write(b.buf[:end])
		}
		if b.final {
			if err := m.readEnd(io.MultiReader(bytes.NewReader(b.buf[end:have]), m.r)); err != nil {
				return err
			}
			f.emit(b)
			return nil
		}
		seq += uint64(b.frames)
		if ended {
			return fmt.Errorf("%w before frame %d is complete", ErrTruncated, seq)
		}
		rest = append(rest[:0], b.buf[end:have]...) // at most finalMore bytes
		f.emit(b)
	}
}

// scan finds the complete frames in what was read of a block and returns where they
// end.
func (m *message) scan(b *block, have int, seq uint64) (end int, err error) {
	for b.frames < m.perBlock() {
		left := b.buf[end:have]
		if len(left) < 4 {
			break
		}
		number := binary.BigEndian.Uint32(left)
		if number == lastFrame {
			if len(left) < finalHead {
				break
			}
			number = binary.BigEndian.Uint32(left[4:])
			b.last = int(binary.BigEndian.Uint32(left[8+ivSize:]))
			if int64(b.last) > int64(m.Header.FrameLength) {
				return 0, forged("its final frame has %d bytes, more than its frames have", b.last)
			}
			b.final = true
		}
		if uint64(number) != seq {
			return 0, forged("frame %d stands where frame %d should", number, seq)
		}
		size := m.stride()
		if b.final {
			size = finalHead + b.last + tagSize
		}
		if len(left) < size {
			b.final = false
			break
		}
		end += size
		b.frames++
		seq++
		if b.final {
			break
		}
	}
	return end, nil
}

// readEnd reads the signature, if there is one, and that nothing follows.
func (m *message) readEnd(r io.Reader) error {
	if m.verify != nil {
		if err := m.verify.readFooter(r); err != nil {
			return err
		}
	}
	var one [1]byte
	n, _, err := readUp(r, one[:])
	if n > 0 {
		return ErrTrailing
	}
	return err
}

// open decrypts the frames of a block and moves their contents together.
func (m *message) open(f *frames, b *block) error {
	out := 0
	for i := range b.frames {
		frame, kind, nonce, head, length := b.buf[i*m.stride():], kindFrame, 4, frameHead, int(m.Header.FrameLength)
		if b.final && i == b.frames-1 {
			kind, nonce, head, length = kindFinalFrame, 8, finalHead, b.last
		}
		plain, err := f.open(frame[nonce:nonce+ivSize], frame[head:head+length+tagSize], kind, b.seq+uint32(i))
		if err != nil {
			return err
		}
		out += copy(b.buf[out:], plain)
	}
	b.out = b.buf[:out]
	return nil
}

// nonFramed decrypts a body that is one piece.
func (m *message) nonFramed(w io.Writer) error {
	head := make([]byte, ivSize+8)
	if _, err := io.ReadFull(m.r, head); err != nil {
		return cutOff(err, "before its content")
	}
	length := binary.BigEndian.Uint64(head[ivSize:])
	if length > uint64(m.o.MaxFrame) {
		return fmt.Errorf("%w: its body is one piece of %d bytes, at most %d are read", ErrLimit, length, m.o.MaxFrame)
	}
	sealed := make([]byte, length+tagSize)
	defer secret.Wipe(sealed)
	if _, err := io.ReadFull(m.r, sealed); err != nil {
		return cutOff(err, "in its content")
	}
	if m.verify != nil {
		m.verify.Write(head)
		m.verify.Write(sealed)
	}
	plain, err := m.frames().open(head[:ivSize], sealed, kindNonFramed, 1)
	if err != nil {
		return forged("its content was changed")
	}
	if err := m.readEnd(m.r); err != nil {
		return err
	}
	return m.release(w, plain)
}
