package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/vault"
)

// demoCustomers is how many customers the story's second merchant has.
const demoCustomers = 100

// noMasterKey shows that the vault has no key of its own: it asks for some by HTTP.
func (d *demo) noMasterKey(ctx context.Context) error {
	d.say("Look where the vault's keys come from: the key service, over the API of AWS KMS.")
	sealed, err := d.app.Vault().HasMasterKey(ctx, devTenant)
	if err != nil {
		return err
	}
	if sealed || d.app.mode != config.ModeKMSEnvelope {
		return errors.New("the vault has a master key of its own")
	}
	res, err := d.get(ctx, d.app.OpsURL()+"/readyz")
	if err != nil {
		return fmt.Errorf("it is not ready: %w", err)
	}
	if !strings.Contains(res, `"name":"tenant_dev","state":"working"`) {
		return fmt.Errorf("its tenant is not ready: %s", res)
	}
	d.show("it has no master key and no custodians, and its KMS key is usable")
	return nil
}

// oneCall shows that a merchant's key is asked for once, however much is done.
func (d *demo) oneCall(ctx context.Context) error {
	d.say("Store and retrieve the cards of %d customers of another merchant.", demoCustomers)
	before, err := d.kmsCalls(ctx, "")
	if err != nil {
		return err
	}
	for i := range demoCustomers {
		who := fmt.Sprintf(`"merchant_id":"market","merchant_customer_id":"customer-%d"`, i)
		a, err := d.post(ctx, "/cards/add", `{`+who+`,"card":{"card_number":"`+testNumber+`"}}`, 200)
		if err != nil {
			return err
		}
		if err := d.readMarket(ctx, who, a.Payload.Reference); err != nil {
			return err
		}
		d.market = append(d.market, [2]string{who, a.Payload.Reference})
	}
	after, err := d.kmsCalls(ctx, "")
	if err != nil {
		return err
	}
	if n := after - before; n != 1 {
		return fmt.Errorf("%d operations took %d calls to the key service, want 1", 2*demoCustomers, n)
	}
	d.show("%d operations, 1 call to the key service: it made the merchant's key", 2*demoCustomers)
	return nil
}

func (d *demo) readMarket(ctx context.Context, who, reference string) error {
	got, err := d.post(ctx, "/cards/retrieve", `{`+who+`,"card_reference":"`+reference+`"}`, 200)
	if err == nil && got.Payload.Card.Number != testNumber {
		err = errors.New("the card that came back is another")
	}
	return err
}

// newKeys is what the vault asks the key service for to make a key.
const newKeys = "GenerateDataKey"

// rotate replaces all keys of records while cards are read. What counts of the calls to
// the key service are those that make keys: that keys were replaced makes the vault
// forget what it has of them within a second, and the next read opens one again.
func (d *demo) rotate(ctx context.Context) error {
	d.say("Rotate the keys: every record is encrypted anew under new ones, while reads go on.")
	admin, who := d.app.Vault().KeyAdmin(), iam.Principal{Type: iam.TypeOperator, Name: "dev", Auth: "internal", Actions: []string{"*"}, Merchants: []string{"*"}}
	records, replaced, err := d.recordKeys(ctx, who)
	if err != nil {
		return err
	}
	if records < demoCustomers || len(replaced) < 2 {
		return fmt.Errorf("%d records under %d keys before the rotation", records, len(replaced))
	}
	before, err := d.kmsCalls(ctx, newKeys)
	if err != nil {
		return err
	}
	// What is replaced could be retired only when all nodes must know, in a minute.
	j, err := admin.Rotate(ctx, who, vault.JobRequest{Tenant: devTenant, Verify: true, Keep: true})
	if err != nil {
		return err
	}
	reads := 0
	for j.State != vault.JobDone {
		m := d.market[reads%len(d.market)]
		if err := d.readMarket(ctx, m[0], m[1]); err != nil {
			return fmt.Errorf("read during the rotation: %w", err)
		}
		reads++
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		if j, err = admin.Job(ctx, who, j.ID.String()); err != nil {
			return err
		}
		if j.State == vault.JobFailed || j.Bad > 0 {
			return fmt.Errorf("the rotation is %s, %d records do not open: %s", j.State, j.Bad, j.Error)
		}
	}
	after, err := d.kmsCalls(ctx, newKeys)
	if err != nil {
		return err
	}
	now, keys, err := d.recordKeys(ctx, who)
	if err != nil {
		return err
	}
	for id, v := range replaced {
		if keys[id] <= v {
			return fmt.Errorf("key %s is still at version %d", id, v)
		}
	}
	if now != records || j.Moved != records || j.Verified < records {
		return fmt.Errorf("%d records before, %d after; %d moved, %d verified", records, now, j.Moved, j.Verified)
	}
	for _, m := range d.market {
		if err := d.readMarket(ctx, m[0], m[1]); err != nil {
			return err
		}
	}
	if n := after - before; n != len(replaced) {
		return fmt.Errorf("%d new keys took %d calls to the key service", len(replaced), n)
	}
	d.show("%d keys replaced, with a call to the key service each; %d records moved, all verified; %d cards read meanwhile", len(replaced), j.Moved, reads)
	return nil
}

// recordKeys counts the records, which are all under keys in use and wrapped by the
// key service, and gives the version of each of those keys.
func (d *demo) recordKeys(ctx context.Context, who iam.Principal) (records int64, versions map[string]uint32, err error) {
	keys, err := d.app.Vault().KeyAdmin().Keys(ctx, who, vault.KeyQuery{Tenant: devTenant, Count: true})
	if err != nil {
		return 0, nil, err
	}
	versions = map[string]uint32{}
	for _, k := range keys {
		switch {
		case k.Mode != config.ModeKMSEnvelope:
			return 0, nil, fmt.Errorf("key %s is in mode %s", k.ID, k.Mode)
		case k.Purpose != vault.PurposeRecord, k.State != vault.KeyActive && k.Records == 0:
		case k.State != vault.KeyActive:
			return 0, nil, fmt.Errorf("%d records are under version %d of key %s, which is %s", k.Records, k.Version, k.ID, k.State)
		default:
			records += k.Records
			versions[k.ID] = k.Version
		}
	}
	return records, versions, nil
}

// kmsCalls is how many requests the key service has answered, as it counts them
// itself: of one operation, or of all if it is empty.
func (d *demo) kmsCalls(ctx context.Context, operation string) (n int, err error) {
	text, err := d.get(ctx, d.app.OpsURL()+"/metrics")
	if err != nil {
		return 0, err
	}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		name, value, ok := strings.Cut(s.Text(), "} ")
		if !ok || !strings.HasPrefix(name, "cardea_kms_requests_total{") || operation != "" && !strings.Contains(name, fmt.Sprintf("operation=%q", operation)) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		n += int(v)
	}
	if n == 0 {
		return 0, errors.New("the key service has not been asked at all")
	}
	return n, nil
}

func (d *demo) get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := d.http.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d: %s", req.URL.Path, res.StatusCode, text)
	}
	return string(text), err
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
