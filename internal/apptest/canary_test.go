package apptest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The canaries: published test numbers, and texts that are nowhere else.
var (
	canaryNumbers = []string{"4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "3530111333300000", "30569309025904"}
	canaryTexts   = []string{"Quillfeather Zanzibarina", "nick-okapi-thunderclap", "enc-blob-marmalade-4711", "v2-walrus-gramophone", "fingerprint-key-xylophone"}
)

// TestCanary stores cards under load, sends their numbers in every wrong place
// too, and then looks for them: in the files of the database and its write-ahead
// log while the node runs and after, in every table, in the log, the metrics, the
// answers to requests that failed, and what the audit commands print. Nothing may
// be found, in no form.
func TestCanary(t *testing.T) {
	t.Parallel()
	for name := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t, name)
			in.talkative(t)
			c := &canary{find: newSearcher()}
			for i, n := range canaryNumbers {
				c.find.addNumber(fmt.Sprintf("number %d", i+1), n)
			}
			for i, s := range canaryTexts {
				c.find.addText(fmt.Sprintf("text %d", i+1), s)
			}
			c.find.addKeyFile(t, "master key", filepath.Join(in.dir, "master.hex"))

			n := in.start(t)
			c.load(t, n)
			c.misuse(t, n)
			c.search(t, "metrics", get(t, n.ops+"/metrics"))
			c.search(t, "readiness", get(t, n.ops+"/readyz"))
			in.run(t, "audit", "verify", "--config", in.config) // beside the running node
			c.searchFiles(t, in, "while it runs")
			n.kill(t)
			c.searchFiles(t, in, "after SIGKILL")
			c.search(t, "log", []byte(n.log.String()))

			n = in.start(t)
			n.stop(t)
			c.search(t, "log of the second run", []byte(n.log.String()))
			c.searchFiles(t, in, "after a stop")
			c.searchTables(t, in)
			export := filepath.Join(in.dir, "audit.cardea")
			in.run(t, "audit", "export", "--config", in.config, export)
			bundle, err := os.ReadFile(export)
			if err != nil {
				t.Fatal(err)
			}
			c.search(t, "audit export", bundle)
			c.search(t, "audit show", in.run(t, "audit", "show", "--config", in.config))
			c.search(t, "config check --print", in.run(t, "config", "check", "--config", in.config, "--print"))
			t.Logf("%d requests stored, %d refused; %d MB searched for %d forms", c.stored, c.refused, c.searched>>20, c.find.count)
			if c.stored < 200 || c.refused < 100 {
				t.Errorf("%d requests stored and %d refused: too few to say anything", c.stored, c.refused)
			}
		})
	}
}

type canary struct {
	find *searcher

	mu              sync.Mutex
	stored, refused int
	searched        int
}

// search looks through what should hold no canary.
func (c *canary) search(t *testing.T, where string, b []byte) {
	t.Helper()
	c.mu.Lock()
	c.searched += len(b)
	c.mu.Unlock()
	if hit := c.find.in(b); hit != "" {
		t.Errorf("leak: %s", where+": "+hit)
	}
}

// talkative makes the node log all that it can.
func (in *installation) talkative(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(in.config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `level = "info"`, `level = "debug"`, 1)
	if changed == string(text) {
		t.Fatal("the configuration is not as expected")
	}
	write(t, in.config, changed)
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || len(b) == 0 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	return b
}

// load stores, reads, changes and deletes cards and data from many clients.
func (c *canary) load(t *testing.T, n *node) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer client.CloseIdleConnections()
			for i, number := range canaryNumbers {
				c.card(t, n, client, fmt.Sprintf("w%d-%d", w, i), number)
			}
		})
	}
	wg.Wait()
}

