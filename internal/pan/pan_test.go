package pan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"cardea/internal/pan"
	"cardea/internal/secret"
)

// The networks' published test numbers.
var testNumbers = []string{
	"4111111111111111", "5555555555554444", "378282246310005", "6011111111111117",
	"30569309025904", "3530111333300000", "4222222222222", "6304000000000000",
}

func TestParseTakesPublishedTestNumbers(t *testing.T) {
	t.Parallel()
	for i, n := range testNumbers {
		p, err := pan.Parse([]byte(n))
		if err != nil {
			t.Errorf("number %d: %v", i, err)
			continue
		}
		if string(p.Digits().Expose()) != n {
			t.Errorf("number %d: the digits changed", i)
		}
	}
}

func TestParseKeepsWhiteSpaceAsReceived(t *testing.T) {
	t.Parallel()
	in := "4111 1111\u00a01111\t1111"
	p, err := pan.Parse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if string(p.Received().Expose()) != in || string(p.Digits().Expose()) != testNumbers[0] {
		t.Error("received form or digits are wrong")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		want error
		text string
	}{
		"letter":              {"41111111111111x1", pan.ErrCharacter, "invalid character found in card number"},
		"dash":                {"4111-1111-1111-1111", pan.ErrCharacter, "invalid character found in card number"},
		"arabic-indic digit":  {"٤111111111111111", pan.ErrCharacter, "invalid character found in card number"},
		"broken UTF-8":        {"4111111111111111\xff", pan.ErrCharacter, "invalid character found in card number"},
		"empty":               {"", pan.ErrLength, "invalid card number length"},
		"7 digits":            {"4111111", pan.ErrLength, "invalid card number length"},
		"20 digits":           {"41111111111111111111", pan.ErrLength, "invalid card number length"},
		"a kilobyte of space": {strings.Repeat(" ", 1024) + testNumbers[0], pan.ErrLength, "invalid card number length"},
		"check digit":         {"4111111111111112", pan.ErrLuhn, "card number invalid"},
	} {
		_, err := pan.Parse([]byte(c.in))
		if !errors.Is(err, c.want) || err.Error() != c.text {
			t.Errorf("%s: got %v, want %q", name, err, c.text)
		}
	}
}

func TestMaskedShowsAtMostBINAndLastFour(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"4111111111111111": "411111******1111",
		"378282246310005":  "378282*****0005",
		"30569309025904":   "**********5904",
		"4222222222222":    "*********2222",
		"40000010":         "******10",
	} {
		p, err := pan.Parse([]byte(in))
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if got := p.Masked(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := (pan.PAN{}).Masked(); got != "" {
		t.Errorf("the zero PAN prints %q", got)
	}
}

func TestNoPrinterShowsMoreThanTheMask(t *testing.T) {
	t.Parallel()
	p, err := pan.Parse([]byte(testNumbers[0]))
	if err != nil {
		t.Fatal(err)
	}
	nested := struct{ hidden pan.PAN }{p}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		fmt.Fprintf(&out, verb+verb+verb, p, &p, nested)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", slog.Any("bare", p), slog.Any("nested", nested))
	}
	for _, leak := range []string{testNumbers[0], "34313131", "52 49 49"} {
		if strings.Contains(out.String(), leak) {
			t.Error("a printer showed the number")
		}
	}
	if _, err := json.Marshal(p); !errors.Is(err, secret.ErrNotSerialisable) {
		t.Errorf("json.Marshal: got %v", err)
	}
}

func TestDestroy(t *testing.T) {
	t.Parallel()
	p, err := pan.Parse([]byte(testNumbers[0]))
	if err != nil {
		t.Fatal(err)
	}
	p.Destroy()
	if p.Digits().Len()+p.Received().Len() != 0 {
		t.Error("digits survive Destroy")
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range testNumbers {
		f.Add([]byte(n))
	}
	f.Add([]byte(" 4111 1111 1111 1111 "))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := pan.Parse(in)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Received().Expose(), in) {
			t.Error("an accepted number is not kept as received")
		}
		if n := p.Digits().Len(); n < pan.MinDigits || n > pan.MaxDigits || !pan.LuhnValid(p.Digits().Expose()) {
			t.Error("an invalid number was accepted")
		}
		shown := 0
		for _, r := range p.Masked() {
			if r != '*' {
				shown++
			}
		}
		if shown > 10 {
			t.Errorf("the mask shows %d digits", shown)
		}
	})
}
