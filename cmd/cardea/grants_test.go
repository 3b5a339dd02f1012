package main

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"cardea/internal/store/storetest"
)

// TestOperationsGrants sets up PostgreSQL as docs/operations.md says, with its own
// statements, and lets a node work with the role that it gets: all that a node does
// works, and what the role must not do is refused.
func TestOperationsGrants(t *testing.T) {
	t.Parallel()
	if os.Getenv("CARDEA_TEST_POSTGRES") != "" {
		t.Skip("makes roles, which it does not do on somebody's server")
	}
	admin := storetest.Postgres(t)
	sql, as := roles(t, admin, 3, "cardea_owner", "cardea_node", "cardea_keeper")
	run(t, admin, sql[0])

	dir := t.TempDir()
	config := filepath.Join(dir, "cardea.toml")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "master.hex"), strings.Repeat("0f", 32))
	write(config, `
[node]
name = "vault-1"
data_dir = "data"
[vault]
listen = "127.0.0.1:0"
[ops]
listen = "127.0.0.1:0"
[retention]
sweep_interval = "1s"
[tenants.acme]
master_key_file = "master.hex"
insecure_master_key_without_custodians = true
[tenants.sealed]
`)
	cardea := func(role string, args ...string) {
		t.Helper()
		env := append(os.Environ(), "CARDEA__DATABASE__URL="+as(role))
		if out, code := output(t, dir, env, append(args, "--config", config)...); code != 0 {
			t.Fatalf("%s: cardea %s exits with %d\n%s", role, strings.Join(args, " "), code, out)
		}
	}
	cardea("cardea_owner", "audit", "checkpoint")
	run(t, as("cardea_owner"), sql[1])
	run(t, admin, sql[2])

	cardea("cardea_node", "custodian", "init", "--tenant", "sealed", "--custodian", "alice", "--custodian", "bob", "--out-dir", filepath.Join(dir, "out"))
	cardea("cardea_node", "custodian", "rekey", "--tenant", "sealed", "--custodian", "alice", "--custodian", "carol", "--out-dir", filepath.Join(dir, "new"),
		"--share-file", filepath.Join(dir, "out", "sealed-alice.handout"), "--share-file", filepath.Join(dir, "out", "sealed-bob.handout"))
	s := &server{name: "node"}
	start(t, s, dir, append(os.Environ(), "CARDEA__DATABASE__URL="+as("cardea_node")), "serve", "--config", config)
	for _, c := range []struct{ path, body string }{
		{"/cards/add", `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"r","card":{"card_number":"4111111111111111"}}`},
		{"/cards/retrieve", `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r"}`},
		{"/cards/fingerprint", `{"data":"4111111111111111","key":"k"}`},
		{"/cards/delete", `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r"}`},
		{"/cards/add", `{"merchant_id":"m","merchant_customer_id":"c","ttl":1,"card":{"card_number":"4111111111111111"}}`},
		{"/entity", `{"entity_id":"e"}`},
		{"/api/v2/vault/add?mode=upsert", `{"entity_id":"e","vault_id":"v","data":1}`},
		{"/api/v2/vault/add?mode=upsert", `{"entity_id":"e","vault_id":"v","data":2}`},
		{"/api/v2/vault/retrieve", `{"entity_id":"e","vault_id":"v"}`},
		{"/api/v2/vault/delete", `{"entity_id":"e","vault_id":"v"}`},
	} {
		r := curl{
			url: s.vault + c.path, method: http.MethodPost, body: c.body,
			header: http.Header{"Content-Type": {"application/json"}, "X-Tenant-Id": {"acme"}},
		}
		if res, body, err := r.do(); err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s: %v %s", c.path, err, body)
		}
	}
	for range 256 { // entries, so that there is something to prune
		r := curl{url: s.vault + "/cards/fingerprint", method: http.MethodPost, body: `{"data":"4111111111111111","key":"k"}`, header: http.Header{"Content-Type": {"application/json"}, "X-Tenant-Id": {"acme"}}}
		if res, body, err := r.do(); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%v %s", err, body)
		}
	}
	if err := s.await(func() bool { return strings.Contains(s.stderr.String(), "expired records removed") }); err != nil {
		t.Error(err)
	}
	ready := curl{url: s.ops + "/readyz", method: http.MethodGet}
	if _, body, err := ready.do(); err != nil || strings.Count(string(body), `"state":"failing"`) != 1 { // the sealed tenant
		t.Errorf("readyz: %v %s", err, body)
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, s.stderr.String())
	}
	if strings.Contains(s.stderr.String(), "permission denied") {
		t.Errorf("something is not permitted:\n%s", s.stderr.String())
	}
	cardea("cardea_node", "audit", "verify")

	prune := func(role string) (string, int) {
		return output(t, dir, append(os.Environ(), "CARDEA__DATABASE__URL="+as(role)), "audit", "archive", "--before", "0s", "--out", "archive", "--prune", "--keep", "0s", "--config", config)
	}
	if out, code := prune("cardea_node"); code == 0 || !strings.Contains(out, "permission denied for table audit_segment") {
		t.Errorf("the node's role prunes: exit %d\n%s", code, out)
	}
	if out, code := prune("cardea_keeper"); code != 0 || !strings.Contains(out, "pruned from the database") {
		t.Errorf("the keeper's role does not prune: exit %d\n%s", code, out)
	}
	cardea("cardea_node", "audit", "verify")

	for _, forbidden := range []string{
		"UPDATE audit_segment SET body = ''", "DELETE FROM audit_segment", "TRUNCATE audit_segment", "UPDATE audit_tile SET hashes = ''",
		"DELETE FROM audit_tile", "DELETE FROM audit_pruning", "UPDATE audit_checkpoint SET note = ''", "DELETE FROM audit_log", "DELETE FROM wrapped_key",
		"DELETE FROM master_seal", "ALTER TABLE record ADD x int", "DROP TABLE record", "CREATE TABLE mine (x int)", "UPDATE schema_version SET version_id = 0",
	} {
		if err := try(t, as("cardea_node"), forbidden); err == nil || !strings.Contains(err.Error(), "42501") { // insufficient_privilege
			t.Errorf("the node's role may %q: %v", forbidden, err)
		}
	}
}

