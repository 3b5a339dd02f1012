package audit

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// testCards are the networks' published test numbers.
var testCards = []string{
	"4111111111111111", "5555555555554444", "378282246310005", "4242424242424242",
	"6011111111111117", "30569309025904", "3566002020360505", "4222222222222", "6304000000000000000",
}

// someID is an id of ours, with digits that satisfy the Luhn check.
const someID = "019d0123-4567-7890-8125-ba9876543210"

func TestCardNumbersNeverReachALine(t *testing.T) {
	t.Parallel()
	spaced := func(s, sep string) string {
		var parts []string
		for len(s) > 4 {
			parts, s = append(parts, s[:4]), s[4:]
		}
		return strings.Join(append(parts, s), sep)
	}
	for i, card := range testCards {
		forms := []string{
			card, spaced(card, " "), spaced(card, "-"), "cus_" + card, card + "=2512", "card " + card + ", please",
			"2026-11-22 " + card, card + " 12 27", "00" + card + "0000", // joined to other numbers, and inside a longer one
			strings.Repeat("x", 250) + card, strings.Repeat("x", 240) + spaced(card, " "), // where the value is cut
			strings.Repeat("x", 500) + card, "\n" + card + "\xff", card + card,
			someID + " " + card, card + " " + someID, someID + card, card + "-" + someID, "approval/" + someID + ", " + spaced(card, "-"),
			strings.Repeat("x", 470) + " " + someID + " " + card,
		}
		for j, form := range forms {
			e := testEntry()
			e.RequestID, e.Tenant, e.Who.Name, e.Who.IP = form, form, form, form
			e.Resource = Resource{Kind: "card", Merchant: form, Customer: form, Reference: form, MaskedPAN: form, Key: form}
			e.Detail = form
			line := mustSeal(t, e).Line
			digits := bytes.Map(func(r rune) rune {
				if r == ' ' || r == '-' {
					return -1
				}
				return r
			}, line)
			// No more of it than the first six and last four: not its first seven, nor
			// its last five, nor any ten of its digits.
			for _, leak := range []string{card, card[:11], card[2:12], card[len(card)-10:]} {
				if bytes.Contains(digits, []byte(leak)) {
					t.Errorf("number %d in form %d shows in the line", i, j)
					break
				}
			}
		}
	}
}

func TestMaskCards(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"4111111111111111":                     "411111******1111",
		"4111 1111 1111 1111":                  "4111 11** **** 1111",
		"4111-1111-1111-1111":                  "4111-11**-****-1111",
		"378282246310005":                      "378282*****0005",
		"to 4242424242424242 and":              "to 424242******4242 and",
		"4111111111111112":                     "4111111111111112", // fails Luhn
		"411111111111":                         "411111111111",     // too short
		"4111  1111  1111  1111":               "4111  1111  1111  1111",
		"019a9b3c-5d2e-7aaa-9a4b-ba9876543210": "019a9b3c-5d2e-7aaa-9a4b-ba9876543210",
		"41111111-1111-1111-9a4b-000000000000": "41111111-1111-1111-9a4b-000000000000", // as a whole a UUID
		"":                                     "",
		// Ids of ours stand in a text. The digits of these satisfy Luhn.
		"approval/019d0123-4567-7890-8125-ba9876543210, asked by bob": "approval/019d0123-4567-7890-8125-ba9876543210, asked by bob",
		"request 019d0123-4567-7890-8125-ba9876543210 of two":         "request 019d0123-4567-7890-8125-ba9876543210 of two",
		"019d0123-4567-7890-8125-ba9876543210;4111111111111111":       "019d0123-4567-7890-8125-ba9876543210;411111******1111",
		"a 019d0123-4567-7890-8125-ba9876543210 4111111111111111":     "a 019d0123-45**-****-8125-ba9876543210 411111******1111", // it is not apart
		"4111111111111111 019d0123-4567-7890-8125-ba9876543210":       "411111******1111 019d0123-45**-****-8125-ba9876543210",
		"x019d0123-4567-7890-8125-ba9876543210":                       "x019d0123-45**-****-8125-ba9876543210",
		"019d0123-4567-7890-8125-ba98765432101":                       "019d0123-45**-****-8125-ba98765432101", // a digit more
		"id 019D0123-4567-7890-8125-BA9876543210":                     "id 019D0123-45**-****-8125-BA9876543210",
		"id 119d0123-4567-7890-8125-ba9876543210":                     "id 119d0123-45**-****-8125-ba9876543210",   // of the year 9800
		"id 41111111-1111-4111-1abc-000000000000 x":                   "id 41111111-1111-4111-1abc-000000000000 x", // fails Luhn
		"id 41111111-1111-1111-9abc-000000000000 x":                   "id 411111**-****-1111-9abc-000000000000 x", // no version 7
		"41111111-1111-1111 and 019d0123-4567-7890-8125-ba9876543210": "411111**-****-1111 and 019d0123-4567-7890-8125-ba9876543210",
		"41111111 01234567-1111-7890-8125-ba9876543210 x":             "41111111 01234567-1111-7890-8125-ba9876543210 x",
	} {
		if got := maskCards(in); got != want {
			t.Errorf("case of %d bytes: got %s, want %s", len(in), got, want)
		}
	}
}

