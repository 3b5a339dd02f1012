package fileenc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"cardea/internal/fileenc"
	"cardea/internal/kmsclient"
)

// refused fails the test unless err is of the kind and has the words.
func refused(t testing.TB, err, kind error, words string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("got error %v, want %v: %s", err, kind, words)
	}
}

func TestDecryptRefusals(t *testing.T) {
	t.Parallel()
	kms := &fakeKMS{}
	message := seal(t, kms, random(5000), fileenc.EncryptOptions{Keys: keys(first, second), Context: shop, FrameLength: 1000})
	signed := seal(t, kms, random(5000), fileenc.EncryptOptions{Keys: keys(first), Sign: true, FrameLength: 1000})
	required := seal(t, kms, nil, fileenc.EncryptOptions{Keys: keys(first), Required: shop})
	body := len(message) - 5*1032 - 4 - 4 // where the first frame begins
	if binary.BigEndian.Uint32(message[body:]) != 1 {
		t.Fatal("the first frame is elsewhere")
	}
	swapped := slices.Concat(message[:body], message[body+1032:body+2*1032], message[body:body+1032], message[body+2*1032:])
	dropped := slices.Concat(message[:body], message[body+1032:])
	for name, c := range map[string]struct {
		message []byte
		o       fileenc.DecryptOptions
		kind    error
		words   string
	}{
		"another key":         {message, fileenc.DecryptOptions{Keys: keys(third)}, fileenc.ErrNoKey, "it is encrypted under " + first + ", " + second},
		"no key":              {message, fileenc.DecryptOptions{}, fileenc.ErrNoKey, "it is encrypted under"},
		"another account":     {message, fileenc.DecryptOptions{Discovery: &fileenc.Discovery{Accounts: []string{"444455556666"}}}, fileenc.ErrNoKey, "it is encrypted under"},
		"another partition":   {message, fileenc.DecryptOptions{Discovery: &fileenc.Discovery{Accounts: []string{"111122223333"}, Partition: "aws-cn"}}, fileenc.ErrNoKey, "it is encrypted under"},
		"wrong context":       {message, fileenc.DecryptOptions{Keys: keys(first), Context: map[string]string{"tenant": "bank"}}, fileenc.ErrContext, "the message has tenant=shop, not bank"},
		"more context":        {message, fileenc.DecryptOptions{Keys: keys(first), Context: map[string]string{"ticket": "17"}}, fileenc.ErrNoKey, "of the encryption context, ticket is not in the message"},
		"required missing":    {required, fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrNoKey, "does not belong to the key and the encryption context"},
		"signed to a pipe":    {signed, fileenc.DecryptOptions{Keys: keys(first), RefuseSigned: true}, fileenc.ErrSigned, "suite 0x0578"},
		"too many keys":       {message, fileenc.DecryptOptions{Keys: keys(first), MaxKeys: 1}, fileenc.ErrLimit, "it has 2 encrypted data keys, at most 1 are read"},
		"long frames":         {message, fileenc.DecryptOptions{Keys: keys(first), MaxFrame: 999}, fileenc.ErrLimit, "it has frames of 1000 bytes, at most 999 are read"},
		"empty":               {nil, fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrNotMessage, "it is empty"},
		"text":                {[]byte("4111 is not here"), fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrNotMessage, "it begins with 34"},
		"other type":          {[]byte{1, 2}, fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrNotMessage, "it begins with 01 02"},
		"other suite":         {[]byte{2, 3, 0x78, 0}, fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrNotMessage, "there is no algorithm suite 0x0378 in version 2"},
		"cut off in header":   {message[:100], fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrTruncated, "in its header"},
		"cut off behind it":   {message[:body-1], fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrTruncated, "behind its header"},
		"cut off at a frame":  {message[:body+2*1032], fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrTruncated, "before frame 3 is complete"},
		"cut off in the last": {message[:len(message)-1], fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrTruncated, "before frame 5 is complete"},
		"no signature":        {signed[:len(signed)-50], fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrTruncated, "in its signature"},
		"trailing":            {append(slices.Clone(message), 'x'), fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrTrailing, ""},
		"two messages":        {slices.Concat(message, message), fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrTrailing, ""},
		"frames swapped":      {swapped, fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrForged, "frame 2 stands where frame 1 should"},
		"frame dropped":       {dropped, fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrForged, "frame 2 stands where frame 1 should"},
		"frame changed":       {flipped(message, body+1032+500), fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrForged, "frame 2 was changed"},
		"header tag":          {flipped(message, body-1), fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrForged, "its header was changed"},
		"commitment":          {flipped(message, body-17), fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrForged, "made with another data key than it commits to"},
		"signature":           {flipped(signed, len(signed)-1), fileenc.DecryptOptions{Keys: keys(first)}, fileenc.ErrForged, "its signature is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := unseal(t, &fakeKMS{}, c.message, c.o)
			refused(t, err, c.kind, c.words)
		})
	}
}