// TestOperationsGrantsOfTheKeyService does the same for the key service.
func TestOperationsGrantsOfTheKeyService(t *testing.T) {
	t.Parallel()
	if os.Getenv("CARDEA_TEST_POSTGRES") != "" {
		t.Skip("makes roles, which it does not do on somebody's server")
	}
	admin := storetest.Postgres(t)
	sql, as := roles(t, admin, 2, "cardea_keys_owner", "cardea_keys_node")
	run(t, admin, sql[0])
	dir, err := os.MkdirTemp("", "keys") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "keys.toml"), []byte(`
[node]
name = "keys-1"
data_dir = "data"
[vault]
listen = ""
[ops]
listen = "127.0.0.1:0"
[limits]
custodian_attempts_per_minute = 60
[key_service]
listen = "127.0.0.1:0"
`), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := func(role string) []string {
		return append(os.Environ(), "CARDEA__KEY_SERVICE__DATABASE__URL="+as(role))
	}
	cardea := func(role string, args ...string) {
		t.Helper()
		if out, code := output(t, dir, environ(role), args...); code != 0 {
			t.Fatalf("%s: cardea %s exits with %d\n%s", role, strings.Join(args, " "), code, out)
		}
	}
	const config = "--config=keys.toml"
	cardea("cardea_keys_owner", "audit", "checkpoint", "--key-service", config)
	run(t, as("cardea_keys_owner"), sql[1])

	const node = "cardea_keys_node"
	cardea(node, "custodian", "init", config, "--tenant", "key-service", "--custodian", "alice", "--custodian", "bob", "--out-dir", "out")
	cardea(node, "custodian", "rekey", config, "--tenant", "key-service", "--custodian", "alice", "--custodian", "carol", "--out-dir", "new",
		"--share-file", "out/key-service-alice.handout", "--share-file", "out/key-service-bob.handout")
	s := &server{name: "keys"}
	start(t, s, dir, environ(node), "serve", config)
	for _, name := range []string{"alice", "carol"} {
		cardea(node, "custodian", "unlock", "--url", s.keys, "--tenant", "key-service", "--handout", "new/key-service-"+name+".handout")
	}
	cardea(node, "identity", "bootstrap", config, "--out-file", "admin.credentials")
	cardea(node, "identity", "user", "create", config, "alice")
	cardea(node, "identity", "user", "delete", config, "alice")
	credentials, err := os.ReadFile(filepath.Join(dir, "admin.credentials"))
	if err != nil {
		t.Fatal(err)
	}
	var account, key, grant string
	for _, c := range []struct {
		operation, body string
		out             *string
		member          string
	}{
		{"CreateKey", `{}`, &key, "KeyMetadata.KeyId"},
		{"DescribeKey", `{"KeyId":"KEY"}`, &account, "KeyMetadata.AWSAccountId"},
		{"CreateAlias", `{"AliasName":"alias/a","TargetKeyId":"KEY"}`, nil, ""},
		{"UpdateAlias", `{"AliasName":"alias/a","TargetKeyId":"KEY"}`, nil, ""},
		{"CreateGrant", `{"KeyId":"KEY","GranteePrincipal":"arn:aws:iam::ACCOUNT:user/admin","Operations":["Decrypt"]}`, &grant, "GrantId"},
		{"Encrypt", `{"KeyId":"alias/a","Plaintext":"aGVsbG8="}`, nil, ""},
		{"RotateKeyOnDemand", `{"KeyId":"KEY"}`, nil, ""},
		{"RevokeGrant", `{"KeyId":"KEY","GrantId":"GRANT"}`, nil, ""},
		{"DeleteAlias", `{"AliasName":"alias/a"}`, nil, ""},
		{"ScheduleKeyDeletion", `{"KeyId":"KEY","PendingWindowInDays":7}`, nil, ""},
	} {
		body := strings.NewReplacer("KEY", key, "ACCOUNT", account, "GRANT", grant).Replace(c.body)
		status, answer, err := awsKMS(s.keys, string(credentials), c.operation, body)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s %v", c.operation, status, answer, err)
		}
		if c.out != nil {
			if *c.out, err = member(string(answer), c.member); err != nil {
				t.Fatalf("%s: %v", c.operation, err)
			}
		}
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, s.stderr.String())
	}
	if strings.Contains(s.stderr.String(), "permission denied") {
		t.Errorf("something is not permitted:\n%s", s.stderr.String())
	}
	cardea(node, "audit", "verify", "--key-service", config)

	// What its jobs do after days.
	for _, permitted := range []string{
		"DELETE FROM kms_key WHERE false", "DELETE FROM kms_tally WHERE false", "DELETE FROM kms_change WHERE false", "DELETE FROM identity_change WHERE false",
		"UPDATE change_counter SET n = n WHERE false", "UPDATE kms_usage SET doc = doc WHERE false",
		"INSERT INTO kms_key_store SELECT * FROM kms_key_store", "UPDATE kms_key_store SET doc = doc WHERE false", "DELETE FROM kms_key_store WHERE false",
	} {
		if err := try(t, as(node), permitted); err != nil {
			t.Errorf("%s: %v", permitted, err)
		}
	}
	for _, forbidden := range []string{
		"UPDATE audit_segment SET body = ''", "DELETE FROM audit_segment", "DELETE FROM master_seal", "DELETE FROM kms_usage", "UPDATE kms_change SET n = n",
		"ALTER TABLE kms_key ADD x int", "DROP TABLE kms_key", "DELETE FROM record", "INSERT INTO change_counter SELECT * FROM change_counter",
	} {
		if err := try(t, as(node), forbidden); err == nil || !strings.Contains(err.Error(), "42501") { // insufficient_privilege
			t.Errorf("the node's role may %q: %v", forbidden, err)
		}
	}
}