func TestMaskCardsTwiceIsOnce(t *testing.T) {
	t.Parallel()
	digits := rapid.StringMatching(`([0-9]{1,24}[ \-x]?){0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		in := digits.Draw(t, "digits")
		once := maskCards(in)
		if len(once) != len(in) {
			t.Fatalf("got %d bytes, want %d", len(once), len(in))
		}
		if twice := maskCards(once); twice != once {
			t.Fatalf("masked again: got %s, want %s", twice, once)
		}
	})
}

// TestIDsInATextHideNothingButThemselves: what is beside an id is masked as it would be
// beside a word of the same length.
func TestIDsInATextHideNothingButThemselves(t *testing.T) {
	t.Parallel()
	pieces := rapid.OneOf(
		rapid.StringMatching(`[0-9]{1,20}`), rapid.StringMatching(`01[0-9]{6}-[0-9]{4}-7[0-9]{3}-8[0-9]{3}-[0-9]{12}`), rapid.StringMatching(`01[0-9a-f]{6}-[0-9]{4}-7[0-9]{3}-b[0-9]{3}-[0-9a-f]{12}`),
		rapid.SampledFrom([]string{" ", " ", "-", "/", ", ", "x", ";", "é"}), rapid.SampledFrom(testCards),
	)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(pieces, 1, 12).Draw(t, "text"), "")
		if idTail(text) < len(text) {
			text += "."
		}
		words, ids := []byte(text), make([]bool, len(text))
		for i := range text {
			if idAt([]byte(text), i) {
				copy(words[i:], strings.Repeat("x", uuidLen))
				for at := range uuidLen {
					ids[i+at] = true
				}
			}
		}
		got, want := maskCards(text), []byte(maskCards(string(words)))
		for i := range want {
			if ids[i] {
				want[i] = text[i]
			}
		}
		if got != string(want) || maskCards(got) != got {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func TestOnlyMaskedNumbersAreTakenForMasked(t *testing.T) {
	t.Parallel()
	const nothing = "********"
	for in, want := range map[string]string{
		"411111******1111": "411111******1111", "41111111****1111": "41111111****1111", "378282*****0005": "378282*****0005",
		"**********5904": "**********5904", "******10": "******10", nothing: nothing,
		"4111111111111111": nothing, "4111111**1111111": nothing, "411111111***1111": nothing, "3782822****0005": nothing,
		"411111**1111": nothing, "411111*1**1*1111": nothing, "411111******111x": nothing, "": nothing, "****": nothing,
		"411111******11111": nothing, strings.Repeat("*", 20): nothing, "41111 ******1111": nothing,
	} {
		if got := cleanMasked(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