// card is the life of one card and the data beside it.
func (c *canary) card(t *testing.T, n *node, client *http.Client, id, number string) {
	ctx := t.Context()
	want := func(path, body string) []byte {
		status, answer := n.call(ctx, client, "", path, body)
		if status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
		c.mu.Lock()
		c.stored++
		c.mu.Unlock()
		return answer
	}
	owner := fmt.Sprintf(`"merchant_id":"shop","merchant_customer_id":%q`, id)
	card := func(nick string) string {
		return fmt.Sprintf(`{%s,"card":{"card_number":%q,"name_on_card":%q,"card_exp_month":"12","card_exp_year":"2031","nick_name":%q}}`,
			owner, spaced(number, " "), canaryTexts[0], nick)
	}
	added := want("/cards/add", card(canaryTexts[1]))
	c.search(t, "answer of add", added)
	ref := fmt.Sprintf(`{%s,"card_reference":%q}`, owner, reference(added))
	c.search(t, "answer of a duplicate", want("/cards/add", card(canaryTexts[1])))
	c.search(t, "answer of changed metadata", want("/cards/add", card(canaryTexts[1]+"x")))
	if got := want("/data/retrieve", ref); c.find.in(got) == "" {
		t.Error("the card that came back is another: the search finds nothing")
	}
	want("/data/add", fmt.Sprintf(`{%s,"enc_card_data":%q}`, owner, canaryTexts[2]+number))
	c.search(t, "fingerprint", want("/cards/fingerprint", fmt.Sprintf(`{"data":%q,"key":%q}`, number, canaryTexts[4]+number)))
	value := fmt.Sprintf(`{"entity_id":%q,"vault_id":"w","data":{"card":%q,"note":%q}}`, id, number, canaryTexts[3])
	c.search(t, "answer of v2 add", want("/api/v2/vault/add", value))
	c.search(t, "answer of v2 upsert", want("/api/v2/vault/add?mode=upsert", value))
	want("/api/v2/vault/retrieve", fmt.Sprintf(`{"entity_id":%q,"vault_id":"w"}`, id))
	if strings.HasPrefix(id, "w1") {
		c.search(t, "answer of delete", want("/cards/delete", ref))
		c.search(t, "answer of v2 delete", want("/api/v2/vault/delete", fmt.Sprintf(`{"entity_id":%q,"vault_id":"w"}`, id)))
	}
	want("/cards/add", strings.Replace(card(canaryTexts[1]), `"card"`, `"ttl":1,"card"`, 1))
}

// spaced writes a card number in groups of four.
func spaced(number, sep string) string {
	var groups []string
	for len(number) > 4 {
		groups = append(groups, number[:4])
		number = number[4:]
	}
	return strings.Join(append(groups, number), sep)
}

// tooLong is the most that a body may have. One that is longer by not much is read to
// its end before the connection is closed (net/http, 256 KiB): else the answer may be
// lost on the way, as it may be in life.
const tooLong = 2 << 20

// wrong is a request that has a card number where none belongs, # standing for it.
type wrong struct {
	method, path, body string
	header             http.Header
}

