package custodian

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/secret"
)

func genShare() *rapid.Generator[Part] {
	return rapid.Custom(func(t *rapid.T) Part {
		n := rapid.IntRange(2, maxShares).Draw(t, "shares")
		return Part{
			form: FormShares, index: rapid.IntRange(1, n).Draw(t, "index"),
			value:      secret.New(rapid.SliceOfN(rapid.Byte(), keySize, keySize).Draw(t, "value")),
			tenant:     tagOf(rapid.StringN(1, 20, 20).Draw(t, "tenant")),
			generation: rapid.IntRange(1, maxGeneration).Draw(t, "generation"),
			threshold:  rapid.IntRange(2, n).Draw(t, "threshold"), shares: n,
		}
	})
}

func same(a, b Part) bool {
	return a.form == b.form && a.index == b.index && a.value.Equal(b.value) && a.tenant == b.tenant &&
		a.generation == b.generation && a.threshold == b.threshold && a.shares == b.shares
}

func TestShareTextReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := genShare().Draw(t, "share")
		got, err := ParseShare(p.Text())
		if err != nil {
			t.Fatal(err)
		}
		if !same(got, p) {
			t.Fatal("another share was read")
		}
	})
}

// A share on which the error messages below are tried.
const goodShare = "cardea-share-1-cag0q0f4-1-2-"

func testShare(t *testing.T) string {
	t.Helper()
	s := readVectors(t).Seals[0].Parts[1]
	if _, err := ParseShare(text(s)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryMistypedCharacterIsNoticed(t *testing.T) {
	t.Parallel()
	good := testShare(t)
	first := len(good) - groups*(groupSize+1)
	for i := range good {
		for c := byte(0); c < 128; c++ {
			if c == good[i] {
				continue
			}
			bad := good[:i] + string(c) + good[i+1:]
			_, err := ParseShare(text(bad))
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("character %d changed: got %v, want ErrMalformed", i, err)
			}
			// In the groups the message leads to the right one, unless the
			// dashes are wrong.
			if i < first || good[i] == '-' || c == '-' {
				continue
			}
			want := "group " + itoa((i-first)/(groupSize+1)+1)
			if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "share 2 ") {
				t.Fatalf("character %d changed: got %q, want it to name share 2 and %s", i, err, want)
			}
		}
	}
}

