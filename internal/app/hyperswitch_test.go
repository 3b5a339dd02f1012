package app

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"cardea/internal/iam"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/store/lockerdb"
	"cardea/internal/store/storetest"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// vaultImporter is a vault in this process. After a number of batches it fails.
type vaultImporter struct {
	*vault.Service
	failAfter int // 0 never
	batches   int
}

var errLost = errors.New("connection lost")

func (v *vaultImporter) fails() bool {
	v.batches++
	return v.failAfter > 0 && v.batches > v.failAfter
}

func (*vaultImporter) who() iam.Principal {
	return iam.Principal{Type: iam.TypeOperator, Name: "root", Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
}

func (v *vaultImporter) Import(ctx context.Context, rs []vault.ImportRecord, check bool) ([]vault.ImportResult, error) {
	results := v.Service.Import(ctx, v.who(), rs, check) // an answer may be lost after the work is done
	if v.fails() {
		return nil, errLost
	}
	return results, nil
}

func (v *vaultImporter) ImportFingerprints(ctx context.Context, tenant string, fs []vault.ImportFingerprint, check bool) ([]vault.ImportResult, error) {
	if v.fails() {
		return nil, errLost
	}
	return v.Service.ImportFingerprints(ctx, v.who(), tenant, fs, check), nil
}

// peerSeal is the peer's encryption.
func peerSeal(t *testing.T, key secret.Bytes, plaintext string) []byte {
	t.Helper()
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead.Seal(nil, nil, []byte(plaintext), nil)
}

// peerVault is a database of the peer with 30 cards of 3 merchants, of them one
// expired and one as opaque data, 6 values and 4 fingerprints.
type peerVault struct {
	url    string
	conn   *pgx.Conn
	master secret.Bytes
	deks   map[string]secret.Bytes
}

func newPeerVault(t *testing.T) *peerVault {
	t.Helper()
	p := &peerVault{url: storetest.Postgres(t), master: secret.Random(32), deks: map[string]secret.Bytes{}}
	var err error
	if p.conn, err = pgx.Connect(t.Context(), p.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.conn.Close(context.WithoutCancel(t.Context())) })
	p.exec(t, storetest.LockerSchema)
	for _, m := range []string{"m1", "m2", "m3", "e1"} {
		p.deks[m] = secret.Random(32)
		p.exec(t, `INSERT INTO hyperswitch.merchant (merchant_id, enc_key) VALUES ($1, $2)`, m, peerSeal(t, p.master, string(p.deks[m].Expose())))
	}
	for i := range 30 {
		m := fmt.Sprintf("m%d", i%3+1)
		text := fmt.Sprintf(`{"CardData":{"card_number":%q,"name_on_card":"J. Test","card_exp_month":"03","card_exp_year":"2030","card_brand":null,"card_isin":null,"nick_name":"%d"}}`,
			[]string{"4111111111111111", "5555 5555 5555 4444", "378282246310005"}[i/10], i)
		var expires any
		switch i {
		case 7:
			text = `{"EncData":"0a0b0c"}`
		case 8:
			expires = "2020-01-01"
		}
		p.card(t, m, fmt.Sprintf("c%d", i%10), fmt.Sprintf("ref-%02d", i), peerSeal(t, p.deks[m], text), expires)
	}
	for i := range 6 {
		p.exec(t, `INSERT INTO hyperswitch.vault (entity_id, vault_id, encrypted_data) VALUES ('e1', $1, $2)`, fmt.Sprintf("v%d", i), peerSeal(t, p.deks["e1"], fmt.Sprintf(`{"i":%d}`, i)))
	}
	for i := range 4 {
		p.exec(t, `INSERT INTO hyperswitch.fingerprint (fingerprint_hash, fingerprint_id) VALUES ($1, $2)`, slices.Repeat([]byte{byte(i)}, 64), fmt.Sprintf("fingerprint%09d", i))
	}
	return p
}

func (p *peerVault) card(t *testing.T, merchant, customer, reference string, blob []byte, expires any) {
	t.Helper()
	p.exec(t, `INSERT INTO hyperswitch.locker (locker_id, merchant_id, customer_id, enc_data, hash_id, ttl) VALUES ($1, $2, $3, $4, $1, $5::text::timestamp)`, reference, merchant, customer, blob, expires)
}

func (p *peerVault) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	var err error
	if len(args) == 0 {
		_, err = p.conn.PgConn().Exec(t.Context(), sql).ReadAll()
	} else {
		_, err = p.conn.Exec(t.Context(), sql, args...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rows is a fingerprint of everything that the peer has.
func (p *peerVault) rows(t *testing.T) string {
	t.Helper()
	var all string
	for _, table := range []string{"merchant", "locker", "vault", "fingerprint"} {
		var one string
		if err := p.conn.QueryRow(t.Context(), `SELECT md5(string_agg(x::text, ',' ORDER BY x::text)) FROM hyperswitch.`+table+` x`).Scan(&one); err != nil {
			t.Fatal(err)
		}
		all += one
	}
	return all
}

func (p *peerVault) open(t *testing.T) *lockerdb.DB {
	t.Helper()
	d, err := lockerdb.Open(t.Context(), p.url, "hyperswitch")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(context.WithoutCancel(t.Context())) })
	return d
}

