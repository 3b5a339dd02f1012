package config_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cardea/internal/config"
)

// documented is the default of each key in a part of docs/configuration.md.
func documented(t *testing.T, text string) map[string]string {
	t.Helper()
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| (.+?) \\|").FindAllStringSubmatch(text, -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s is described twice", m[1])
		}
		rows[m[1]] = m[2]
	}
	return rows
}

// asDocumented is how a default is written in the page; "" if it is a sentence.
func asDocumented(v any) string {
	switch v := v.(type) {
	case string:
		if v == "" {
			return ""
		}
		return fmt.Sprintf("`%q`", v)
	case config.Duration:
		b, _ := v.MarshalText()
		return fmt.Sprintf("`%q`", b)
	case bool, int, int64:
		return fmt.Sprintf("`%v`", v)
	case float64:
		return fmt.Sprintf("`%.1f`", v)
	case []string:
		return fmt.Sprintf("`%q`", v)
	}
	return "`[]`"
}

func TestEveryKeyIsDocumentedWithItsDefault(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	global, rest, ok := strings.Cut(string(page), "## [tenants.")
	tenant, client, ok2 := strings.Cut(rest, "### [[tenants.")
	if !ok || !ok2 {
		t.Fatal("the page has lost its sections")
	}
	global, delivery, ok3 := strings.Cut(global, "### [[audit.delivery]]")
	delivery, more, ok4 := strings.Cut(delivery, "\n## ")
	detect, source, ok5 := strings.Cut(more, "### [[detect.source]]")
	source, more, ok6 := strings.Cut(source, "\n## ")
	if !ok3 || !ok4 || !ok5 || !ok6 {
		t.Fatal("the page has lost the section of deliveries or of sources")
	}
	global += detect + more
	tenants := slices.DeleteFunc(config.Settings(config.DefaultTenant()), func(s config.Setting) bool { return s.Key == "clients" })
	clients := config.Settings(config.Client{Merchants: []string{"*"}, Actions: []string{"*"}})
	for part, tc := range map[string]struct {
		text     string
		settings []config.Setting
	}{"global": {global, config.Settings(config.Default())}, "tenant": {tenant, tenants}, "client": {client, clients}, "delivery": {delivery, config.Settings(config.DefaultDelivery())}, "source": {source, config.Settings(config.DefaultDetectSource())}} {
		rows := documented(t, tc.text)
		for _, s := range tc.settings {
			row, ok := rows[s.Key]
			delete(rows, s.Key)
			if want := asDocumented(s.Value); !ok {
				t.Errorf("%s: %s is not described", part, s.Key)
			} else if want != "" && row != want {
				t.Errorf("%s: the default of %s is described as %s, it is %s", part, s.Key, row, want)
			}
		}
		for key := range rows {
			t.Errorf("%s: %s is described but does not exist", part, key)
		}
	}
}

func TestExampleIsAValidConfiguration(t *testing.T) {
	example, err := os.ReadFile("../../deploy/cardea.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	f := newFolder(t, map[string]string{
		"etc/tls/vault.crt": "x", "etc/tls/vault.key": "x", "etc/tls/clients-ca.crt": "x", "etc/tls/database-ca.crt": "x",
		"etc/secrets/database-password": "x", "etc/secrets/locker.pem": privatePEM(t, "rsa"), "etc/tenants/hyperswitch.pub.pem": publicPEM(t, "rsa"),
		"etc/tenants.d/more.toml": "envelope = \"jwe\"\npublic_key_file = \"../tenants/hyperswitch.pub.pem\"",
	})
	text := strings.ReplaceAll(string(example), "/etc/cardea/", f.path("etc")+"/")
	for name, text := range map[string]string{
		"as it is":                   text,
		"with what is commented out": regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(text, "$1"),
	} {
		f.write(t, "cardea.toml", text)
		c := mustLoad(t, f)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(c.Warnings) > 0 {
			t.Errorf("%s: %q", name, c.Warnings)
		}
	}
}