func TestEveryTranspositionIsNoticed(t *testing.T) {
	t.Parallel()
	good := testShare(t)
	for i := range len(good) - 1 {
		if good[i] == good[i+1] {
			continue
		}
		b := []byte(good)
		b[i], b[i+1] = b[i+1], b[i]
		if _, err := ParseShare(secret.New(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("characters %d and %d exchanged: got %v, want ErrMalformed", i, i+1, err)
		}
	}
}

func TestEveryLostOrDoubledCharacterIsNoticed(t *testing.T) {
	t.Parallel()
	good := testShare(t)
	for i := range good {
		for _, bad := range []string{good[:i] + good[i+1:], good[:i] + good[i:i+1] + good[i:], good[:i]} {
			if _, err := ParseShare(text(bad)); !errors.Is(err, ErrMalformed) {
				t.Errorf("at character %d: got %v, want ErrMalformed", i, err)
			}
		}
	}
}

func TestThreeMistypedCharactersAreNoticed(t *testing.T) {
	t.Parallel()
	good := []byte(testShare(t))
	first := len(good) - groups*(groupSize+1)
	rapid.Check(t, func(t *rapid.T) {
		bad := slices.Clone(good)
		for range rapid.IntRange(2, 3).Draw(t, "errors") {
			i := rapid.IntRange(first, len(good)-1).Draw(t, "place")
			if bad[i] != '-' {
				bad[i] = alphabet[rapid.IntRange(0, 31).Draw(t, "symbol")]
			}
		}
		_, err := ParseShare(secret.Copy(bad))
		if noticed := errors.Is(err, ErrMalformed); noticed == slices.Equal(bad, good) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestParseShareSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	good := testShare(t)
	if !strings.HasPrefix(good, goodShare) {
		t.Fatal("the vector changed")
	}
	body := good[len(goodShare):]
	// sum makes the checksum hold, so that what comes after it is reached.
	sum := func(header, data string) string {
		s, ok := symbols([]byte(data))
		if !ok {
			t.Fatal("no symbols")
		}
		c := checksum([]byte(header), s)
		out := header
		for i, v := range append(s, c[:]...) {
			if i%groupSize == 0 {
				out += "-"
			}
			out += string(alphabet[v])
		}
		return out
	}
	plain := strings.ReplaceAll(body, "-", "")[:dataSymbols-checkSymbols]
	if sum(strings.TrimSuffix(goodShare, "-"), plain) != good {
		t.Fatal("sum does not rebuild the share")
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", `share text does not begin with "cardea-share-1-"`},
		{"other version", strings.Replace(good, "-1-", "-2-", 1), `share text does not begin with "cardea-share-1-"`},
		{"a half", strings.Repeat("0f", 16), `share text does not begin with "cardea-share-1-"`},
		{"upper case", strings.ToUpper(good), `share text does not begin with "cardea-share-1-"`},
		{"white space before", " " + good, `share text does not begin with "cardea-share-1-"`},
		{"white space after", good + "\n", "share 2 group 12 has 6 characters, want 5"},
		{"very long", good + strings.Repeat("-qqqqq", 100), "share text has 699 characters, at most 128"},
		{"one group more", good + "-qqqqq", "share 2 text has 13 groups, want 12"},
		{"prefix only", sharePrefix, "share text has 0 groups, want 12"},
		{"short tag", strings.Replace(good, "cag0q0f4", "cag0q0f", 1), "share 2 has a malformed tenant tag"},
		{"bad tag", strings.Replace(good, "cag0q0f4", "cag0q0f1", 1), "share 2 has a malformed tenant tag"},
		{"generation 0", strings.Replace(good, "-1-2-", "-0-2-", 1), "share 2 has a malformed generation"},
		{"generation 01", strings.Replace(good, "-1-2-", "-01-2-", 1), "share 2 has a malformed generation"},
		{"generation +1", strings.Replace(good, "-1-2-", "-+1-2-", 1), "share 2 has a malformed generation"},
		{"generation 2^31", strings.Replace(good, "-1-2-", "-2147483648-2-", 1), "share 2 has a malformed generation"},
		{"number 0", strings.Replace(good, "-1-2-", "-1-0-", 1), "share has a malformed number: want 1 to 16"},
		{"number 17", strings.Replace(good, "-1-2-", "-1-17-", 1), "share has a malformed number: want 1 to 16"},
		{"number 02", strings.Replace(good, "-1-2-", "-1-02-", 1), "share has a malformed number: want 1 to 16"},
		{"other number", strings.Replace(good, "-1-2-", "-1-3-", 1), "share 3 is mistyped: its checksum does not match"},
		{"other generation", strings.Replace(good, "-1-2-", "-2-2-", 1), "share 2 is mistyped: its checksum does not match"},
		{"short group", goodShare + body[1:], "share 2 group 1 has 4 characters, want 5"},
		{"foreign character", goodShare + "b" + body[1:], "share 2 group 1 has a character that no share has"},
		{"upper-case symbol", good[:len(good)-1] + strings.ToUpper(good[len(good)-1:]), "share 2 group 12 has a character that no share has"},
		{"1 of 3", sum("cardea-share-1-cag0q0f4-1-2", "qz"+plain[2:]), "share 2 says it is number 2 of 3, of which 1 are needed"},
		{"3 of 2", sum("cardea-share-1-cag0q0f4-1-2", "zp"+plain[2:]), "share 2 says it is number 2 of 2, of which 3 are needed"},
		{"2 of 32", sum("cardea-share-1-cag0q0f4-1-2", "pl"+plain[2:]), "share 2 says it is number 2 of 32, of which 2 are needed"},
		{"number 4 of 3", sum("cardea-share-1-cag0q0f4-1-4", plain), "share 4 says it is number 4 of 3, of which 2 are needed"},
		{"fill not zero", sum("cardea-share-1-cag0q0f4-1-2", plain[:len(plain)-1]+"p"), "share 2 has bits after its end"},
	} {
		_, err := ParseShare(text(c.text))
		if err == nil || err.Error() != c.want || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// A mistake is located, but what the right character is must not be said: the
// text of the error would be a part of a share.
func TestErrorsDoNotQuoteTheShare(t *testing.T) {
	t.Parallel()
	good := testShare(t)
	body := good[len(goodShare):]
	for i := range body {
		_, err := ParseShare(text(goodShare + body[:i] + "!" + body[i+1:]))
		for g := range strings.SplitSeq(body, "-") {
			if strings.Contains(err.Error(), g) {
				t.Fatalf("the error for character %d quotes a group", i)
			}
		}
	}
	half := "00112233445566778899aabbccddeexx"
	if _, err := ParseHalf(1, text(half)); strings.Contains(err.Error(), "'x'") {
		t.Error("the error quotes a character")
	}
}

func TestParseHalf(t *testing.T) {
	t.Parallel()
	p, err := ParseHalf(2, text("00112233445566778899AABBccddeeff"))
	if err != nil || p.Form() != FormHalves || p.Index() != 2 || p.Name() != "half 2" ||
		!p.Text().Equal(text("00112233445566778899aabbccddeeff")) {
		t.Errorf("got %v, %v", p.Name(), err)
	}
	for _, c := range []struct {
		index      int
		text, want string
	}{
		{1, "", "half 1 has 0 characters, want 32"},
		{2, strings.Repeat("0", 31), "half 2 has 31 characters, want 32"},
		{1, strings.Repeat("0", 33), "half 1 has 33 characters, want 32"},
		{1, strings.Repeat("0", 31) + "g", "half 1 has a character that is not a hexadecimal digit"},
		{3, strings.Repeat("0", 32), "half 3 is not one of the two halves"},
	} {
		_, err := ParseHalf(c.index, text(c.text))
		if err == nil || err.Error() != c.want || !errors.Is(err, ErrMalformed) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	f.Add("cardea-share-1-qqqqqqqq-1-1-qqqqq-qqqqq-qqqqq-qqqqq-qqqqq-qqqqq-qqqqq-qqqqq-qqqqq-qqqqq-qqqqq-qqqqq")
	f.Add(sharePrefix)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseShare(text(s))
		if err != nil {
			if !errors.Is(err, ErrMalformed) || p.value.Len() != 0 {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if !p.Text().Equal(text(s)) {
			t.Fatal("parse then encode is not the identity")
		}
	})
}

func itoa(n int) string {
	if n >= 10 {
		return "1" + string(byte('0'+n-10))
	}
	return string(byte('0' + n))
}