// start begins a server, which ends with the test.
func start(t *testing.T, s *server, dir string, env []string, args ...string) {
	t.Helper()
	err := s.begin(dir, env, args...)
	if s.cmd.Process != nil {
		t.Cleanup(s.kill)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// roles are the two blocks of SQL with which docs/operations.md makes an owner and
// a node, under names of this process, on the database of the URL; as is that URL
// for a role.
func roles(t *testing.T, admin string, want int, names ...string) (sql []string, as func(role string) string) {
	t.Helper()
	suffix := "_" + strconv.Itoa(os.Getpid()) // roles are the server's, and other tests may share it
	name := strings.TrimPrefix(mustURL(t, admin).Path, "/")
	word := regexp.MustCompile(`\b(` + strings.Join(names, "|") + `)\b`)
	database := regexp.MustCompile(`CREATE DATABASE \w+ OWNER`)
	for _, b := range blocks(document(t, "operations.md")) {
		if b.info == "sql" && word.MatchString(b.text) {
			text := word.ReplaceAllString(b.text, "${1}"+suffix)
			sql = append(sql, database.ReplaceAllString(text, "ALTER DATABASE "+name+" OWNER TO"))
		}
	}
	if len(sql) != want {
		t.Fatalf("%d blocks of SQL, want %d: one of the administrator, one of the owner, and one for each role besides", len(sql), want)
	}
	return sql, func(role string) string {
		u := mustURL(t, admin)
		u.User = url.User(role + suffix)
		return u.String()
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func try(t *testing.T, database, sql string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), sql)
	return err
}

func run(t *testing.T, database, sql string) {
	t.Helper()
	for statement := range strings.SplitSeq(sql, ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if err := try(t, database, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
