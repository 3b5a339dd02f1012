package apptest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cardea/internal/secret"
	"cardea/internal/store/storetest"
)

// peerRows is how many cards the peer's vault has in these tests, and as many
// fingerprints; a tenth of it as values.
const peerRows = 400

// peerSeal is the encryption of Hyperswitch's vault.
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

// peerVault makes a database of Hyperswitch's vault and returns the flags that
// import it, with its master key under two custodians' halves.
func peerVault(t *testing.T, in *installation) []string {
	t.Helper()
	url := storetest.Postgres(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.PgConn().Exec(t.Context(), storetest.LockerSchema).ReadAll(); err != nil {
		t.Fatal(err)
	}
	custodianKey, master, dek := secret.Random(32), secret.Random(32), secret.Random(32)
	batch := &pgx.Batch{}
	for _, m := range []string{"m1", "m2", "e1"} {
		batch.Queue(`INSERT INTO hyperswitch.merchant (merchant_id, enc_key) VALUES ($1, $2)`, m, peerSeal(t, master, string(dek.Expose())))
	}
	numbers := []string{"4111111111111111", "5555555555554444", "378282246310005"}
	for i := range peerRows {
		m := fmt.Sprintf("m%d", i%2+1)
		batch.Queue(`INSERT INTO hyperswitch.locker (locker_id, merchant_id, customer_id, enc_data, hash_id) VALUES ($1, $2, $3, $4, $1)`,
			fmt.Sprintf("ref-%05d", i), m, fmt.Sprintf("c%d", i), peerSeal(t, dek, fmt.Sprintf(`{"CardData":{"card_number":%q,"name_on_card":null,"card_exp_month":"03","card_exp_year":"2030","card_brand":null,"card_isin":null,"nick_name":"%d"}}`, numbers[i%3], i)))
		batch.Queue(`INSERT INTO hyperswitch.fingerprint (fingerprint_hash, fingerprint_id) VALUES ($1, $2)`,
			append(make([]byte, 60), byte(i>>24), byte(i>>16), byte(i>>8), byte(i)), fmt.Sprintf("fingerprint%09d", i))
		if i%10 == 0 {
			batch.Queue(`INSERT INTO hyperswitch.vault (entity_id, vault_id, encrypted_data) VALUES ('e1', $1, $2)`, fmt.Sprint(i), peerSeal(t, dek, fmt.Sprintf(`{"i":%d}`, i)))
		}
	}
	if err := conn.SendBatch(t.Context(), batch).Close(); err != nil {
		t.Fatal(err)
	}
	k := hex.EncodeToString(custodianKey.Expose())
	for name, text := range map[string]string{
		"peer.url": url, "peer.key1": k[:32], "peer.key2": k[32:] + "\n", "peer.master": hex.EncodeToString(peerSeal(t, custodianKey, string(master.Expose()))),
	} {
		write(t, filepath.Join(in.dir, name), text)
	}
	file := func(name string) string { return filepath.Join(in.dir, name) }
	return []string{
		"migrate", "hyperswitch", "--config", in.config, "--tenant", tenant, "--schema", "hyperswitch", "--dsn-file", file("peer.url"),
		"--master-key-file", file("peer.master"), "--key1-file", file("peer.key1"), "--key2-file", file("peer.key2"), "--batch", "50", "--output", "json",
	}
}

// counts are what a report says of a table.
type counts struct{ Imported, Present, Absent, Expired, Failed int }

type importReport struct {
	Cards, Values, Fingerprints counts
	Resumed                     bool
}

func (in *installation) imports(t *testing.T, args ...string) importReport {
	t.Helper()
	var r importReport
	if err := json.Unmarshal(in.run(t, args...), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// The importer is killed again and again, and now and then the vault; in the end
// everything is there once, and the peer's vault was not touched.
func TestCrashOfAnImportFromHyperswitch(t *testing.T) {
	t.Parallel()
	in := install(t, "sqlite")
	flags := peerVault(t, in)
	n := in.start(t)

	if r := in.imports(t, append(flags, "--dry-run")...); r.Cards != (counts{Absent: peerRows}) || r.Values != (counts{Absent: peerRows / 10}) || r.Fingerprints != (counts{Absent: peerRows}) {
		t.Fatalf("dry run: %+v", r)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	killed, latest := 0, 140*time.Millisecond
	for round := 0; killed < 2**rounds; round++ {
		if round == 200 {
			t.Fatal("the importer ends before it can be killed")
		}
		cmd := exec.Command(path, flags...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(latest)) // the moment of the kill, not a wait for anything
		if round%3 == 1 {
			n.kill(t)
			n = in.start(t)
		}
		cmd.Process.Kill()
		cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			killed++
		} else {
			latest = latest * 3 / 4 // it was quicker: on a fast machine the kill must come sooner
		}
	}
	r := in.imports(t, flags...)
	if r.Cards.Failed+r.Values.Failed+r.Fingerprints.Failed != 0 || r.Cards.Imported+r.Cards.Present != peerRows {
		t.Errorf("last run: %+v", r)
	}
	if r := in.imports(t, append(flags, "--verify")...); r.Cards != (counts{Present: peerRows}) || r.Values != (counts{Present: peerRows / 10}) || r.Fingerprints != (counts{Present: peerRows}) {
		t.Errorf("verify: %+v", r)
	}
	n.stop(t)
	in.run(t, "audit", "verify", "--config", in.config)
}