// Whoever can decrypt a message knows its data key; he must not be able to make
// another that its readers take for the sender's. A signature says so.
func TestHeaderOfAnotherMessageIsRefused(t *testing.T) {
	t.Parallel()
	kms := &fakeKMS{}
	a := seal(t, kms, []byte("a"), fileenc.EncryptOptions{Keys: keys(first), Context: shop})
	b := seal(t, kms, []byte("b"), fileenc.EncryptOptions{Keys: keys(first), Context: shop})
	const tail = 16 + 4 + 4 + 12 + 4 + 1 + 16
	_, err := unseal(t, kms, slices.Concat(a[:len(a)-tail+16], b[len(b)-tail+16:]), fileenc.DecryptOptions{Keys: keys(first)})
	refused(t, err, fileenc.ErrForged, "frame 1 was changed")
}

func TestOnlyNamedKeysAreAsked(t *testing.T) {
	t.Parallel()
	multi := "arn:aws:kms:eu-central-1:111122223333:key/mrk-11111111111141118111111111111111"
	replica := strings.Replace(multi, "eu-central-1", "us-east-1", 1)
	bare := kmsclient.Key{ID: "22222222-2222-4222-8222-222222222222", Region: "eu-central-1"}
	message := seal(t, &fakeKMS{}, nil, fileenc.EncryptOptions{Keys: keys(first, second, multi, third)})
	for name, c := range map[string]struct {
		o    fileenc.DecryptOptions
		want []string
	}{
		"second":         {fileenc.DecryptOptions{Keys: keys(second)}, []string{second}},
		"order of names": {fileenc.DecryptOptions{Keys: keys(third, first)}, []string{third}},
		"replica":        {fileenc.DecryptOptions{Keys: keys(replica)}, []string{replica}},
		"by id":          {fileenc.DecryptOptions{Keys: []kmsclient.Key{bare}}, []string{second}},
		"by alias":       {fileenc.DecryptOptions{Keys: keys("alias/files")}, []string{"alias/files"}},
		"discovery":      {fileenc.DecryptOptions{Discovery: &fileenc.Discovery{Accounts: []string{"444455556666"}}}, []string{third}},
		"named first":    {fileenc.DecryptOptions{Keys: keys(second), Discovery: &fileenc.Discovery{Accounts: []string{"444455556666"}}}, []string{second}},
	} {
		kms := &fakeKMS{}
		_, err := unseal(t, kms, message, c.o)
		var want []string
		for _, w := range c.want {
			want = append(want, "Decrypt "+w)
		}
		if err != nil && name != "replica" || !slices.Equal(kms.calls, want) {
			t.Errorf("%s: asked %q, want %q; %v", name, kms.calls, want, err)
		}
	}
}

func TestEncryptRefusals(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 8192)
	for name, c := range map[string]struct {
		o     fileenc.EncryptOptions
		words string
	}{
		"no key":       {fileenc.EncryptOptions{}, "0 keys, 1 to 100 are taken"},
		"many keys":    {fileenc.EncryptOptions{Keys: make([]kmsclient.Key, 101)}, "101 keys"},
		"same key":     {fileenc.EncryptOptions{Keys: keys(first, "alias/files")}, "key " + first + " is named twice"},
		"no ARN":       {fileenc.EncryptOptions{Keys: keys("22222222-2222-4222-8222-222222222222")}, "messages need an ARN"},
		"reserved":     {fileenc.EncryptOptions{Keys: keys(first), Context: map[string]string{"aws-crypto-public-key": "x"}}, "names that begin with aws-crypto- are the message format's"},
		"empty":        {fileenc.EncryptOptions{Keys: keys(first), Context: map[string]string{"x": ""}}, "empty key or value"},
		"not UTF-8":    {fileenc.EncryptOptions{Keys: keys(first), Context: map[string]string{"x": "\xff"}}, "not UTF-8"},
		"long context": {fileenc.EncryptOptions{Keys: keys(first), Context: map[string]string{"x": long}}, "encryption context of 8197 bytes, at most 8192 are taken"},
		"both":         {fileenc.EncryptOptions{Keys: keys(first), Context: shop, Required: shop}, "as stored and as required"},
		"long frames":  {fileenc.EncryptOptions{Keys: keys(first), FrameLength: fileenc.MaxFrameLength + 1}, "frames of 4194305 bytes, 1 to 4194304 are written"},
		"negative":     {fileenc.EncryptOptions{Keys: keys(first), FrameLength: -1}, "frames of -1 bytes"},
	} {
		var out bytes.Buffer
		_, _, err := fileenc.Encrypt(t.Context(), &fakeKMS{}, &out, strings.NewReader("x"), c.o)
		t.Log(name)
		refused(t, err, fileenc.ErrInvalid, c.words)
		if out.Len() > 0 {
			t.Errorf("%s: %d bytes were written", name, out.Len())
		}
	}
}