// wrongs are refused, each for a reason of its own.
func wrongs() []wrong {
	post := func(path, body string) wrong { return wrong{method: http.MethodPost, path: path, body: body} }
	with := func(w wrong, name, value string) wrong {
		w.header = http.Header{name: {value}}
		return w
	}
	const add = `{"merchant_id":"shop","merchant_customer_id":"x","card":{"card_number":"#"}}`
	deep := strings.Repeat("[", 200) + `"#"` + strings.Repeat("]", 200)
	return []wrong{
		// As a name of something that is not there.
		post("/cards/retrieve", `{"merchant_id":"shop","merchant_customer_id":"x","card_reference":"#"}`),
		post("/cards/retrieve", `{"merchant_id":"#","merchant_customer_id":"x","card_reference":"r"}`),
		post("/cards/retrieve", `{"merchant_id":"shop","merchant_customer_id":"customer # or so","card_reference":"r"}`),
		post("/cards/delete", `{"merchant_id":"#","merchant_customer_id":"x","card_reference":"r"}`),
		post("/api/v2/vault/retrieve", `{"entity_id":"#","vault_id":"#"}`),
		post("/api/v2/vault/delete", `{"entity_id":"#","vault_id":"v"}`),
		// As a card that is none, with names that a good one could have.
		post("/cards/add", `{"merchant_id":"#","merchant_customer_id":"#","requestor_card_reference":"#","card":{"card_number":"#x"}}`),
		post("/cards/add", `{"merchant_id":"shop","merchant_customer_id":"x","ttl":0,"card":{"card_number":"#"}}`),
		post("/cards/add", `{"merchant_id":"shop","merchant_customer_id":"x","card":{"card_number":"#0000000"}}`),
		// In the wrong type or place of the body, or in no JSON at all.
		post("/cards/add", `{"merchant_id":"shop","merchant_customer_id":"x","card":{"card_number":#}}`),
		post("/cards/add", `{"merchant_id":"shop","merchant_customer_id":"x","card":"#"}`),
		post("/cards/add", `{"merchant_id":#,"merchant_customer_id":"x"}`),
		post("/cards/add", `{"merchant_id":"shop","merchant_customer_id":"x","ttl":"#"}`),
		post("/cards/add", `{"merchant_id":"shop","merchant_customer_id":"x","ttl":-#}`),
		post("/cards/add", `{"merchant_id":"shop","merchant_customer_id":"x","#":{"#":"#"}}`),
		post("/cards/add", `{"card_number":"#","card_number":"#"}`),
		post("/cards/add", `{"merchant_id":"shop","card":{"card_number":"#`),
		post("/cards/add", `#`),
		post("/cards/add", `card=#&merchant_id=shop`),
		post("/cards/add", `{"merchant_id":"shop","merchant_customer_id":"x","card":{"card_number":"# \u0000 \ud800"}}`),
		post("/api/v2/vault/add", `{"entity_id":"e","vault_id":"v","data":`+deep+`}`),
		post("/api/v2/vault/add", `{"entity_id":"e","vault_id":"v","data":"#","data":"#"}`),
		post("/cards/fingerprint", `{"data":#,"key":"#"}`),
		post("/cards/add", `{"pad":"`+strings.Repeat("#", 8_000)+strings.Repeat("x", tooLong)+`"}`),
		// In the query and the path.
		post("/api/v2/vault/add?mode=#", `{"entity_id":"e","vault_id":"v","data":1}`),
		post("/api/v2/vault/add?mode=insert&mode=#&#=%zz", `{"entity_id":"e","vault_id":"v","data":1}`),
		post("/cards/#", add),
		post("/cards/add/#?#", add),
		{method: http.MethodGet, path: "/cards/add?number=#"},
		{method: http.MethodGet, path: "/custodian/status/#"},
		{method: "M#", path: "/cards/add"},
		// In headers.
		with(post("/cards/add", add), "X-Tenant-Id", "#"),
		with(post("/cards/add", add), "Content-Type", "application/#"),
		with(post("/cards/fingerprint", `{"data":"d","key":"k"}`), "X-Fingerprint-Id", "id-#"),
		with(post("/custodian/share", `{"share":"#"}`), "Authorization", "Bearer #"),
		with(post("/custodian/key1", `{"key":"#"}`), "Authorization", "#"),
		with(post("/cards/retrieve", `{"merchant_id":"m","merchant_customer_id":"x","card_reference":"r"}`), "X-Request-Id", "#"),
		with(post("/cards/retrieve", `{"merchant_id":"m","merchant_customer_id":"x","card_reference":"r"}`), "User-Agent", "#"),
		with(post("/cards/retrieve", `{"merchant_id":"m","merchant_customer_id":"x","card_reference":"r"}`), "X-Forwarded-For", "#, 10.0.0.1"),
		with(post("/cards/retrieve", `{"merchant_id":"m","merchant_customer_id":"x","card_reference":"r"}`), "Forwarded", "for=#"),
	}
}

