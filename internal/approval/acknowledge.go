package approval

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"cardea/internal/notekey"
)

// acknowledgementHeader is the first line of an acknowledgement; its version is that
// of the text.
const acknowledgementHeader = "cardea key custodian acknowledgement v1"

// maxAcknowledged is how long an acknowledgement lasts: a year, and time to renew it.
const maxAcknowledged = 400 * 24 * time.Hour

// Responsibilities are what a key custodian acknowledges (PCI DSS 3.7.8).
const Responsibilities = `I hold a part of cryptographic key material that protects cardholder data. I understand and accept
my responsibilities as a key custodian: I keep my part secret and under my control, apart from every
other part; I use it only in ceremonies and unlocking that were approved; I do not copy it, and give
it to nobody but my named successor under dual control; I report at once if it may be known to others,
lost or misused; I return or destroy it when I leave this role; and I follow the key-management
policies and procedures, which I have read.`

// Acknowledgement is a custodian's, once signed.
type Acknowledgement struct {
	Name    string
	Signed  time.Time
	Expires time.Time
}

func (a *Acknowledgement) text() string {
	return acknowledgementHeader + "\nname: " + a.Name + "\nsigned: " + a.Signed.UTC().Format(time.RFC3339) +
		"\nexpires: " + a.Expires.UTC().Format(time.RFC3339) + "\n" + Responsibilities + "\n"
}

// Acknowledge signs the responsibilities for a time of at most 400 days: PCI DSS
// 3.7.8 wants them acknowledged, and reviewed with the register.
func Acknowledge(s *notekey.Signer, now time.Time, life time.Duration) ([]byte, error) {
	if life <= 0 || life > maxAcknowledged {
		return nil, errors.New("life: must be above 0 and at most 400 days")
	}
	now = now.UTC().Truncate(time.Second)
	a := Acknowledgement{Name: s.Name(), Signed: now, Expires: now.Add(life).Truncate(time.Second)}
	return note.Sign(&note.Note{Text: a.text()}, s)
}

// acknowledged verifies a person's acknowledgement.
func (p *Person) acknowledged() (*Acknowledgement, error) {
	if p.Acknowledgement == "" {
		return nil, errors.New("the register has no acknowledgement: 'cardea approval acknowledge' makes it")
	}
	n, err := notekey.Open([]byte(strings.TrimLeft(p.Acknowledgement, "\n")), note.VerifierList(p.verifier))
	if err != nil {
		return nil, fmt.Errorf("the acknowledgement is not signed by the person's key: %w", err)
	}
	a := &Acknowledgement{Name: p.Name}
	lines := strings.SplitN(n.Text, "\n", 5)
	if len(lines) == 5 {
		a.Signed, err = time.Parse("signed: "+time.RFC3339, lines[2])
		if err == nil {
			a.Expires, err = time.Parse("expires: "+time.RFC3339, lines[3])
		}
	}
	if len(lines) != 5 || err != nil || a.text() != n.Text {
		return nil, errors.New("the acknowledgement is of another text or version")
	}
	if life := a.Expires.Sub(a.Signed); life <= 0 || life > maxAcknowledged {
		return nil, errors.New("the acknowledgement is for more than 400 days")
	}
	return a, nil
}
