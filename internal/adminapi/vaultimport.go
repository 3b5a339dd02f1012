package adminapi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// importPath is the operation that imports records.
const importPath = "/vault/Import"

// maxImport is the longest request of importPath in bytes; one of maxImportText
// bytes of plaintext fits, whatever has to be escaped in it.
const (
	maxImport     = 32 << 20
	maxImportText = 4 << 20
	maxImportRows = 1000
)

// importRequest are records of another vault.
type importRequest struct {
	Tenant       string              `json:"tenant"`
	Check        bool                `json:"check"`
	Records      []importRecord      `json:"records,omitempty"`
	Fingerprints []importFingerprint `json:"fingerprints,omitempty"`
}

type importRecord struct {
	Space     vault.Space  `json:"space"`
	Holder    string       `json:"holder"`
	Customer  string       `json:"customer,omitempty"`
	Reference string       `json:"reference"`
	CreatedAt vault.Micros `json:"created_at"`
	ExpiresAt vault.Micros `json:"expires_at,omitempty"`
	Card      *importCard  `json:"card,omitempty"`
	Data      secret.Bytes `json:"data,omitzero"`
}

type importCard struct {
	Number   secret.Bytes `json:"number,omitzero"`
	Name     secret.Bytes `json:"name,omitzero"`
	ExpMonth secret.Bytes `json:"exp_month,omitzero"`
	ExpYear  secret.Bytes `json:"exp_year,omitzero"`
	Brand    secret.Bytes `json:"brand,omitzero"`
	ISIN     secret.Bytes `json:"isin,omitzero"`
	Nick     secret.Bytes `json:"nick,omitzero"`
}

type importFingerprint struct {
	Hash string `json:"hash"` // hex
	ID   string `json:"id"`
}

// importResult is what became of a record or fingerprint.
type importResult struct {
	Imported vault.Imported `json:"imported,omitempty"`
	Code     string         `json:"code,omitempty"`
	Message  string         `json:"message,omitempty"`
}

// importCodes are the errors of a record that an importer branches on. Their texts
// go with them.
var importCodes = []struct {
	err  error
	code string
}{
	{vault.ErrConflict, "Conflict"},
	{vault.ErrCorrupt, "Corrupt"},
	{vault.ErrUnavailable, "ServiceUnavailable"},
	{vault.ErrLocked, "Locked"},
	{vault.ErrShredded, "Shredded"}, // also of a key that is destroyed: another try is of no use
	{vault.ErrKeyUnavailable, "KeyUnavailable"},
	{vault.ErrKeyThrottled, "KeyThrottled"},
	{vault.ErrUnknownTenant, "UnknownTenant"},
	{vault.ErrSuspended, "Suspended"},
	{vault.ErrDenied, "AccessDenied"},
}

// importError is an error of a record as the client has it.
type importError struct {
	message string
	is      error
}

func (e *importError) Error() string { return e.message }
func (e *importError) Unwrap() error { return e.is }

func importResults(rs []vault.ImportResult) []importResult {
	out := make([]importResult, len(rs))
	for i, r := range rs {
		out[i].Imported = r.Imported
		if r.Err == nil {
			continue
		}
		out[i].Code, out[i].Message = "ServiceFailure", "the record failed inside the vault: see its log"
		if v, is := errors.AsType[*vault.ValidationError](r.Err); is {
			out[i].Code, out[i].Message = "ValidationError", v.Error()
		}
		for _, c := range importCodes {
			if errors.Is(r.Err, c.err) {
				out[i].Code, out[i].Message = c.code, r.Err.Error()
				break
			}
		}
	}
	return out
}

// serveImport imports what a request has.
func serveImport(ctx context.Context, x *exchange, body io.Reader) (any, error) {
	in := &importRequest{}
	defer in.destroy()
	if err := decode(body, in); err != nil {
		return nil, err
	}
	if n := len(in.Records) + len(in.Fingerprints); n > maxImportRows {
		return nil, &Error{Code: "ValidationError", Message: fmt.Sprintf("The request has %d records, at most %d are imported at once.", n, maxImportRows)}
	}
	ctx = vault.WithRequestID(ctx, x.id)
	fs := make([]vault.ImportFingerprint, len(in.Fingerprints))
	for i, f := range in.Fingerprints {
		fs[i].ID = f.ID
		if b, err := hex.DecodeString(f.Hash); err != nil || copy(fs[i].Hash[:], b) != len(b) || len(b) != len(fs[i].Hash) {
			return nil, &Error{Code: "ValidationError", Message: "A fingerprint's hash is not 64 bytes in hexadecimal digits."}
		}
	}
	out := &List[importResult]{Items: importResults(x.server.o.Vault.Import(ctx, x.principal(), in.records(), in.Check))}
	out.Items = append(out.Items, importResults(x.server.o.Vault.ImportFingerprints(ctx, x.principal(), in.Tenant, fs, in.Check))...)
	return out, nil
}

