package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"cardea/internal/hyperswitch"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/store/lockerdb"
	"cardea/internal/vault"
)

// Importer is where records go: a vault that runs.
type Importer interface {
	Import(ctx context.Context, rs []vault.ImportRecord, check bool) ([]vault.ImportResult, error)
	ImportFingerprints(ctx context.Context, tenant string, fs []vault.ImportFingerprint, check bool) ([]vault.ImportResult, error)
}

// HyperswitchImport moves what a tenant has in Hyperswitch's card vault into a
// running Cardea: every card_reference, vault_id and fingerprint_id stays. It may be
// stopped at any time and goes on where it was; rows that came meanwhile are found
// by running it again, before the switch and once after.
type HyperswitchImport struct {
	DB     *lockerdb.DB
	Master secret.Bytes // the tenant's master key there; not needed for rows that a KMS encrypted
	// KMS and Key open rows of the peer's mode aws_kms.
	KMS    kmsclient.KMS
	Key    kmsclient.Key
	To     Importer
	Tenant string
	Batch  int // rows read and sent at once; default 500
	// Check changes nothing: it opens every row and says what an import would do, or
	// after one whether all is there.
	Check bool
	// StateFile is where it keeps how far it is; empty begins at the beginning.
	StateFile string
	Progress  func(done, total int64)

	keys  map[string]secret.Bytes // of merchants and entities, by name
	state importState
	done  int64
	total int64
}

// Run imports or checks everything. An error ends it, and the next run goes on from
// there; rows that cannot be imported are in the report.
func (h *HyperswitchImport) Run(ctx context.Context) (*ImportReport, error) {
	if h.Batch == 0 {
		h.Batch = 500
	}
	h.keys = map[string]secret.Bytes{}
	defer func() {
		for _, k := range h.keys {
			k.Destroy()
		}
	}()
	if err := h.load(); err != nil {
		return nil, err
	}
	counts, err := h.DB.Counts(ctx)
	if err != nil {
		return nil, err
	}
	h.state.Report.Rows = counts
	h.total = counts.Cards + counts.Values + counts.Fingerprints
	h.done = h.state.Report.Cards.all() + h.state.Report.Values.all() + h.state.Report.Fingerprints.all()
	for _, step := range []func(context.Context) (bool, error){h.cards, h.values, h.fingerprints}[h.state.Step:] {
		for more := true; more; {
			if more, err = step(ctx); err != nil {
				return &h.state.Report, err
			}
			if !more {
				h.state.Step++
			}
			if err := h.save(); err != nil {
				return &h.state.Report, err
			}
			h.show()
		}
	}
	return &h.state.Report, nil
}

func (h *HyperswitchImport) show() {
	if h.Progress != nil {
		h.Progress(h.done, h.total)
	}
}

// key is the key of a merchant or entity, or absent if it has none.
func (h *HyperswitchImport) key(ctx context.Context, holder string) (secret.Bytes, error) {
	if k, ok := h.keys[holder]; ok {
		return k, nil
	}
	m, err := h.DB.Merchant(ctx, holder)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", errSource, err)
	}
	if m == nil {
		return secret.Bytes{}, nil
	}
	if !h.Master.Present() {
		return secret.Bytes{}, errors.New("its key is wrapped under a master key, and none was given")
	}
	k, err := hyperswitch.UnwrapKey(h.Master, m.Key)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("its merchant's key: %w", err)
	}
	if len(h.keys) >= 1000 { // rows come in the order of merchants
		for name, old := range h.keys {
			old.Destroy()
			delete(h.keys, name)
		}
	}
	h.keys[holder] = k
	return k, nil
}

// open decrypts a row.
func (h *HyperswitchImport) open(ctx context.Context, holder string, blob []byte) (secret.Bytes, error) {
	if hyperswitch.Elsewhere(blob) {
		return secret.Bytes{}, errors.New("an external key manager has sealed it: have Hyperswitch's vault take it back first, or serve this tenant in mode external")
	}
	key, err := h.key(ctx, holder)
	if err != nil {
		return secret.Bytes{}, err
	}
	if key.Present() {
		p, err := hyperswitch.Open(key, blob)
		if err == nil || h.KMS == nil {
			return p, err
		}
	}
	if h.KMS == nil {
		return secret.Bytes{}, errors.New("its merchant has no key in table merchant")
	}
	return h.KMS.Decrypt(ctx, h.Key, blob, map[string]string{"entity_id": holder})
}

// errSource is an error of the peer's database, which is about no row.
var errSource = errors.New("the database cannot be read")

// fatal tells errors that end the import from those of one row.
func fatal(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, errSource) || errors.Is(err, kmsclient.ErrUnreachable) || errors.Is(err, kmsclient.ErrThrottled) || errors.Is(err, kmsclient.ErrDenied)
}

func micros(t time.Time) vault.Micros { return vault.MicrosOf(t) }

func expiry(t *time.Time) vault.Micros {
	if t == nil {
		return 0
	}
	return micros(*t)
}

// item is a row on its way.
type item struct {
	row    string
	record vault.ImportRecord
	wipe   func()
}

// send has items imported and counts what became of them.
func (h *HyperswitchImport) send(ctx context.Context, c *ImportCounts, table string, items []item) error {
	records := make([]vault.ImportRecord, len(items))
	for i := range items {
		records[i] = items[i].record
		defer items[i].wipe()
	}
	if len(records) == 0 {
		return nil
	}
	results, err := h.To.Import(ctx, records, h.Check)
	if err != nil {
		return err
	}
	return h.count(c, table, results, func(i int) string { return items[i].row })
}

