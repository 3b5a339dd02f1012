# One line a target; CI calls the same.
GO      ?= go
FUZZTIME ?= 30s
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: build pkcs11 interop test race fips crash fuzz bench bench-large lint vet fmt vuln demo docs-test ci

build: ## the one binary, no cgo
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o bin/cardea ./cmd/cardea

pkcs11: ## the binary with PKCS #11 (cgo), and the tests of it on SoftHSM
	CGO_ENABLED=1 $(GO) vet -tags pkcs11 ./...
	CGO_ENABLED=1 $(GO) build -tags pkcs11 -trimpath -ldflags="-s -w" -o bin/cardea-pkcs11 ./cmd/cardea
	CGO_ENABLED=1 $(GO) test -tags pkcs11 ./internal/hsm/... ./internal/app/...

interop: ## the key service with other people's clients: go-kms-wrapping, Tink, AWS's; Terraform where it is
	cd interop && $(GO) vet ./... && $(GO) test -timeout 20m ./...

test: ## what the README says
	$(GO) test ./...

race: ## the whole suite under the race detector
	CGO_ENABLED=1 $(GO) test -race -short ./...

fips: ## the whole suite with the FIPS 140-3 module on
	GODEBUG=fips140=on $(GO) test ./...

crash: ## SIGKILL under load, many times, on both databases
	$(GO) test ./internal/apptest -run Crash -v -count=1 -timeout 30m -args -crash.rounds=40

fuzz: ## FUZZTIME for each fuzz target
	./.ci/fuzz $(FUZZTIME)

bench: ## the server against its bounds, in one run; prints ratios
	$(GO) run ./bench

bench-large: ## the same at 10 million rows, 100,000 keys and 1 million grants (takes about an hour)
	$(GO) run ./bench -rows 10000000

lint: vet ## golangci-lint at the version in tools/go.mod
	$(LINT) run ./...
	cd interop && $(GO) tool -modfile=../tools/go.mod golangci-lint run ./...

vet:
	$(GO) vet ./...
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }

fmt: ## format as the linter wants it
	$(LINT) fmt ./...

vuln: ## known vulnerabilities; does not fail where the database cannot be reached
	-$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

demo: ## the main job end to end
	$(GO) run ./cmd/cardea demo

ci: ## everything that CI does
	bash .ci/run