func (in *importRequest) records() []vault.ImportRecord {
	out := make([]vault.ImportRecord, len(in.Records))
	for i, r := range in.Records {
		out[i] = vault.ImportRecord{
			Tenant: in.Tenant, Holder: r.Holder, Space: r.Space, Customer: r.Customer, Reference: r.Reference,
			Data: r.Data, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
		}
		if c := r.Card; c != nil {
			out[i].Card = &vault.CardInput{Number: c.Number, Name: c.Name, ExpMonth: c.ExpMonth, ExpYear: c.ExpYear, Brand: c.Brand, ISIN: c.ISIN, Nick: c.Nick}
		}
	}
	return out
}

func (in *importRequest) destroy() {
	for _, r := range in.Records {
		r.Data.Destroy()
		if c := r.Card; c != nil {
			for _, f := range c.fields() {
				f.Destroy()
			}
		}
	}
}

func (c *importCard) fields() []secret.Bytes {
	return []secret.Bytes{c.Number, c.Name, c.ExpMonth, c.ExpYear, c.Brand, c.ISIN, c.Nick}
}

// Import has a running vault import records, all of one tenant; see
// vault.Service.Import. The error is that of the request, not of a record.
func (c *Client) Import(ctx context.Context, rs []vault.ImportRecord, check bool) ([]vault.ImportResult, error) {
	var results []vault.ImportResult
	for len(rs) > 0 {
		in := &importRequest{Tenant: rs[0].Tenant, Check: check}
		size := 0
		for len(in.Records) < len(rs) && len(in.Records) < maxImportRows {
			w, n := wire(&rs[len(in.Records)])
			if size += n; size > maxImportText && len(in.Records) > 0 {
				break
			}
			in.Records = append(in.Records, w)
		}
		some, err := c.imported(ctx, in, len(in.Records))
		if err != nil {
			return nil, err
		}
		results, rs = append(results, some...), rs[len(in.Records):]
	}
	return results, nil
}

// wire is a record on its way, and how long it is.
func wire(r *vault.ImportRecord) (importRecord, int) {
	w := importRecord{
		Space: r.Space, Holder: r.Holder, Customer: r.Customer, Reference: r.Reference, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, Data: r.Data,
	}
	n := r.Data.Len()
	if c := r.Card; c != nil {
		w.Card = &importCard{Number: c.Number, Name: c.Name, ExpMonth: c.ExpMonth, ExpYear: c.ExpYear, Brand: c.Brand, ISIN: c.ISIN, Nick: c.Nick}
		for _, f := range w.Card.fields() {
			n += f.Len()
		}
	}
	return w, n
}

// ImportFingerprints has a running vault import fingerprints; see
// vault.Service.ImportFingerprints.
func (c *Client) ImportFingerprints(ctx context.Context, tenant string, fs []vault.ImportFingerprint, check bool) ([]vault.ImportResult, error) {
	var results []vault.ImportResult
	for len(fs) > 0 {
		in := &importRequest{Tenant: tenant, Check: check}
		for _, f := range fs[:min(len(fs), maxImportRows)] {
			in.Fingerprints = append(in.Fingerprints, importFingerprint{hex.EncodeToString(f.Hash[:]), f.ID})
		}
		some, err := c.imported(ctx, in, len(in.Fingerprints))
		if err != nil {
			return nil, err
		}
		results, fs = append(results, some...), fs[len(in.Fingerprints):]
	}
	return results, nil
}

func (c *Client) imported(ctx context.Context, in *importRequest, want int) ([]vault.ImportResult, error) {
	var out List[importResult]
	if err := c.Call(ctx, importPath[1:], in, &out); err != nil {
		return nil, err
	}
	if len(out.Items) != want {
		return nil, fmt.Errorf("the vault answered for %d records of %d", len(out.Items), want)
	}
	results := make([]vault.ImportResult, want)
	for i, r := range out.Items {
		results[i].Imported = r.Imported
		if r.Code == "" {
			continue
		}
		e := &importError{message: r.Message}
		for _, known := range importCodes {
			if r.Code == known.code {
				e.is = known.err
			}
		}
		results[i].Err = e
	}
	return results, nil
}
