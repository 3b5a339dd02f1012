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
