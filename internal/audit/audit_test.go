package audit

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTime is when the first entry of a test was written.
var testTime = time.Date(2026, 11, 22, 8, 30, 0, 1000, time.UTC)

// testEntry is an entry with every member.
func testEntry() Entry {
	return Entry{
		Version: EntryVersion, ID: "019a9b3c-5d2e-7f10-8a4b-0123456789ab", Time: testTime,
		Node: "node-1", RequestID: "019a9b3c-5d2e-7aaa-9a4b-ba9876543210", Tenant: "public",
		Who: Actor{Type: "tenant", Name: "hyperswitch", Auth: "jws", IP: "192.0.2.7"},
		Op:  "card.store", PCI: "10.2.1.1",
		Resource: Resource{
			Kind: "card", Merchant: "merchant_42", Customer: "cus_0001", Reference: "019a9b3c-5d2e-7bbb-8a4b-abcdef012345",
			MaskedPAN: "411111******1111", Key: "019a9b3c-5d2e-7ccc-8a4b-abcdef012345", KeyVersion: 3,
		},
		Outcome: Allowed, Result: "stored", Detail: "first of its kind",
	}
}

// minimalEntry has only the members that every entry has.
func minimalEntry() Entry {
	return Entry{
		ID: "019a9b3c-5d2e-7f10-8a4b-0123456789ab", Time: testTime, Node: "n",
		Who: Actor{Type: "system", Auth: "internal"}, Op: "log.open", Outcome: Allowed, Result: "done",
	}
}

func mustSeal(t testing.TB, e Entry) Sealed {
	t.Helper()
	s, err := e.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