// misuse sends every wrong request with every number, and some that are no HTTP.
// What comes back must not hold the number, with one exception: a path that
// net/http redirects would, so there is none.
func (c *canary) misuse(t *testing.T, n *node) {
	client := &http.Client{
		Transport: &http.Transport{}, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	for i, w := range wrongs() {
		for j, number := range canaryNumbers {
			put := func(s string) string { return strings.ReplaceAll(s, "#", number) }
			req, err := http.NewRequestWithContext(t.Context(), put(w.method), n.url+put(w.path), strings.NewReader(put(w.body)))
			if err != nil {
				t.Fatalf("wrong request %d: cannot be made", i+1)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("X-Tenant-Id", tenant)
			for name, values := range w.header {
				req.Header.Set(name, put(values[0]))
			}
			res, err := client.Do(req)
			if err != nil {
				t.Errorf("wrong request %d with number %d: no answer", i+1, j+1) // the error has the URL
				continue
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			header := &bytes.Buffer{}
			res.Header.Write(header)
			if err != nil {
				t.Errorf("wrong request %d with number %d: %v", i+1, j+1, err)
			}
			if res.StatusCode < 400 && w.path != "/cards/delete" && w.path != "/api/v2/vault/delete" {
				t.Errorf("wrong request %d with number %d: status %d, it should be refused", i+1, j+1, res.StatusCode)
			}
			c.refused++
			c.search(t, fmt.Sprintf("answer to wrong request %d", i+1), body)
			c.search(t, fmt.Sprintf("headers of the answer to wrong request %d", i+1), header.Bytes())
		}
	}
	for i, text := range []string{
		"GET /# HTTP/9.9\r\n\r\n", "#\r\n\r\n", "POST /cards/add HTTP/1.1\r\n#\r\n\r\n", "POST /cards/add HTTP/1.1\r\nHost: #:#\r\n\r\n",
		"POST /%# HTTP/1.1\r\nHost: x\r\n\r\n", "POST /cards/add HTTP/1.1\r\nHost: x\r\nContent-Length: #\r\n\r\n",
		"POST /cards/add HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: #\r\n\r\n", "\x16\x03\x01\x02\x00#",
		"POST /cards/add HTTP/1.1\r\nHost: x\r\nX-Tenant-Id: acme\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{\"card\":{\"card_number\":\"#\"",
	} {
		c.search(t, fmt.Sprintf("answer to broken request %d", i+1), raw(t, n, strings.ReplaceAll(text, "#", canaryNumbers[0])))
		c.refused++
	}
}

// raw sends text, ends its side, and returns what comes back.
func raw(t *testing.T, n *node, text string) []byte {
	t.Helper()
	u, err := url.Parse(n.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return nil // it was refused before it was complete
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.CloseWrite(); err != nil {
			return nil
		}
	}
	b, _ := io.ReadAll(conn) // the server may reset
	return b
}

// searchFiles looks through every file of the node and, where this process may
// read them, of PostgreSQL's server.
func (c *canary) searchFiles(t *testing.T, in *installation, when string) {
	t.Helper()
	files := 0
	for _, dir := range append([]string{in.dir}, postgresFiles(in.database(t))...) {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if os.IsNotExist(err) || err == nil && (e.IsDir() || e.Type()&os.ModeSocket != 0 || e.Name() == "master.hex" || e.Name() == "root.hex") {
				return nil // PostgreSQL removes files as it works
			}
			if err != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				return nil
			}
			files++
			c.search(t, path+" "+when, b)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if files < 3 {
		t.Errorf("only %d files in %s", files, in.dir)
	}
}

// database is the URL of the installation's database.
func (in *installation) database(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(in.config)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "database]\nurl = \"")
	address, _, ok := strings.Cut(rest, "\"")
	if !ok {
		t.Fatal("the configuration names no database")
	}
	return address
}

// postgresFiles are the folders of the server whose socket is beside its data, if
// they may be read.
func postgresFiles(database string) []string {
	u, err := url.Parse(database)
	if err != nil || !strings.HasPrefix(database, "postgres") {
		return nil
	}
	data := filepath.Join(u.Query().Get("host"), "data")
	var dirs []string
	for _, name := range []string{"pg_wal", "base"} {
		if entries, err := os.ReadDir(filepath.Join(data, name)); err == nil && len(entries) > 0 {
			dirs = append(dirs, filepath.Join(data, name))
		}
	}
	return dirs
}

// searchTables reads every row of every table, as it is before compression.
func (c *canary) searchTables(t *testing.T, in *installation) {
	t.Helper()
	address := in.database(t)
	if !strings.HasPrefix(address, "postgres") {
		return // SQLite compresses nothing: its file is its tables
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	for _, table := range tables {
		rows, err := conn.Query(ctx, "SELECT * FROM "+pgx.Identifier{table}.Sanitize())
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range values {
				b, ok := v.([]byte)
				if !ok {
					b = fmt.Append(nil, v)
				}
				c.search(t, "table "+table+", column "+rows.FieldDescriptions()[i].Name, b)
			}
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
	}
}

// addKeyFile looks for a key too, which only its own file may hold, in hexadecimal.
func (s *searcher) addKeyFile(t *testing.T, name, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	s.addText(name, string(key))
}

// jsonText is a text as encoding/json would write it in a string.
func jsonText(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return strings.Trim(string(b), `"`)
}
