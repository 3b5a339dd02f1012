package httpd_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cardea/internal/httpd"
	"cardea/internal/secret"
	"cardea/internal/testlog"
)

func TestLoggerRemovesSecretsByName(t *testing.T) {
	for _, name := range []string{
		"password", "Password", "db_password", "dbPassword", "custodian.share", "master_key", "masterKey", "private-key", "key_material",
		"token", "api_key", "authorization", "card_number", "pan", "PAN", "cvv", "client_secret", "plaintext", "session_key",
	} {
		if !httpd.SensitiveName(name) {
			t.Errorf("%q counts as harmless", name)
		}
	}
	for _, name := range []string{
		"key_id", "private_key_file", "password_file", "request_id", "tenant", "span", "expand", "keyboard", "merchant_id", "token_count",
		"key", "route", "company", "pinned", "secret_version", "share_count", "",
	} {
		if httpd.SensitiveName(name) {
			t.Errorf("%q counts as secret", name)
		}
	}
}

type leaky struct{ Number string }

type valuer struct{ v string }

func (v valuer) LogValue() slog.Value { return slog.StringValue(v.v) }

func TestLoggerMasksCardNumbersWhereverTheyAre(t *testing.T) {
	grouped := "4111-1111-1111-1111"
	for _, format := range []string{"json", "text"} {
		var out testlog.Buffer
		l, err := httpd.NewLogger(&out, format, slog.LevelDebug)
		if err != nil {
			t.Fatal(err)
		}
		l.Info("message with "+testPAN,
			slog.String("plain", "x"+testPAN+"y"), slog.String("grouped", grouped), slog.Any("error", fmt.Errorf("row: %w", errors.New(testPAN))),
			slog.Any("struct", leaky{testPAN}), slog.Any("pointer", &leaky{testPAN}), slog.Any("list", []string{testPAN}), slog.Any("map", map[string]string{"k": testPAN}),
			slog.Any("bytes", []byte(testPAN)), slog.Int64("int", 4111111111111111), slog.Uint64("uint", 4111111111111111),
			slog.Any("valuer", valuer{testPAN}), slog.Group("group", slog.String("inner", testPAN)),
			slog.Any("secret.Bytes", secret.Copy([]byte("canary-material"))), slog.Group("credentials", slog.String("user", "canary-user")),
			slog.String("password", "canary-password"))
		l.With(slog.String("early", testPAN)).WithGroup("outer").With(slog.String("token", "canary-token")).Warn("m", slog.String("deep", testPAN))
		l.WithGroup("secrets").Info("m", slog.String("a", "canary-grouped"))
		got := out.String()
		// Ten ones: the number as a float, which no fraction of a second looks like.
		for _, leak := range []string{testPAN, grouped, "canary", "4.1111111111", "52 49 49"} {
			if strings.Contains(got, leak) {
				t.Errorf("%s: a secret came through (%.6s…): %s", format, leak, strings.ReplaceAll(got, leak, "LEAK"))
			}
		}
		for _, want := range []string{"message with [card number]", "x[card number]y", "row: [card number]", "[16 bytes]", "[redacted]"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is missing: %s", format, want, got)
			}
		}
	}
}

func TestLoggerKeepsWhatIsHarmless(t *testing.T) {
	var out testlog.Buffer
	l, err := httpd.NewLogger(&out, "json", slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	l.Debug("not shown")
	l.Info("kept", slog.String("key_id", "k1"), slog.Int("rows", 12), slog.Duration("took", time.Second), slog.Bool("ok", true),
		slog.Any("nothing", nil), slog.String("reference", "01934f0e-7d5c-7a3e-8c55-0f3b1b9d2e11"), slog.Time("at", time.Unix(1, 0).UTC()))
	got := out.String()
	for _, want := range []string{`"level":"INFO"`, `"msg":"kept"`, `"key_id":"k1"`, `"rows":12`, `"ok":true`, `"nothing":null`, `01934f0e-7d5c-7a3e-8c55-0f3b1b9d2e11`, `"at":"1970`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing: %s", want, got)
		}
	}
	if strings.Contains(got, "not shown") {
		t.Error("a record below the level was written")
	}
}

func TestLoggerWritesDurationsToBeRead(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1_000_283_473: "1s", 1_500_700_000: "1.501s", 90_061_234 * time.Microsecond: "1m30.061s", -1_500_700_000: "-1.501s",
		12_345_678: "12.346ms", 999_999_999: "1s", 850_123: "850.123µs", 17: "17ns", 0: "0s",
	} {
		for format, form := range map[string]string{"json": `"took":%q`, "text": "took=%s"} {
			var out testlog.Buffer
			l, err := httpd.NewLogger(&out, format, slog.LevelInfo)
			if err != nil {
				t.Fatal(err)
			}
			l.Info("m", slog.Any("took", d))
			if line := strings.TrimRight(out.String(), "}\n"); !strings.HasSuffix(line, fmt.Sprintf(form, want)) {
				t.Errorf("%d ns: %s, want %s", d, line, want)
			}
		}
	}
}

func TestLoggerRefusesAnUnknownFormat(t *testing.T) {
	_, err := httpd.NewLogger(nil, "xml", slog.LevelInfo)
	wantError(t, err, `log format "xml"`, "expected json or text")
}

func TestCardNumbersAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"4111111111111111":                       "[card number]",
		"4111111111111112":                       "4111111111111112", // Luhn
		"378282246310005":                        "[card number]",
		"4222222222222":                          "[card number]", // 13 digits
		"6304000000000000 and":                   "[card number] and",
		"3782 822463 10005":                      "[card number]",
		"4111 1111 1111 1111 123":                "[card number] 123",
		"a 4111-1111-1111-1111, b":               "a [card number], b",
		"4111 1111-1111 1111":                    "4111 1111-1111 1111", // no card is printed so
		"4111111111111111=2512 5555555555554444": "[card number]=2512 [card number]",
		"411111111111111125121010":               "[card number]", // over 19 digits: something glued on
		"123456789012":                           "123456789012",
		"abcdabcd-4111-1111-1111-1111abcdabcd":   "abcdabcd-4111-1111-1111-1111abcdabcd", // a UUID
		"":                                       "",
		"4111 1111 1111 ":                        "4111 1111 1111 ",
	} {
		if got := httpd.MaskPANs(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
		if got := httpd.HoldsPAN(text); got != (want != text) {
			t.Errorf("%q: holds a card number: %v", text, got)
		}
	}
}

func FuzzMaskPANs(f *testing.F) {
	for _, s := range []string{"4111111111111111", "x 4111-1111-1111-1111 y", "3782 822463 10005", "4111 1111 1111 1111 1111 1111"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := httpd.MaskPANs(s)
		if httpd.HoldsPAN(got) {
			t.Errorf("%q became %q, which still holds one", s, got)
		}
		if !httpd.HoldsPAN(s) && got != s {
			t.Errorf("%q became %q although nothing was found in it", s, got)
		}
	})
}
