package config

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// SQLitePath is the database file, or "" if the database is PostgreSQL.
func (c Config) SQLitePath() string {
	if c.Database.URL == "sqlite" {
		return filepath.Join(c.Node.DataDir, "vault.db")
	}
	path, ok := strings.CutPrefix(c.Database.URL, "sqlite:")
	if !ok {
		return ""
	}
	return path
}

func (d Database) isSQLite() bool { return d.URL == "sqlite" || strings.HasPrefix(d.URL, "sqlite:") }

// defaultTLS is verify-full unless nothing leaves the machine.
func (d Database) defaultTLS() string {
	if d.isSQLite() {
		return ""
	}
	u, err := url.Parse(d.URL)
	if err == nil && onThisMachine(u) {
		return DatabaseTLSInsecureDisable
	}
	return DatabaseTLSVerifyFull
}

// onThisMachine says whether every host of a postgres URL is a loopback address
// or a folder with a Unix socket. No host at all is the default socket.
func onThisMachine(u *url.URL) bool {
	hosts := strings.Split(u.Host, ",")
	if h := u.Query().Get("host"); h != "" {
		hosts = append(hosts, strings.Split(h, ",")...)
	}
	return !slices.ContainsFunc(hosts, func(h string) bool {
		if h == "" || strings.HasPrefix(h, "/") {
			return false
		}
		return !isLoopbackHost((&url.URL{Host: h}).Hostname())
	})
}

// isLoopbackHost knows localhost by name (RFC 6761 6.3) and loopback addresses.
func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// urlParametersWithKeys are PostgreSQL URL parameters that have keys of their own
// here, beside url, or for which there is something else to use.
var urlParametersWithKeys = map[string]string{
	"sslmode": "tls", "sslrootcert": "ca_file", "sslcert": "client_certificate_file",
	"sslkey": "client_private_key_file", "sslpassword": "a key file without a password",
	"password": "password_file", "passfile": "password_file",
	"service": "the parts of the URL", "servicefile": "the parts of the URL",
	"sslnegotiation": "tls", "sslsni": "tls",
	"pool_max_conns": "max_connections", "statement_timeout": "statement_timeout",
}

// validateURL never quotes the URL: somebody may have put a password into it.
func (d Database) validateURL(v *validation, section string) {
	key := section + ".url"
	if d.isSQLite() {
		if d.URL == "sqlite:" || strings.ContainsAny(strings.TrimPrefix(d.URL, "sqlite:"), "?#") {
			v.add(key, `expected "sqlite", or "sqlite:" and a path without ? and #`)
		}
		return
	}
	u, err := url.Parse(d.URL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		v.add(key, `expected "sqlite", "sqlite:<path>" or "postgres://user@host:5432/database"`)
		return
	}
	if _, has := u.User.Password(); has {
		v.add(key, "has a password in it; put it into a file and name that in database.password_file")
	}
	if u.User.Username() == "" && !u.Query().Has("user") {
		v.add(key, "names no user; expected postgres://user@host:5432/database")
	}
	if strings.Trim(u.Path, "/") == "" && !u.Query().Has("dbname") && !u.Query().Has("database") {
		v.add(key, "names no database; expected postgres://user@host:5432/database")
	}
	if u.Host != "" && u.Query().Has("host") {
		v.add(key, "names a host twice, before the path and in the parameter host; keep one")
	}
	params, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Fragment != "" {
		v.add(key, "the part behind ? or # is not valid")
	}
	for _, name := range sortedKeys(params) {
		if instead := urlParametersWithKeys[strings.ToLower(name)]; instead != "" {
			if !strings.Contains(instead, " ") {
				instead = section + "." + instead
			}
			v.add(key, "the parameter %s is not allowed here; use %s", strings.ToLower(name), instead)
		}
	}
}

// redactURL drops a password that Validate would refuse, and keeps the rest as it
// was written.
func redactURL(raw string) string {
	if raw == "sqlite" || strings.HasPrefix(raw, "sqlite:") {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "[not a database URL]"
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Fragment != "" {
		return "[not a database URL]"
	}
	_, found := u.User.Password()
	if found {
		u.User = url.UserPassword(u.User.Username(), "redacted")
	}
	for name := range q {
		if strings.Contains(strings.ToLower(name), "password") {
			q.Set(name, "redacted")
			found = true
		}
	}
	if !found {
		return raw
	}
	u.RawQuery = q.Encode()
	return u.String()
}
