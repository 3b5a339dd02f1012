package lockerapi

import (
	"fmt"
	"net/url"
	"strings"

	"cardea/internal/vault"
)

func (a *API) addCard(x *exchange) error {
	var req addCard
	defer req.destroy()
	if f := x.decode(a, &req); f != nil {
		return f
	}
	if !req.hasCard && !req.data.Present() {
		return bodyFault("one of `card` and `enc_card_data` must be there")
	}
	store := vault.StoreCardRequest{
		Owner:     vault.Owner{Tenant: x.tenant.name, Merchant: req.merchant, Customer: req.customer},
		Reference: req.reference, Data: req.data, TTL: req.ttl,
	}
	if req.hasCard {
		store.Card = &req.card.in
	}
	res, err := a.service.StoreCard(x.ctx, x.who, store)
	if err != nil {
		return err
	}
	return encodeStored(x.out, res)
}

func (a *API) retrieveCard(x *exchange) error {
	var req nameCard
	if f := x.decode(a, &req); f != nil {
		return f
	}
	card, err := a.service.RetrieveCard(x.ctx, x.who, req.owner(x), req.reference)
	if err != nil {
		return err
	}
	defer card.Destroy()
	return encodeCard(x.out, card)
}

func (a *API) deleteCard(x *exchange) error {
	var req nameCard
	if f := x.decode(a, &req); f != nil {
		return f
	}
	if err := a.service.DeleteCard(x.ctx, x.who, req.owner(x), req.reference); err != nil {
		return err
	}
	x.out.text(`{"status":"Ok"}`)
	return nil
}

func (r *nameCard) owner(x *exchange) vault.Owner {
	return vault.Owner{Tenant: x.tenant.name, Merchant: r.merchant, Customer: r.customer}
}

func (a *API) fingerprint(x *exchange) error {
	wanted, f := fingerprintID(x.r.Header["X-Fingerprint-Id"])
	if f != nil {
		return f
	}
	var req fingerprintBody
	defer req.destroy()
	if f := x.decode(a, &req); f != nil {
		return f
	}
	id, err := a.service.Fingerprint(x.ctx, x.who, vault.FingerprintRequest{
		Tenant: x.tenant.name, Data: req.data, Key: req.key, Wanted: wanted,
	})
	if err != nil {
		return err
	}
	return encodeMember(x.out, "fingerprint_id", id)
}

// fingerprintID is the id that the client asks for. A value that is not text
// counts as absent.
func fingerprintID(values []string) (string, *fault) {
	if len(values) == 0 || !isText(values[0]) {
		return "", nil
	}
	if !vault.ValidFingerprintID(values[0]) {
		return "", refuse(invalid("x-fingerprint-id must be exactly 20 alphanumeric characters"))
	}
	return values[0], nil
}

func (a *API) addData(x *exchange) error {
	upsert, f := mode(x.r.URL.RawQuery)
	if f != nil {
		return f
	}
	var req addData
	defer func() { req.data.Destroy() }()
	if f := x.decode(a, &req); f != nil {
		return f
	}
	d := vault.Datum{Tenant: x.tenant.name, Entity: req.entity, VaultID: req.vaultID}
	if err := a.service.StoreData(x.ctx, x.who, d, req.data, req.ttl, upsert); err != nil {
		return err
	}
	return encodeNames(x.out, d)
}

// mode reads the query of v2 add: other parameters are ignored.
func mode(query string) (upsert bool, f *fault) {
	if query == "" {
		return false, nil
	}
	seen := false
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(key); err != nil || k != "mode" {
			continue
		}
		if seen {
			return false, queryFault("duplicate field `mode`")
		}
		seen = true
		switch v, err := url.QueryUnescape(value); {
		case err == nil && v == "insert":
		case err == nil && v == "upsert":
			upsert = true
		default:
			return false, queryFault("mode: unknown variant, expected `insert` or `upsert`")
		}
	}
	return upsert, nil
}

func (a *API) retrieveData(x *exchange) error {
	var req nameData
	if f := x.decode(a, &req); f != nil {
		return f
	}
	value, err := a.service.RetrieveData(x.ctx, x.who, req.datum(x))
	if err != nil {
		return err
	}
	defer value.Destroy()
	if value.Len() == 0 {
		return fmt.Errorf("%w: empty value", vault.ErrCorrupt)
	}
	x.out.text(`{"data":`)
	x.out.bytes(value.Expose())
	x.out.text("}")
	return nil
}

func (a *API) deleteData(x *exchange) error {
	var req nameData
	if f := x.decode(a, &req); f != nil {
		return f
	}
	d := req.datum(x)
	if err := a.service.DeleteData(x.ctx, x.who, d); err != nil {
		return err
	}
	return encodeNames(x.out, d)
}

func (r *nameData) datum(x *exchange) vault.Datum {
	return vault.Datum{Tenant: x.tenant.name, Entity: r.entity, VaultID: r.vaultID}
}

func encodeNames(b *buffer, d vault.Datum) error {
	b.text(`{"entity_id":`)
	if err := quote(b, d.Entity); err != nil {
		return err
	}
	b.text(`,"vault_id":`)
	if err := quote(b, d.VaultID); err != nil {
		return err
	}
	b.text("}")
	return nil
}

// entityTime is how the peer writes a creation time: nine decimals, always UTC.
const entityTime = "2006-01-02T15:04:05.000000000Z"

func (a *API) createEntity(x *exchange) error {
	var req entityBody
	if f := x.decode(a, &req); f != nil {
		return f
	}
	if strings.TrimSpace(req.entity) == "" {
		return refuse(invalid("entity_id must not be empty"))
	}
	h, err := a.service.ProvisionHolder(x.ctx, x.who, x.tenant.name, req.entity)
	if err != nil {
		return err
	}
	x.out.text(`{"entity_id":`)
	if err := quote(x.out, h.Name); err != nil {
		return err
	}
	x.out.text(`,"created_at":"`)
	x.out.text(h.CreatedAt.Time().Format(entityTime))
	x.out.text(`"}`)
	return nil
}