func TestHyperswitchImportKeepsEverything(t *testing.T) {
	t.Parallel()
	p, v := newPeerVault(t), vaulttest.New(t, nil, nil, "acme")
	before := p.rows(t)
	run := func(check bool) *ImportReport {
		t.Helper()
		h := HyperswitchImport{DB: p.open(t), Master: p.master, To: &vaultImporter{Service: v.Service}, Tenant: "acme", Batch: 7, Check: check}
		r, err := h.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Problems) != 0 {
			t.Errorf("problems: %+v", r.Problems)
		}
		return r
	}
	for _, step := range []struct {
		check                       bool
		cards, values, fingerprints ImportCounts
	}{
		{true, ImportCounts{Absent: 29, Expired: 1}, ImportCounts{Absent: 6}, ImportCounts{Absent: 4}},
		{false, ImportCounts{Imported: 29, Expired: 1}, ImportCounts{Imported: 6}, ImportCounts{Imported: 4}},
		{true, ImportCounts{Present: 29, Expired: 1}, ImportCounts{Present: 6}, ImportCounts{Present: 4}},
		{false, ImportCounts{Present: 29, Expired: 1}, ImportCounts{Present: 6}, ImportCounts{Present: 4}},
	} {
		if r := run(step.check); r.Cards != step.cards || r.Values != step.values || r.Fingerprints != step.fingerprints {
			t.Errorf("got %+v, want %+v", r, step)
		}
	}
	client := iam.Principal{Type: iam.TypeTenant, Name: "shop", Tenant: "acme", Auth: "mtls", Merchants: []string{"*"}, Actions: []string{"*"}}
	c, err := v.RetrieveCard(t.Context(), client, vault.Owner{Tenant: "acme", Merchant: "m2", Customer: "c0"}, "ref-10")
	if err != nil || string(c.Card.Number.Received().Expose()) != "5555 5555 5555 4444" || string(c.Card.Nick.Expose()) != "10" || c.Card.Brand.Present() {
		t.Errorf("card: %v, or another", err)
	}
	if p.rows(t) != before {
		t.Error("the peer's rows have changed")
	}
}

func TestHyperswitchImportGoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	p, v := newPeerVault(t), vaulttest.New(t, nil, nil, "acme")
	state := filepath.Join(t.TempDir(), "state")
	runs, resumed := 0, 0
	for {
		if runs++; runs > 50 {
			t.Fatal("does not come to an end")
		}
		h := HyperswitchImport{DB: p.open(t), Master: p.master, To: &vaultImporter{Service: v.Service, failAfter: 1}, Tenant: "acme", Batch: 6, StateFile: state}
		r, err := h.Run(t.Context())
		if r.Resumed {
			resumed++
		}
		if err == nil {
			// A batch whose answer was lost is found present by the next run.
			if c := r.Cards; c.Imported+c.Present != 29 || c.Expired != 1 || c.Failed != 0 || r.Values.Imported+r.Values.Present != 6 {
				t.Errorf("got %+v", r)
			}
			break
		}
		if !errors.Is(err, errLost) {
			t.Fatal(err)
		}
	}
	if runs < 5 || resumed != runs-1 {
		t.Errorf("%d runs, of them %d went on", runs, resumed)
	}
	// What is done begins anew, and finds what came meanwhile.
	p.card(t, "m1", "c1", "new", peerSeal(t, p.deks["m1"], `{"EncData":"ff"}`), nil)
	h := HyperswitchImport{DB: p.open(t), Master: p.master, To: &vaultImporter{Service: v.Service}, Tenant: "acme", StateFile: state}
	r, err := h.Run(t.Context())
	if err != nil || r.Resumed || r.Cards != (ImportCounts{Imported: 1, Present: 29, Expired: 1}) {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestHyperswitchImportNamesRowsThatItCannotImport(t *testing.T) {
	t.Parallel()
	p, v := newPeerVault(t), vaulttest.New(t, nil, nil, "acme")
	p.exec(t, `UPDATE hyperswitch.locker SET enc_data = set_byte(enc_data, 20, get_byte(enc_data, 20) # 1) WHERE locker_id = 'ref-01'`)
	p.card(t, "m1", "c", "text", []byte("v1:AAAAAAAA"), nil)
	p.card(t, "m9", "c", "stranger", []byte("0123456789012345678901234567890"), nil)
	p.card(t, "m1", "c", "luhn", peerSeal(t, p.deks["m1"], `{"CardData":{"card_number":"4111111111111112"}}`), nil)
	p.card(t, "m1", "c", "other", peerSeal(t, p.deks["m1"], `{"Other":1}`), nil)
	p.exec(t, `INSERT INTO hyperswitch.vault (entity_id, vault_id, encrypted_data) VALUES ('e1', 'bad', $1)`, peerSeal(t, p.deks["e1"], `{"i":`))
	p.exec(t, `INSERT INTO hyperswitch.fingerprint (fingerprint_hash, fingerprint_id) VALUES ('\x01', 'short')`)
	h := HyperswitchImport{DB: p.open(t), Master: p.master, To: &vaultImporter{Service: v.Service}, Tenant: "acme"}
	r, err := h.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []ImportProblem{
		{"locker", "m1 c other", "plaintext is neither CardData nor EncData"},
		{"locker", "m1 c text", "an external key manager has sealed it: have Hyperswitch's vault take it back first, or serve this tenant in mode external"},
		{"locker", "m2 c1 ref-01", "does not open under this key"},
		{"locker", "m9 c stranger", "its merchant has no key in table merchant"},
		{"locker", "m1 c luhn", "card_number: card number invalid"},
		{"vault", "e1 bad", "plaintext is not a JSON value"},
		{"fingerprint", "short", "its hash has 1 bytes, want 64"},
	}
	if !slices.Equal(r.Problems, want) || r.Failed() != int64(len(want)) || r.Cards.Imported != 28 {
		t.Errorf("got %+v", r)
	}

	h.Master = secret.Random(32)
	if r, err = h.Run(t.Context()); err != nil || r.Cards.Imported+r.Cards.Present != 0 || !strings.Contains(r.Problems[0].Reason, "its merchant's key: does not open under this key") {
		t.Errorf("another master key: %+v, %v", r, err)
	}
	h.Master = secret.Bytes{}
	if r, err = h.Run(t.Context()); err != nil || !strings.Contains(r.Problems[0].Reason, "its key is wrapped under a master key, and none was given") {
		t.Errorf("no master key: %+v, %v", r, err)
	}
}

// rowKMS stands for AWS KMS as the peer's mode aws_kms uses it.
type rowKMS struct {
	kmsclient.KMS
	err error
}

func (k rowKMS) Decrypt(_ context.Context, _ kmsclient.Key, blob []byte, encryption map[string]string) (secret.Bytes, error) {
	if k.err != nil {
		return secret.Bytes{}, k.err
	}
	text, ok := strings.CutPrefix(string(blob), "kms of "+encryption["entity_id"]+":")
	if !ok || len(encryption) != 1 {
		return secret.Bytes{}, kmsclient.ErrWrongContext
	}
	return secret.New([]byte(text)), nil
}

func TestHyperswitchImportOpensRowsOfAWSKMS(t *testing.T) {
	t.Parallel()
	p, v := newPeerVault(t), vaulttest.New(t, nil, nil, "acme")
	p.card(t, "m7", "c", "by-kms", []byte(`kms of m7:{"EncData":"aa"}`), nil)
	p.card(t, "m8", "c", "swapped", []byte(`kms of m7:{"EncData":"aa"}`), nil)
	h := HyperswitchImport{DB: p.open(t), Master: p.master, To: &vaultImporter{Service: v.Service}, Tenant: "acme", KMS: rowKMS{}}
	r, err := h.Run(t.Context())
	if err != nil || r.Cards != (ImportCounts{Imported: 30, Expired: 1, Failed: 1}) || r.Problems[0].Row != "m8 c swapped" {
		t.Errorf("got %+v, %v", r, err)
	}
	h.KMS = rowKMS{err: kmsclient.ErrUnreachable}
	if _, err = h.Run(t.Context()); !errors.Is(err, kmsclient.ErrUnreachable) {
		t.Errorf("out of reach: %v", err)
	}
}

func TestHyperswitchImportRefusesAStateOfAnotherImport(t *testing.T) {
	t.Parallel()
	p, v := newPeerVault(t), vaulttest.New(t, nil, nil, "acme", "beta")
	state := filepath.Join(t.TempDir(), "state")
	h := HyperswitchImport{DB: p.open(t), Master: p.master, To: &vaultImporter{Service: v.Service, failAfter: 2}, Tenant: "acme", StateFile: state, Batch: 5}
	if _, err := h.Run(t.Context()); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	// What a run that changes nothing has passed is not there: an import must not go on from it.
	h.Check = true
	if _, err := h.Run(t.Context()); err == nil || err.Error() != `state: `+state+` is of an import that was cut off, not of a run that changes nothing: name another file` {
		t.Errorf("got %v", err)
	}
	h.StateFile, h.To = state+"-check", &vaultImporter{Service: v.Service, failAfter: 2}
	if _, err := h.Run(t.Context()); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	h.Check = false
	if _, err := h.Run(t.Context()); err == nil || err.Error() != `state: `+state+`-check is of a run that changes nothing that was cut off, not of an import: name another file` {
		t.Errorf("got %v", err)
	}
	h.StateFile = state
	h.Tenant = "beta"
	if _, err := h.Run(t.Context()); err == nil || err.Error() != `state: `+state+` is of an import for tenant "acme": name another file` {
		t.Errorf("got %v", err)
	}
}
