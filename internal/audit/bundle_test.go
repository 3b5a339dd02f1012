package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func bundleOf(t testing.TB, src Source, origins ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteBundle(context.Background(), &b, src, origins); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func openBytes(b []byte) (*Bundle, error) { return OpenBundle(bytes.NewReader(b), int64(len(b))) }

func TestBundleIsTheLog(t *testing.T) {
	t.Parallel()
	a, b := newWriter(t, "a"), newWriter(t, "b")
	a.write(t, 3000) // more than a mark's distance
	a.sign(t)
	b.sign(t)
	file := bundleOf(t, sourceOf(b.memLog, a.memLog))
	bundle, err := openBytes(file)
	if err != nil {
		t.Fatal(err)
	}
	if again := bundleOf(t, bundle); !bytes.Equal(again, file) {
		t.Error("a bundle of a bundle differs")
	}
	o := VerifyOptions{Verifiers: []string{a.key.Verifier(), b.key.Verifier()}}
	want, err := Verify(t.Context(), sourceOf(a.memLog, b.memLog), o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(t.Context(), bundle, o)
	if err != nil || !got.OK() || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if bytes.Count(file, []byte("\n{\"v\":1,")) != 3000 {
		t.Error("entries are not lines of the bundle")
	}
	only := bundleOf(t, sourceOf(a.memLog, b.memLog), "cardea/b", "cardea/b")
	if bundle, err := openBytes(only); err != nil || len(bundle.logs) != 1 {
		t.Errorf("one log: got %+v, %v", bundle, err)
	}
	if err := WriteBundle(t.Context(), io.Discard, sourceOf(a.memLog), []string{"cardea/c"}); err == nil || !strings.HasSuffix(err.Error(), "there is no log cardea/c") {
		t.Errorf("no such log: got %v", err)
	}
}

func TestBundleOfADamagedLogIsEvidence(t *testing.T) {
	t.Parallel()
	w := newLog(t, 600)
	l := w.clone()
	l.segments[3].Body = append(l.segments[3].Body, "no newline"...)
	l.segments[5], l.segments[7] = l.segments[7], l.segments[5]
	l.segments = append(l.segments, Segment{700, 1, []byte("beyond\n")})
	l.tiles[0].Data = l.tiles[0].Data[:100]
	l.tiles = append(l.tiles, Tile{3, 5, nil})
	l.checkpoints[0] = []byte("rubbish")
	bundle, err := openBytes(bundleOf(t, sourceOf(l)))
	if err != nil {
		t.Fatal(err)
	}
	want := verifyLog(t, l, w.key)
	got, err := Verify(t.Context(), bundle, VerifyOptions{Verifiers: []string{w.key.Verifier()}})
	if err != nil || fmt.Sprint(got.Logs[0]) != fmt.Sprint(want) || len(want.Findings) == 0 {
		t.Errorf("got\n%s\n%v, want\n%s", messages(got.Logs[0].Findings), err, messages(want.Findings))
	}
}

func TestBundleOfAGrowingLogIsAsItWas(t *testing.T) {
	t.Parallel()
	w := newLog(t, 300)
	want := bundleOf(t, sourceOf(w.clone()))
	src := sourceOf(w.memLog)
	src.grow = func() {
		w.write(t, 1000)
		w.sign(t)
	}
	if got := bundleOf(t, src); !bytes.Equal(got, want) {
		t.Error("the bundle has what was committed later")
	}
}

func TestWriteBundleReturnsErrors(t *testing.T) {
	t.Parallel()
	w := newLog(t, 300)
	for _, what := range []string{"logs", "head", "segments", "tiles", "checkpoints"} {
		src := sourceOf(w.memLog)
		src.fail = what
		if err := WriteBundle(t.Context(), io.Discard, src, nil); !errors.Is(err, errDisk) {
			t.Errorf("%s: got %v, want the source's error", what, err)
		}
	}
	if err := WriteBundle(t.Context(), fullDisk{}, sourceOf(w.memLog), nil); !errors.Is(err, errDisk) {
		t.Errorf("full disk: got %v", err)
	}
	for want, change := range map[string]func(*memLog){
		"no log has this origin or size":                          func(l *memLog) { l.head.Size = -1 },
		"one has 16385 bytes":                                     func(l *memLog) { l.checkpoints[0] = make([]byte, MaxCheckpoint+1) },
		"tile -1/0 of 8192 bytes has no place in a bundle":        func(l *memLog) { l.tiles[0].Level = -1 },
		"segment -7 of 1 entries and 524 bytes has no place in a": func(l *memLog) { l.segments[0].First = -7 },
	} {
		l := w.clone()
		change(l)
		if err := WriteBundle(t.Context(), io.Discard, sourceOf(l), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errDisk }

const emptyRootText = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

func TestOpenBundleRefuses(t *testing.T) {
	t.Parallel()
	const log = "log cardea/a 0 " + emptyRootText + "\n"
	for body, want := range map[string]string{
		"":                                       "the file ends before its end line",
		log:                                      "the file ends before its end line",
		"end 0":                                  "the file ends before its end line",
		"end 1\n":                                "an end that is not the end",
		"end 0\nend 0\n":                         "an end that is not the end",
		"end 0\n ":                               "an end that is not the end",
		"end 00\n":                               "not a typed line",
		"end  0\n":                               "not a typed line",
		"\nend 0\n":                              "not a typed line",
		"end 0\r\n":                              "not a typed line",
		"log cardea/A 0 " + emptyRootText + "\n": "not a typed line",
		"log cardea/a -1 " + emptyRootText + "\n":    "not a typed line",
		"log cardea/a 0 " + emptyRootText[1:] + "\n": "not a typed line",
		log + log: "too many logs, or not in order",
		"log cardea/b 0 " + emptyRootText + "\n" + log: "too many logs, or not in order",
		"checkpoint 1\nx":                                        "something of no log",
		log + "checkpoint 16385\n":                               "not a typed line",
		log + "checkpoint 5\nabc":                                "the file ends in what follows",
		log + "checkpoint -1\n":                                  "not a typed line",
		log + "segment 0 1 67108865\n":                           "not a typed line",
		log + "segment 0 1 5\nabc":                               "the file ends in what follows",
		log + "segment 0 1 0\ncheckpoint 0\n":                    "parts out of order",
		log + "segment 0 1 0\ntile 0 0 \n":                       "parts out of order",
		log + "tile 0 0 \ncheckpoint 0\n":                        "parts out of order",
		log + "tile 0 0 AB==\n":                                  "not a typed line", // other bits than AA==
		log + "tile 0 0 AA\n":                                    "not a typed line",
		log + "tile 0 0 AA=\r=\n":                                "not a typed line",
		log + "tile 0 0\n":                                       "not a typed line",
		log + "tile 0 0 " + strings.Repeat("AAAA", 1<<14) + "\n": "a line that is too long",
		log + "note 5\n":                                         "not a typed line",
	} {
		_, err := openBytes([]byte(bundleMagic + "\n" + body))
		if !errors.Is(err, ErrMalformedBundle) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%.60q: got %v, want ErrMalformedBundle: %s", body, err, want)
		}
	}
	if _, err := openBytes([]byte("cardea audit bundle 2\nend 0\n")); !errors.Is(err, ErrMalformedBundle) || !strings.Contains(err.Error(), bundleMagic) {
		t.Errorf("another version: got %v", err)
	}
	if b, err := openBytes([]byte(bundleMagic + "\n" + log + "end 1\n")); err != nil || len(b.logs) != 1 {
		t.Errorf("an empty log: got %+v, %v", b, err)
	}
}

func TestBundleSegmentsBeginWhereAsked(t *testing.T) {
	t.Parallel()
	w := newLog(t, 6000)
	bundle, err := openBytes(bundleOf(t, sourceOf(w.memLog)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(bundle.logs[0].marks); n < 2 {
		t.Fatalf("%d marks: the log is too small for this test", n)
	}
	for _, from := range []int64{0, 1, 40, 2999, 3000, 5999, 6000} {
		next := from
		for n, err := range Entries(t.Context(), bundle, w.origin, from) {
			if err != nil || n.Seq != next || n.Entry.Resource.Reference != fmt.Sprintf("ref-%d", next) {
				t.Fatalf("from %d: got entry %d (%s), %v, want %d", from, n.Seq, n.Entry.Resource.Reference, err, next)
			}
			next++
		}
		if next != 6000 {
			t.Errorf("from %d: ended at %d", from, next)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range bundle.Segments(ctx, w.origin, 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: got %v", err)
		}
	}
}

func FuzzOpenBundle(f *testing.F) {
	w := newLog(f, 3)
	f.Add(bundleOf(f, sourceOf(w.memLog)))
	f.Add([]byte(bundleMagic + "\nlog cardea/a 0 " + emptyRootText + "\ncheckpoint 1\nxtile 0 7 AAAA\nsegment 5 1 3\nab\nend 1\n"))
	f.Add([]byte(bundleMagic + "\nend 0\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		bundle, err := openBytes(file)
		if err != nil {
			return
		}
		if again := bundleOf(t, bundle); !bytes.Equal(again, file) {
			t.Errorf("opened and written: got %q, want %q", again, file)
		}
		// Whatever is in it, verification says so and does not fail.
		if _, err := Verify(t.Context(), bundle, VerifyOptions{AllowUnsigned: true, Workers: 1}); err != nil {
			t.Error(err)
		}
	})
}
