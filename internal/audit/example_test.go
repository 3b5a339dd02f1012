package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"cardea/internal/audit"
)

// A commit as a node does it: entries go to a clone of the tree, what is to be
// stored is stored in one transaction, and only then the clone is the tree.
func Example() {
	key, _, err := audit.GenerateSigningKey("cardea/node-1")
	if err != nil {
		panic(err)
	}
	signer, err := audit.NewSigner(key)
	if err != nil {
		panic(err)
	}
	defer signer.Destroy()

	entry := audit.Entry{
		ID: "019a9b3c-5d2e-7f10-8a4b-0123456789ab", Time: time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC), Node: "node-1",
		Tenant: "public", Who: audit.Actor{Type: "tenant", Name: "shop", Auth: "jws", IP: "192.0.2.7"},
		Op: "card.retrieve", PCI: "10.2.1.1", Resource: audit.Resource{Kind: "card", Merchant: "m1", Reference: "order 4111 1111 1111 1111"},
		Outcome: audit.Failed, Result: "not_found",
	}
	sealed, err := entry.Seal() // by the goroutine of the request
	if err != nil {
		panic(err)
	}

	tree := audit.NewTree()
	next := tree.Clone() // by the committer
	batch := []audit.Sealed{sealed}
	for _, s := range batch {
		if err := next.Append(s.Hash); err != nil {
			panic(err)
		}
	}
	segment := audit.Segment{First: tree.Size(), Count: len(batch), Body: audit.EncodeSegment(batch)}
	head := audit.Head{Size: next.Size(), Root: next.Root()}
	tiles := next.TakeTiles()
	// … segment, tiles and head are committed …
	tree = next

	checkpoint, err := signer.Sign(audit.Checkpoint{Size: tree.Size(), Root: tree.Root()})
	if err != nil {
		panic(err)
	}
	c, err := audit.OpenCheckpoint(checkpoint, signer.Verifier())
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s", segment.Body)
	fmt.Println(c.Origin, c.Size, c.Root == head.Root, len(tiles))
	// Output:
	// {"v":1,"id":"019a9b3c-5d2e-7f10-8a4b-0123456789ab","time":"2026-11-22T08:30:00.000000Z","node":"node-1","tenant":"public","who":{"type":"tenant","name":"shop","auth":"jws","ip":"192.0.2.7"},"op":"card.retrieve","pci":"10.2.1.1","res":{"kind":"card","merchant":"m1","reference":"order 4111 11** **** 1111"},"outcome":"failed","result":"not_found"}
	// cardea/node-1 1 true 0
}

// An auditor's check of a bundle that was taken away.
func ExampleVerify() {
	bundle := "cardea audit bundle 1\nlog cardea/node-1 0 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nend 1\n"
	src, err := audit.OpenBundle(bytes.NewReader([]byte(bundle)), int64(len(bundle)))
	if err != nil {
		panic(err)
	}
	report, err := audit.Verify(context.Background(), src, audit.VerifyOptions{
		Verifiers: []string{"cardea/node-1+c4d287ab+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(report.OK(), report.Logs[0].Entries)
	// Output: true 0
}
