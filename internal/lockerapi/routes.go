package lockerapi

import (
	"net/http"

	"cardea/internal/vault"
)

// access is how a route finds out who asks.
type access uint8

const (
	accessNone      access = iota // nobody needs to be known, no tenant either
	accessOpen                    // a tenant must be named and open; who asks is not known
	accessData                    // the tenant's envelope, certificate or loopback
	accessCustodian               // a custodian's token; the tenant must be locked
	accessStatus                  // a custodian's token; the tenant may be either
)

// route is a row of the route table.
type route struct {
	method string
	path   string
	op     *vault.Operation // nil: not an operation of the vault
	access access
	// handle does the work: it decodes what it needs and appends the body of the
	// 200 answer to x.out. Its error is a *fault, or comes from the service.
	handle func(a *API, x *exchange) error

	limitDelete bool // the tenant's delete limit applies
	plainAnswer bool // the client may ask for an answer without an envelope
}

// wrapped reports whether the route's bodies are in the tenant's envelope.
func (r *route) wrapped() bool { return r.access == accessData }

// statusPrefix is the one path with a variable part, the tenant.
const statusPrefix = "/custodian/status/"

// routes is the route table.
func routes() []*route {
	post, get := http.MethodPost, http.MethodGet
	var all []*route
	for _, mount := range [...]string{"/data", "/cards"} {
		all = append(all,
			&route{method: post, path: mount + "/add", op: vault.OpCardStore, access: accessData, handle: (*API).addCard},
			&route{method: post, path: mount + "/retrieve", op: vault.OpCardRetrieve, access: accessData, handle: (*API).retrieveCard},
			&route{method: post, path: mount + "/delete", op: vault.OpCardDelete, access: accessData, handle: (*API).deleteCard, limitDelete: true},
			&route{method: post, path: mount + "/fingerprint", op: vault.OpFingerprint, access: accessData, handle: (*API).fingerprint, plainAnswer: true},
		)
	}
	return append(all,
		&route{method: post, path: "/api/v2/vault/add", op: vault.OpDataStore, access: accessData, handle: (*API).addData},
		&route{method: post, path: "/api/v2/vault/retrieve", op: vault.OpDataRetrieve, access: accessData, handle: (*API).retrieveData},
		&route{method: post, path: "/api/v2/vault/delete", op: vault.OpDataDelete, access: accessData, handle: (*API).deleteData},
		&route{method: post, path: "/api/v2/vault/fingerprint", op: vault.OpFingerprint, access: accessData, handle: (*API).fingerprint, plainAnswer: true},
		&route{method: post, path: "/entity", op: vault.OpHolderCreate, access: accessData, handle: (*API).createEntity},

		&route{method: post, path: "/custodian/key1", op: vault.OpCustodianPart, access: accessCustodian, handle: (*API).submitKey1},
		&route{method: post, path: "/custodian/key2", op: vault.OpCustodianPart, access: accessCustodian, handle: (*API).submitKey2},
		&route{method: post, path: "/custodian/share", op: vault.OpCustodianPart, access: accessCustodian, handle: (*API).submitShare},
		&route{method: post, path: "/custodian/decrypt", op: vault.OpCustodianUnlock, access: accessCustodian, handle: (*API).unlock},
		&route{method: get, path: "/custodian/status", op: vault.OpCustodianStatus, access: accessStatus, handle: (*API).statusAll},
		&route{method: get, path: statusPrefix, op: vault.OpCustodianStatus, access: accessStatus, handle: (*API).statusOne},

		&route{method: get, path: "/health", access: accessNone, handle: (*API).health},
		&route{method: get, path: "/health/diagnostics", op: vault.OpDiagnose, access: accessOpen, handle: (*API).diagnose},
	)
}

func routeTable() map[string]*route {
	m := map[string]*route{}
	for _, r := range routes() {
		m[r.path] = r
	}
	return m
}

// allow is the value of the Allow header.
func (r *route) allow() string {
	if r.method == http.MethodGet {
		return "GET,HEAD"
	}
	return r.method
}

func (r *route) allows(method string) bool {
	return method == r.method || (r.method == http.MethodGet && method == http.MethodHead)
}
