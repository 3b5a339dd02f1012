package cli

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestReadHandout(t *testing.T) {
	t.Parallel()
	const half = "000102030405060708090a0b0c0d0e0f"
	for name, tc := range map[string]struct {
		text, want        string // want is the label of the secret that is asked for
		part, token, fail string
		half              int
	}{
		"handout":                  {wholeHandout, labelPart, testShare, testToken, "", 0},
		"handout for its token":    {wholeHandout, labelToken, testShare, testToken, "", 0},
		"handout from Windows":     {strings.ReplaceAll(wholeHandout, "\n", "\r\n"), labelPart, testShare, testToken, "", 0},
		"handout of a half":        {"half:  2\npart:  " + half + "\ntoken: x\n", labelPart, half, "x", "", 2},
		"share alone":              {testShare, labelPart, testShare, "", "", 0},
		"share and white space":    {"  " + testShare + " \r\n\n", labelPart, testShare, "", "", 0},
		"token alone":              {testToken + "\n", labelToken, "", testToken, "", 0},
		"nothing":                  {"", labelPart, "", "", " is empty", 0},
		"white space":              {" \n", labelPart, "", "", " is empty", 0},
		"two lines":                {testShare + "\n" + testShare, labelPart, "", "", " is neither a handout nor one line with the secret alone", 0},
		"handout without the part": {"token: " + testToken, labelPart, "", "", " is neither a handout nor", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := readHandout(&Process{}, testHandout(t, tc.text), "", tc.want)
			if tc.fail != "" {
				if err == nil || !strings.HasSuffix(err.Error(), tc.fail) && !strings.Contains(err.Error(), tc.fail) {
					t.Errorf("got %v, want %q", err, tc.fail)
				}
				if err != nil && strings.Contains(err.Error(), testShare[:20]) {
					t.Error("the error quotes the secret")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(h.part.Expose()) != tc.part || string(h.token.Expose()) != tc.token || h.half != tc.half {
				t.Errorf("part %t, token %t, half %d", string(h.part.Expose()) == tc.part, string(h.token.Expose()) == tc.token, h.half)
			}
			h.destroy()
		})
	}
}

func TestHandoutFromStandardInputServesForBothSecrets(t *testing.T) {
	t.Parallel()
	f, err := os.Open(testHandout(t, wholeHandout))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := custodianUnlockCommand{Handout: "-"}.read(&Process{Stdin: f})
	if err != nil || string(h.token.Expose()) != testToken {
		t.Fatalf("%v, or another token", err)
	}
	if part, err := h.parse(); err != nil || part.Index() != 1 {
		t.Errorf("share: %v", err)
	}
}

func TestTenantIsThatOfTheHandout(t *testing.T) {
	t.Parallel()
	other := testHandout(t, strings.ReplaceAll(wholeHandout, "tenant: acme", "tenant: other"))
	whole, share := testHandout(t, wholeHandout), testHandout(t, testShare)
	for name, tc := range map[string]struct {
		c          custodianUnlockCommand
		want, fail string
	}{
		"of the handout":        {custodianUnlockCommand{Handout: whole}, "acme", ""},
		"of the token's":        {custodianUnlockCommand{ShareFile: share, nodeFlags: nodeFlags{TokenFile: other}}, "other", ""},
		"said":                  {custodianUnlockCommand{Handout: whole, nodeFlags: nodeFlags{Tenant: "third"}}, "third", ""},
		"neither said nor read": {custodianUnlockCommand{ShareFile: share, nodeFlags: nodeFlags{TokenFile: testHandout(t, testToken)}}, "", "missing flags: --tenant=NAME (a whole handout names its tenant)"},
		"of two tenants": {
			custodianUnlockCommand{ShareFile: whole, nodeFlags: nodeFlags{TokenFile: other}},
			"",
			`--token-file is of tenant "other", --share-file of tenant "acme": say which by --tenant`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := tc.c.read(&Process{})
			if err == nil {
				defer h.destroy()
				err = tc.c.settle(h)
			}
			if _, usage := errors.AsType[usageError](err); tc.fail != "" && (!usage || err.Error() != tc.fail) || tc.fail == "" && err != nil {
				t.Fatalf("got %v, want %q", err, tc.fail)
			}
			if err == nil && tc.c.Tenant != tc.want {
				t.Errorf("tenant %q, want %q", tc.c.Tenant, tc.want)
			}
		})
	}
}