// A source that breaks off must not become a message that is complete.
func TestSourceThatBreaksOff(t *testing.T) {
	t.Parallel()
	broken := errors.New("the tape tore")
	kms := &fakeKMS{}
	whole := seal(t, kms, random(300_000), fileenc.EncryptOptions{Keys: keys(first)})
	for _, end := range []error{broken, io.ErrUnexpectedEOF} {
		source := func(b []byte) io.Reader {
			return io.MultiReader(bytes.NewReader(b), readerFunc(func([]byte) (int, error) { return 0, end }))
		}
		var out bytes.Buffer
		_, _, err := fileenc.Encrypt(t.Context(), kms, &out, source(random(300_000)), fileenc.EncryptOptions{Keys: keys(first)})
		refused(t, err, end, "")
		_, err = unseal(t, kms, out.Bytes(), fileenc.DecryptOptions{Keys: keys(first)})
		refused(t, err, fileenc.ErrTruncated, "")
		_, err = fileenc.Decrypt(t.Context(), kms, io.Discard, source(whole), fileenc.DecryptOptions{Keys: keys(first)})
		refused(t, err, end, "")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestOutputThatFails(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	kms, plain := &fakeKMS{}, random(3<<20)
	message := seal(t, kms, plain, fileenc.EncryptOptions{Keys: keys(first)})
	for after := range 4 {
		n := 0
		out := writerFunc(func(p []byte) (int, error) {
			if n++; n > after {
				return 0, full
			}
			return len(p), nil
		})
		_, _, err := fileenc.Encrypt(t.Context(), kms, out, bytes.NewReader(plain), fileenc.EncryptOptions{Keys: keys(first)})
		refused(t, err, full, "")
		n = 0
		_, err = fileenc.Decrypt(t.Context(), kms, out, bytes.NewReader(message), fileenc.DecryptOptions{Keys: keys(first)})
		refused(t, err, full, "")
		n = 0
		_, _, err = fileenc.Rewrap(t.Context(), kms, out, bytes.NewReader(message), fileenc.RewrapOptions{From: fileenc.DecryptOptions{Keys: keys(first)}, To: keys(second)})
		refused(t, err, full, "")
	}
}

// A pipe that says nothing more must not keep a call that is to end.
func TestCallEndsThoughItsSourceDoesNot(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	reading := make(chan struct{}, 1)
	silent, never := io.Pipe()
	defer never.Close()
	source := readerFunc(func(p []byte) (int, error) {
		select {
		case reading <- struct{}{}:
		default:
		}
		return silent.Read(p)
	})
	go func() {
		<-reading
		cancel()
	}()
	_, _, err := fileenc.Encrypt(ctx, &fakeKMS{}, io.Discard, source, fileenc.EncryptOptions{Keys: keys(first)})
	refused(t, err, context.Canceled, "")
}

// What is released is authentic and in order, and no more than that.
func TestStreamReleasesOnlyWhatWasAuthenticated(t *testing.T) {
	t.Parallel()
	kms, plain := &fakeKMS{}, random(2<<20)
	message := seal(t, kms, plain, fileenc.EncryptOptions{Keys: keys(first), FrameLength: 4096})
	for _, at := range []int{1 << 20, len(message) - 1} {
		got, err := unseal(t, kms, flipped(message, at), fileenc.DecryptOptions{Keys: keys(first)})
		refused(t, err, fileenc.ErrForged, "was changed")
		if !bytes.HasPrefix(plain, got) || len(got) >= at {
			t.Errorf("%d bytes were released of a message that is changed at %d", len(got), at)
		}
	}
}
