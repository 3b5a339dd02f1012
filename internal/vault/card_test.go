package vault

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/pan"
	"cardea/internal/secret"
)

// numbers are the networks' published test numbers, some as people write them.
var numbers = []string{"4111111111111111", "4242 4242 4242 4242", "5555555555554444", "3782 822463 10005", "6011111111111117", "30569309025904", " 4111111111111111\t"}

// drawCard makes any card that may be stored.
func drawCard(t *rapid.T, label string) *Card {
	number, err := pan.Parse([]byte(rapid.SampledFrom(numbers).Draw(t, label+" number")))
	if err != nil {
		t.Fatal(err)
	}
	c := &Card{Number: number}
	for i, f := range c.optional() {
		if rapid.Bool().Draw(t, label+" present") {
			*f = secret.Copy(rapid.SliceOfN(rapid.Byte(), 0, []int{3, 3, 3, 3, 3, MaxCardField}[i]).Draw(t, label))
		}
	}
	return c
}

func equal(a, b *Card) bool {
	same := a.Number.Received().Equal(b.Number.Received())
	for i, f := range a.optional() {
		g := b.optional()[i]
		same = same && f.Present() == g.Present() && f.Equal(*g)
	}
	return same
}

func TestCardsAndTheirEncodingsAreOneToOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawCard(t, "a"), drawCard(t, "b")
		ea, eb := a.encode(), b.encode()
		back, err := decodeCard(ea)
		if err != nil || !equal(a, back) {
			t.Fatalf("a card does not come back: %v", err)
		}
		if equal(a, b) != ea.Equal(eb) {
			t.Fatal("equal encodings of different cards, or the other way round")
		}
		if len(ea.Expose()) != cap(ea.Expose()) {
			t.Fatal("the encoding grew while it was made, and left copies behind")
		}
	})
}

// The vectors of docs/spec/card.md, written by hand.
func TestCardVectors(t *testing.T) {
	t.Parallel()
	const visa = "0010" + "34313131313131313131313131313131"
	for name, v := range map[string]struct {
		hex  string
		card Card
	}{
		"number only": {"01" + visa + "ffff" + "ffff" + "ffff" + "ffff" + "ffff" + "ffff", Card{}},
		"all fields": {
			"01" + visa + "0004" + "4a616e65" + "0002" + "3033" + "0004" + "32303330" + "0004" + "56495341" + "0006" + "343131313131" + "0000",
			Card{
				Name: secret.Copy([]byte("Jane")), ExpMonth: secret.Copy([]byte("03")), ExpYear: secret.Copy([]byte("2030")),
				Brand: secret.Copy([]byte("VISA")), ISIN: secret.Copy([]byte("411111")), Nick: secret.Copy(nil),
			},
		},
	} {
		raw, err := hex.DecodeString(v.hex)
		if err != nil {
			t.Fatal(err)
		}
		if v.card.Number, err = pan.Parse([]byte("4111111111111111")); err != nil {
			t.Fatal(err)
		}
		if got := v.card.encode(); !bytes.Equal(got.Expose(), raw) {
			t.Errorf("%s: encoding differs from the vector", name)
		}
		c, err := decodeCard(secret.Copy(raw))
		if err != nil || !equal(c, &v.card) {
			t.Errorf("%s: vector does not decode: %v", name, err)
		}
	}
}

func TestWhatIsNoCardIsRefused(t *testing.T) {
	t.Parallel()
	number, err := pan.Parse([]byte("4111111111111111"))
	if err != nil {
		t.Fatal(err)
	}
	good := (&Card{Number: number, Name: secret.Copy([]byte("Jane")), Nick: secret.Copy(nil)}).encode().Expose()
	bad := map[string][]byte{
		"empty":              {},
		"version 0":          append([]byte{0}, good[1:]...),
		"version 2":          append([]byte{2}, good[1:]...),
		"one byte more":      append(bytes.Clone(good), 0),
		"no number":          append([]byte{1}, bytes.Repeat([]byte{0xff}, 14)...),
		"number that is bad": bytes.Replace(good, []byte("1111"), []byte("1112"), 1),
		"field too long":     append(append([]byte{1, 0, 16}, "4111111111111111"...), append([]byte{0x04, 0x01}, append(make([]byte, 1025), bytes.Repeat([]byte{0xff}, 10)...)...)...),
		"length beyond end":  append(append([]byte{1, 0, 16}, "4111111111111111"...), 0xff, 0xfe),
	}
	for n := range len(good) {
		bad["cut"+strings.Repeat("·", n)] = good[:n]
	}
	for name, b := range bad {
		if c, err := decodeCard(secret.Copy(b)); !errors.Is(err, errCardEncoding) || c != nil {
			t.Errorf("%.30s: got %v", name, err)
		}
	}
	if _, err := decodeCard(secret.Bytes{}); !errors.Is(err, errCardEncoding) {
		t.Errorf("no bytes: %v", err)
	}
}

func TestDestroyWipesTheWholeCard(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawCard(t, "card")
		var all [][]byte
		for _, f := range c.optional() {
			all = append(all, f.Expose())
		}
		all = append(all, c.Number.Received().Expose(), c.Number.Digits().Expose())
		c.Destroy()
		c.Destroy()
		for _, b := range all {
			if strings.Trim(string(b), "\x00") != "" {
				t.Fatal("a field is still in clear")
			}
		}
	})
	(*Card)(nil).Destroy()
}

// FuzzDecodeCard checks that there is one encoding of a card, and no panic.
func FuzzDecodeCard(f *testing.F) {
	for _, s := range []string{
		"", "\x01", "\x02\x00\x00", "\x01\x00\x104111111111111111" + strings.Repeat("\xff\xff", 6),
		"\x01\x00\x134111 1111 1111 1111\x00\x04Jane" + strings.Repeat("\xff\xff", 5),
		"\x01\x00\x104111111111111111" + strings.Repeat("\x00\x00", 6), "\x01\x00\x104111111111111111" + strings.Repeat("\xff\xff", 6) + "\x00",
		"\x01\xff\xff" + strings.Repeat("\xff\xff", 6), "\x01\x00\x0f378282246310005" + strings.Repeat("\xff\xfe", 6),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := decodeCard(secret.Copy(in))
		if err != nil {
			if !errors.Is(err, errCardEncoding) || c != nil {
				t.Fatalf("got %v", err)
			}
			return
		}
		if !bytes.Equal(c.encode().Expose(), in) {
			t.Fatal("a card has a second encoding")
		}
		if err := c.validate(); err != nil {
			t.Fatalf("decoded a card that may not be stored: %v", err)
		}
	})
}
