package lockerapi

import (
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// addCard is the body of v1 add.
type addCard struct {
	merchant, customer, reference string
	card                          cardBody
	hasCard                       bool
	data                          secret.Bytes
	ttl                           *uint64
}

var addCardSpec = spec{
	names:    []string{"merchant_id", "merchant_customer_id", "requestor_card_reference", "card", "enc_card_data", "ttl"},
	required: 1<<0 | 1<<1,
}

func (*addCard) spec() *spec { return &addCardSpec }

func (r *addCard) member(d *decoder, i int) *fault {
	switch i {
	case 0:
		return d.id("merchant_id", &r.merchant)
	case 1:
		return d.id("merchant_customer_id", &r.customer)
	case 2:
		return d.nullableID("requestor_card_reference", &r.reference)
	case 3:
		if d.json.PeekKind() == 'n' {
			return d.skip()
		}
		r.hasCard = true
		return d.object(&r.card)
	case 4:
		return d.nullableSecret("enc_card_data", &r.data)
	}
	return d.ttl(&r.ttl)
}

func (r *addCard) destroy() {
	c := &r.card.in
	for _, f := range [...]secret.Bytes{c.Number, c.Name, c.ExpMonth, c.ExpYear, c.Brand, c.ISIN, c.Nick, r.data} {
		f.Destroy()
	}
}

// cardBody is a card in v1 add.
type cardBody struct{ in vault.CardInput }

var cardSpec = spec{
	path: "card.",
	names: []string{
		"card_number", "name_on_card", "card_exp_month", "card_exp_year",
		"card_brand", "card_isin", "nick_name",
	},
	required: 1 << 0,
}

func (*cardBody) spec() *spec { return &cardSpec }

func (c *cardBody) member(d *decoder, i int) *fault {
	in := &c.in
	switch i {
	case 0:
		return d.secret("card.card_number", &in.Number)
	case 1:
		return d.nullableSecret("card.name_on_card", &in.Name)
	case 2:
		return d.nullableSecret("card.card_exp_month", &in.ExpMonth)
	case 3:
		return d.nullableSecret("card.card_exp_year", &in.ExpYear)
	case 4:
		return d.nullableSecret("card.card_brand", &in.Brand)
	case 5:
		return d.nullableSecret("card.card_isin", &in.ISIN)
	}
	return d.nullableSecret("card.nick_name", &in.Nick)
}

// nameCard is the body of v1 retrieve and delete.
type nameCard struct{ merchant, customer, reference string }

var nameCardSpec = spec{
	names:    []string{"merchant_id", "merchant_customer_id", "card_reference"},
	required: 1<<0 | 1<<1 | 1<<2,
}

func (*nameCard) spec() *spec { return &nameCardSpec }

func (r *nameCard) member(d *decoder, i int) *fault {
	return d.id(nameCardSpec.names[i], [...]*string{&r.merchant, &r.customer, &r.reference}[i])
}

// fingerprintBody is the body of the fingerprint calls.
type fingerprintBody struct{ data, key secret.Bytes }

var fingerprintSpec = spec{names: []string{"data", "key"}, required: 1<<0 | 1<<1}

func (*fingerprintBody) spec() *spec { return &fingerprintSpec }

func (r *fingerprintBody) member(d *decoder, i int) *fault {
	return d.secret(fingerprintSpec.names[i], [...]*secret.Bytes{&r.data, &r.key}[i])
}

func (r *fingerprintBody) destroy() {
	r.data.Destroy()
	r.key.Destroy()
}

// addData is the body of v2 add.
type addData struct {
	entity, vaultID string
	data            secret.Bytes
	ttl             *uint64
}

var addDataSpec = spec{names: []string{"entity_id", "vault_id", "data", "ttl"}, required: 1<<0 | 1<<1 | 1<<2}

func (*addData) spec() *spec { return &addDataSpec }

func (r *addData) member(d *decoder, i int) *fault {
	switch i {
	case 0:
		return d.id("entity_id", &r.entity)
	case 1:
		return d.id("vault_id", &r.vaultID)
	case 2:
		return d.any(&r.data)
	}
	return d.ttl(&r.ttl)
}

// nameData is the body of v2 retrieve and delete.
type nameData struct{ entity, vaultID string }

var nameDataSpec = spec{names: []string{"entity_id", "vault_id"}, required: 1<<0 | 1<<1}

func (*nameData) spec() *spec { return &nameDataSpec }

func (r *nameData) member(d *decoder, i int) *fault {
	return d.id(nameDataSpec.names[i], [...]*string{&r.entity, &r.vaultID}[i])
}

// entityBody is the body of POST /entity.
type entityBody struct{ entity string }

var entitySpec = spec{names: []string{"entity_id"}, required: 1}

func (*entityBody) spec() *spec { return &entitySpec }

func (r *entityBody) member(d *decoder, _ int) *fault { return d.id("entity_id", &r.entity) }

// partBody is the body of the custodian calls: one text under one name.
type partBody struct {
	of   *spec
	part secret.Bytes
}

var (
	keySpec   = spec{names: []string{"key"}, required: 1}
	shareSpec = spec{names: []string{"share"}, required: 1}
)

func (r *partBody) spec() *spec { return r.of }

func (r *partBody) member(d *decoder, _ int) *fault { return d.secret(r.of.names[0], &r.part) }