func (h *HyperswitchImport) count(c *ImportCounts, table string, results []vault.ImportResult, row func(int) string) error {
	for i, r := range results {
		if r.Err == nil {
			c.add(r.Imported)
			continue
		}
		if transient(r.Err) {
			return fmt.Errorf("%s %s: %w", table, row(i), r.Err)
		}
		h.problem(c, table, row(i), r.Err)
	}
	return nil
}

// transient reports whether a later run may have better luck with the same row.
func transient(err error) bool {
	for _, is := range []error{vault.ErrUnavailable, vault.ErrLocked, vault.ErrKeyUnavailable, vault.ErrKeyThrottled, vault.ErrUnknownTenant, vault.ErrSuspended, vault.ErrDenied} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// cards imports the next rows of table locker.
func (h *HyperswitchImport) cards(ctx context.Context) (more bool, err error) {
	rows, err := h.DB.Cards(ctx, h.state.Cards, h.Batch)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	c := &h.state.Report.Cards
	var items []item
	for _, r := range rows {
		row := r.Merchant + " " + r.Customer + " " + r.Reference
		it, err := h.card(ctx, r)
		if err != nil {
			if fatal(ctx, err) {
				return false, err
			}
			h.problem(c, "locker", row, err)
			continue
		}
		it.row = row
		items = append(items, it)
	}
	if err := h.send(ctx, c, "locker", items); err != nil {
		return false, err
	}
	h.state.Cards = rows[len(rows)-1].CardKey
	h.done += int64(len(rows))
	return true, nil
}

func (h *HyperswitchImport) card(ctx context.Context, r lockerdb.Card) (item, error) {
	plaintext, err := h.open(ctx, r.Merchant, r.Blob)
	if err != nil {
		return item{}, err
	}
	defer plaintext.Destroy()
	p, err := hyperswitch.ParsePayload(plaintext)
	if err != nil {
		return item{}, err
	}
	it := item{wipe: p.Destroy, record: vault.ImportRecord{
		Tenant: h.Tenant, Holder: r.Merchant, Space: vault.SpaceV1, Customer: r.Customer, Reference: r.Reference,
		Data: p.Data, CreatedAt: micros(r.CreatedAt), ExpiresAt: expiry(r.ExpiresAt),
	}}
	if c := p.Card; c != nil {
		it.record.Card = &vault.CardInput{Number: c.Number, Name: c.Name, ExpMonth: c.ExpMonth, ExpYear: c.ExpYear, Brand: c.Brand, ISIN: c.ISIN, Nick: c.Nick}
	}
	return it, nil
}

// values imports the next rows of table vault.
func (h *HyperswitchImport) values(ctx context.Context) (more bool, err error) {
	rows, err := h.DB.Values(ctx, h.state.Values, h.Batch)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	c := &h.state.Report.Values
	var items []item
	for _, r := range rows {
		row := r.Entity + " " + r.ID
		plaintext, err := h.open(ctx, r.Entity, r.Blob)
		if err == nil {
			err = hyperswitch.CheckValue(plaintext)
		}
		if err != nil {
			plaintext.Destroy()
			if fatal(ctx, err) {
				return false, err
			}
			h.problem(c, "vault", row, err)
			continue
		}
		items = append(items, item{row: row, wipe: plaintext.Destroy, record: vault.ImportRecord{
			Tenant: h.Tenant, Holder: r.Entity, Space: vault.SpaceV2, Reference: r.ID, Data: plaintext,
			CreatedAt: micros(r.CreatedAt), ExpiresAt: expiry(r.ExpiresAt),
		}})
	}
	if err := h.send(ctx, c, "vault", items); err != nil {
		return false, err
	}
	h.state.Values = rows[len(rows)-1].ValueKey
	h.done += int64(len(rows))
	return true, nil
}

// fingerprints imports the next rows of table fingerprint.
func (h *HyperswitchImport) fingerprints(ctx context.Context) (more bool, err error) {
	after, err := hex.DecodeString(h.state.Fingerprint)
	if err != nil {
		return false, fmt.Errorf("state: fingerprint: %w", err)
	}
	rows, err := h.DB.Fingerprints(ctx, after, h.Batch)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	c := &h.state.Report.Fingerprints
	var (
		fs    []vault.ImportFingerprint
		names []string
	)
	for _, r := range rows {
		f := vault.ImportFingerprint{ID: r.ID}
		if copy(f.Hash[:], r.Hash) != len(f.Hash) || len(r.Hash) != len(f.Hash) {
			h.problem(c, "fingerprint", r.ID, fmt.Errorf("its hash has %d bytes, want %d", len(r.Hash), len(f.Hash)))
			continue
		}
		fs, names = append(fs, f), append(names, r.ID)
	}
	if len(fs) > 0 {
		results, err := h.To.ImportFingerprints(ctx, h.Tenant, fs, h.Check)
		if err == nil {
			err = h.count(c, "fingerprint", results, func(i int) string { return names[i] })
		}
		if err != nil {
			return false, err
		}
	}
	h.state.Fingerprint = hex.EncodeToString(rows[len(rows)-1].Hash)
	h.done += int64(len(rows))
	return true, nil
}
